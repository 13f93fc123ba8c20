"""Laws of the methods on the model of two numbers: a step is the gradient of the formula, stages and budgets."""

import math

import pytest
import torch
from PIL import Image
from two_numbers import A0, A1, AIMED, B0, B1, GREY, GREYS, KEPT, SIZE, A, B, P, Q, kept_and_aimed, run, toy

from unlearnkit.builtin.losses import targets
from unlearnkit.builtin.methods import baselines as methods
from unlearnkit.builtin.methods import trade_offs
from unlearnkit.data import seeded
from unlearnkit.plugins import discover, kind_of
from unlearnkit.recipe.sections import MethodSection
from unlearnkit.solver.step import Taken, update


def moved(section, **given):
    """Return the direction of the first step: what SGD with rate 1 takes away."""
    descent, _ = toy(section, **given)
    before = descent.flat.theta.detach().clone()
    assert descent.advance()
    descent.step()
    return (before - descent.flat.theta.detach()).tolist()


def own(x, told=None):
    """Return the gradient of (abx − told)²: (d/da, d/db)."""
    outer = 2 * (A * B * x - (x if told is None else told)) * x
    return outer * B, outer * A


def unit(gradient):
    return [entry / math.hypot(*gradient) for entry in gradient]


def output(x, wanted):
    return own(x, wanted)


def add(*terms):
    return [sum(weight * gradient[place] for weight, gradient in terms) for place in (0, 1)]


AHEAD = kept_and_aimed(A - 0.5 * KEPT)[1]
RETRAINED = targets.Retrained(kind="retrained", weights="there")
PLAIN = targets.MeanFilled(kind="mean-filled")
FORMULAS = {
    "composite": (
        methods.Composite(kind="composite", alpha=0.3, target=GREYS),
        [KEPT + 0.3 * AIMED],
    ),
    "max-loss": (methods.MaxLoss(kind="max-loss", alpha=0.3), add((1, own(Q)), (-0.3, own(P)))),
    "noisy-label": (
        methods.NoisyLabel(kind="noisy-label", alpha=0.3, target=GREYS),
        add((1, own(Q)), (0.3, own(P, GREY))),
    ),
    # |d own/da| is b times the rest and |d own/db| a times it, so that of two weights the smaller one moves.
    "salun": (
        methods.SalUn(kind="salun", alpha=0.3, target=GREYS),
        [add((1, own(Q)), (0.3, own(P, GREY)))[0], 0],
    ),
    "retain-label": (
        methods.RetainLabel(kind="retain-label", alpha=0.3),
        add((1, output(Q, A0 * B0 * Q)), (0.3, output(P, A0 * B0 * Q))),
    ),
    "retain-label retrained": (
        methods.RetainLabel(kind="retain-label", alpha=0.3, target=RETRAINED),
        add((1, output(Q, A0 * B0 * Q)), (0.3, output(P, A1 * B1 * P))),
    ),
    "noisy-label retrained": (
        methods.NoisyLabel(kind="noisy-label", alpha=0.3, target=RETRAINED),
        add((1, own(Q)), (0.3, own(P, A1 * B1 * P))),
    ),
    # Features of constant images do not deviate, so that the random embedding is their mean.
    "random-encoder": (
        methods.RandomEncoder(kind="random-encoder", alpha=0.3),
        [KEPT + 0.3 * 2 * (A - A0) * P**2],
    ),
    # Weights that are drawn towards fresh ones are both ½ there.
    "undo": (methods.Undo(kind="undo", alpha=0.5, budget=1.0), [(0.25 - A0 * B0) * Q**2] * 2),
    "retain-fine-tuning": (methods.RetainFineTuning(kind="retain-fine-tuning"), add((1, own(Q)))),
    "neggrad-plus": (methods.NegGradPlus(kind="neggrad-plus", beta=0.8), add((0.8, own(Q)), (-0.2, own(P)))),
    "decoupling": (methods.Decoupling(kind="decoupling", distance=9.0, ascent=0.5), add((-1, own(P)))),
    # Along one number the gradients are parallel, and of the forget gradient only its sign is left.
    "cup": (
        trade_offs.Cup(kind="cup", intensity=0.3, target=GREYS),
        [math.sin(0.3 * math.pi / 2) * abs(KEPT + AIMED) / 2 * math.copysign(1, AIMED)],
    ),
    # The first step of EUPMU is at λ = 0.
    "eupmu": (trade_offs.Eupmu(kind="eupmu", target=GREYS), [AIMED]),
    # Both own gradients point along (b, a), so that the quota takes all there is.
    "hamu": (trade_offs.Hamu(kind="hamu", quota=0.01), add((-0.01 / math.hypot(*own(P)), unit(own(P))))),
    # d/da of h(a − α f'(a)) is h'(a − α f'(a)) (1 − α f''), and f'' = 2Q².
    "lur": (
        trade_offs.Lur(kind="lur", lookahead=0.5, alpha=0.3, target=GREYS),
        [KEPT + 0.3 * AHEAD * (1 - 0.5 * 2 * Q**2)],
    ),
    "munba": (
        trade_offs.Munba(kind="munba", target=PLAIN),
        add((2**-0.5, unit(own(Q))), (2**-0.5, unit(own(P)))),
    ),
    "siss": (
        trade_offs.Siss(kind="siss", share=0.2),
        add((1, own(Q)), (-0.2 * math.hypot(*own(Q)), unit(own(P)))),
    ),
    # No bargain where the gradients are opposed.
    "munba opposed": (trade_offs.Munba(kind="munba", target=GREYS), add((1, own(Q)), (0.1, own(P, GREY)))),
    # For the same reason 0 is between them.
    "mgda": (trade_offs.Mgda(kind="mgda", target=GREYS), [0, 0]),
    # Ascent and descent are opposed along one line, and nothing is left of either.
    "restricted-gradient": (trade_offs.RestrictedGradient(kind="restricted-gradient", alpha=3.0), [0, 0]),
    "pcgrad": (trade_offs.PcGrad(kind="pcgrad", target=GREYS), [KEPT + AIMED]),
    # Against the mean there is only less of it: the mean less c times its length.
    "cagrad": (
        trade_offs.CaGrad(kind="cagrad", c=0.4, target=GREYS),
        add((0.3, own(Q)), (0.3, own(P, GREY))),
    ),
    "lagrangian": (trade_offs.Lagrangian(kind="lagrangian", epsilon=0.5, target=GREYS), [KEPT]),
}


@pytest.mark.parametrize(("section", "gradient"), FORMULAS.values(), ids=FORMULAS)
def test_a_step_is_the_formulas_gradient(section, gradient):
    assert moved(section) == pytest.approx(gradient, rel=1e-4, abs=1e-6)


def test_every_builtin_method_has_a_law():
    known = {section.kind for section, _ in FORMULAS.values()} | {"retrain", "regun"}
    assert known == {kind_of(cls) for cls in discover(installed=False).classes(MethodSection)}


def test_regun_draws_outputs_to_those_for_held_out_images(tmp_path):
    (tmp_path / "unseen").mkdir()
    Image.new("RGB", (SIZE, SIZE), (51, 51, 51)).save(tmp_path / "unseen" / "one.png")
    target = targets.HeldOut(kind="held-out", root=str(tmp_path), count=3)
    expected = add((1, own(Q)), (0.3, output(P, A0 * B0 * 0.2)))
    assert moved(methods.ReGUn(kind="regun", alpha=0.3, target=target)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("a", "b", "moves"), [(0.9, 1.3, 0), (1.3, 0.9, 1)])
def test_salun_leaves_the_bits_of_all_but_the_salient_weights(a, b, moves):
    section = methods.SalUn(kind="salun", target=GREYS)
    descent, images = toy(section, a=a, b=b, steps=20, lr=1e-2)
    start = descent.flat.theta.tolist()
    assert images["forget"].reads >= 8  # the whole set, before the first step
    end = run(descent)
    assert [one != other for one, other in zip(start, end, strict=True)] == [moves == 0, moves == 1]


def test_salun_on_all_weights_is_noisy_label():
    ends = [
        run(toy(section, steps=20, lr=1e-2)[0])
        for section in (
            methods.SalUn(kind="salun", salient=1.0, target=GREYS),
            methods.NoisyLabel(kind="noisy-label", target=GREYS),
        )
    ]
    assert ends[0] == ends[1]


def test_a_salient_step_is_that_of_an_optimiser_of_these_weights_alone():
    """Weight decay, momentum and all: the others keep their bits."""
    generator = seeded("salient")
    theta, mask = torch.randn(50, generator=generator), torch.rand(50, generator=generator) < 0.5
    whole, part = torch.nn.Parameter(theta.clone()), torch.nn.Parameter(theta[mask].clone())
    both = [torch.optim.AdamW([one], lr=0.1, weight_decay=0.5, fused=True) for one in (whole, part)]
    for _ in range(5):
        gradient, zero = torch.randn(50, generator=generator), torch.zeros(())
        update(whole, both[0], Taken(zero, zero, zero, gradient.clone()), 0.1, mask)
        update(part, both[1], Taken(zero, zero, zero, gradient[mask]), 0.1)
    assert torch.equal(whole[~mask], theta[~mask])
    torch.testing.assert_close(whole[mask], part)


def test_composite_with_alpha_0_leaves_the_reference_where_it_is():
    descent, _ = toy(methods.Composite(kind="composite", alpha=0.0), a=A0, b=B0, steps=20)
    start = descent.flat.theta.tolist()
    assert run(descent) == start


@pytest.mark.parametrize("cls", [methods.RetainLabel, methods.RandomEncoder])
def test_a_batch_of_forget_images_alone_changes_the_model(cls):
    """In the released baselines the forget term is weighted on retain images, so that it never does."""
    descent, images = toy(cls(kind=kind_of(cls)), a=A0, b=B0, alone=True, varied=True)
    start = descent.flat.theta.tolist()
    assert max(abs(new - old) for new, old in zip(run(descent), start, strict=True)) > 1e-3
    assert images["retain"].reads == 0


def test_the_ascent_ends_at_its_distance_and_retention_follows():
    section = methods.Decoupling(kind="decoupling", distance=0.05, ascent=0.9)
    descent, images = toy(section, a=A0, b=B0, steps=1000, lr=0.1)
    while descent.advance() and descent.place == 0:
        distance = abs(math.prod(descent.flat.theta.tolist()) - A0 * B0) * P
        assert distance < 0.05 + 1e-6
        descent.step()
    assert descent.ends == [{"steps": descent.done, "stopped": True}]
    assert 0 < descent.done < 900
    assert abs(math.prod(descent.flat.theta.tolist()) - A0 * B0) * P >= 0.05 - 1e-6
    before = images["forget"].reads
    a, b = run(descent)
    assert images["forget"].reads == before
    assert a * b == pytest.approx(1, abs=1e-2)  # where own(retain) has its minimum


def test_an_ascent_that_does_not_reach_its_distance_ends_with_its_part_of_the_budget():
    descent, _ = toy(methods.Decoupling(kind="decoupling", distance=50.0, ascent=0.25), steps=40, lr=1e-3)
    run(descent)
    assert descent.ends == [{"steps": 10, "stopped": False}, {"steps": 30, "stopped": False}]


def test_the_weight_noise_is_that_of_the_gaussian_mechanism():
    section = methods.Decoupling(kind="decoupling", sensitivity=2.0, epsilon=4.0, delta=1e-5)
    assert section.sigma == pytest.approx(0.5 * math.sqrt(2 * math.log(125000)))
    assert methods.Decoupling(kind="decoupling").sigma == 0


@pytest.mark.parametrize("cls", [methods.Retrain, methods.RetainFineTuning])
def test_no_step_reads_a_forget_image(cls):
    descent, images = toy(cls(kind=kind_of(cls)), steps=20)
    run(descent)
    assert images["forget"].reads == 0
    assert images["retain"].reads == 80


def test_retraining_starts_from_fresh_weights():
    descent, _ = toy(methods.Retrain(kind="retrain", budget=2.0), steps=20)
    assert descent.flat.theta.tolist() == [0.5, 0.5]
    assert descent.steps == 40


@pytest.mark.parametrize("stop", [3, 10, 14])
def test_a_problem_of_two_stages_continues_bit_for_bit(stop):
    section = methods.Decoupling(kind="decoupling", distance=50.0, ascent=0.5)
    whole, first, second = (toy(section, steps=20, lr=1e-2)[0] for _ in range(3))
    expected = run(whole)
    run(first, stop)
    tensors, facts = first.state()
    second.load({name: value.clone() for name, value in tensors.items()}, facts)
    assert run(second) == expected
    assert (second.history, second.ends) == (whole.history, whole.ends)


def test_a_swept_method_is_one_method_for_each_value():
    found = methods.Decoupling(kind="decoupling", distance=[0.1, 0.2], epsilon=[1.0, 2.0]).each()
    assert [(one.distance, one.epsilon) for one in found] == [(0.1, 1.0), (0.1, 2.0), (0.2, 1.0), (0.2, 2.0)]
    assert methods.Composite(kind="composite").each() == [methods.Composite(kind="composite")]


@pytest.mark.parametrize("stop", [3, 10])
@pytest.mark.parametrize("kind", ["eupmu", "lagrangian", "lur", "salun"])
def test_a_rule_with_a_state_continues_bit_for_bit(kind, stop):
    section = FORMULAS[kind][0]
    whole, first, second = (toy(section, steps=20, lr=1e-2)[0] for _ in range(3))
    expected = run(whole)
    run(first, stop)
    tensors, facts = first.state()
    second.load({name: value.clone() for name, value in tensors.items()}, facts)
    assert run(second) == expected
    assert second.history == whole.history
