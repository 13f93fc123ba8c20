"""Laws of the methods, on a model of two numbers: E(x) = a·x, D(e) = b·e, its own loss (D(E(x)) − x)².

All forget images are P everywhere and all retain images Q, and the task hides nothing, so that every loss is a
polynomial in a and b whose gradient is written down here.
"""

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from unlearnkit.builtin import methods, mixtures, targets, trade_offs
from unlearnkit.builtin.distances import ToReference
from unlearnkit.contracts import ModelAdapter, Setting, View, standard_normal
from unlearnkit.control import Facts, direction, gradient_norm
from unlearnkit.data import seeded
from unlearnkit.errors import UserError
from unlearnkit.flat import Flat
from unlearnkit.phases import Descent, Problem, legs_of
from unlearnkit.recipe.recipe import SGD, Training
from unlearnkit.recipe.sections import MethodSection
from unlearnkit.sides import Side

P, Q, GREY = 0.2, 0.6, 0.5
A0, B0 = 1.1, 0.8
A, B = 0.9, 1.3
A1, B1 = 0.7, 0.9
SIZE = 4


class Two(ModelAdapter):
    image_size = SIZE

    def __init__(self, a=A0, b=B0):
        self.module = nn.ModuleDict({"e": nn.Linear(1, 1, bias=False), "d": nn.Linear(1, 1, bias=False)})
        self.encoder = self.module["e"]
        self.module["e"].weight.data.fill_(a)
        self.module["d"].weight.data.fill_(b)

    def embed(self, view):
        return view.images * self.module["e"].weight[0, 0]

    def decode(self, embedding, view):
        return embedding * self.module["d"].weight[0, 0]

    def own_loss(self, images, view):
        return (self.decode(self.embed(view), view) - images).square().mean()


class Nothing:
    """A task that hides nothing."""

    fixed = True

    def degrade(self, images, generator):
        return View(images, torch.zeros(len(images), 1, SIZE, SIZE, dtype=torch.bool))


class Counted:
    """Images of one value, and how often one was read."""

    device = torch.device("cpu")

    def __init__(self, value):
        self.value, self.reads = value, 0

    def __len__(self):
        return 8

    def __getitem__(self, rows):
        self.reads += len(rows)
        if self.value is None:
            return torch.randint(256, (len(rows), 3, SIZE, SIZE), generator=seeded("varied"), dtype=torch.uint8)
        return torch.full((len(rows), 3, SIZE, SIZE), round(self.value * 255), dtype=torch.uint8)

    def expect(self, batches):
        return nullcontext()


def toy(section, *, a=A, b=B, steps=1, lr=1.0, alone=False, varied=False):
    """Return the problem of a method that starts at (a, b), with the reference at (A0, B0).

    `alone` leaves the retain loss out, `varied` makes the forget images noise.
    """
    reference, student = Two(), Two(a, b)
    reference.sees_truth = section.kind == "siss"
    reference.module.requires_grad_(False)
    setting = Setting(
        reference, Nothing(), standard_normal(), lambda: seeded("toy"),
        lambda label, count, generator: torch.full((count, 3, SIZE, SIZE), Q), lambda weights: Two(A1, B1), Path(),
    )  # fmt: skip
    recipe_losses = ToReference("embedding", reference), ToReference("embedding", reference)
    training = Training(optimizer=SGD(kind="sgd", lr=lr), steps=steps, batch_size=4, decay=0.0, checks=1)
    images = {"forget": Counted(None if varied else P), "retain": Counted(Q)}
    sides = {
        name: Side(name, loss, images[name], Nothing(), student, 0, training)
        for name, loss in zip(images, recipe_losses, strict=True)
    }
    part = section.part or "encoder"
    whole = Flat([student.module["e"].weight, student.module["d"].weight])
    flat = whole.first(1 if part == "encoder" else 2).alone()
    stages = section.build(setting, *recipe_losses)
    if alone:
        stages = [replace(stage, retain=None, rule=None) for stage in stages]
    legs = legs_of(stages, sides, steps, lambda stage, number, theta: theta * 0 + 0.5 if stage.fresh else theta)
    psi = lambda loss, epsilon, norm, objective: gradient_norm(norm, 1, 2)  # noqa: E731
    problem = Problem("toy", section.kind, None, "toy", "retain", psi, part=part)
    descent = Descent(problem, legs, flat, sides["forget"], sides["retain"], training)
    descent.begin(flat.theta.detach().clone())
    return descent, images


def run(descent, steps=None):
    while (steps is None or descent.done < steps) and descent.advance():
        descent.step()
    return descent.flat.theta.detach().tolist()


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


def kept_and_aimed(a):
    """Return the encoder's two gradients at a, of the distance to the reference and to its embedding of grey."""
    return 2 * (a - A0) * Q**2, 2 * (a * P - A0 * GREY) * P


def output(x, wanted):
    return own(x, wanted)


def add(*terms):
    return [sum(weight * gradient[place] for weight, gradient in terms) for place in (0, 1)]


GREYS = targets.Noise(kind="noise", distribution="constant")
KEPT, AIMED = kept_and_aimed(A)
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
    "retain-fine-tuning": (methods.RetainFineTuning(kind="retain-fine-tuning"), add((1, own(Q)))),
    "neggrad-plus": (methods.NegGradPlus(kind="neggrad-plus", beta=0.8), add((0.8, own(Q)), (-0.2, own(P)))),
    "decoupling": (methods.Decoupling(kind="decoupling", distance=9.0, ascent=0.5), add((-1, own(P)))),
    "cup": (trade_offs.Cup(kind="cup", intensity=0.3, target=GREYS), [KEPT + AIMED]),
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
    known = {section.kind for section, _ in FORMULAS.values()} | {"retrain"}
    builtin = [*methods.register_methods(), *trade_offs.register_methods()]
    assert known == {methods_kind(cls) for cls in builtin}


def methods_kind(cls):
    return cls.model_fields["kind"].annotation.__args__[0]


def test_composite_with_alpha_0_leaves_the_reference_where_it_is():
    descent, _ = toy(methods.Composite(kind="composite", alpha=0.0), a=A0, b=B0, steps=20)
    start = descent.flat.theta.tolist()
    assert run(descent) == start


@pytest.mark.parametrize("cls", [methods.RetainLabel, methods.RandomEncoder])
def test_a_batch_of_forget_images_alone_changes_the_model(cls):
    """In the released baselines the forget term is weighted on retain images, so that it never does."""
    descent, images = toy(cls(kind=methods_kind(cls)), a=A0, b=B0, alone=True, varied=True)
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
    descent, images = toy(cls(kind=methods_kind(cls)), steps=20)
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


def batch(count=3, size=16):
    images = torch.rand(count, 3, size, size, generator=seeded("batch"))
    return View(images, torch.zeros(count, 1, size, size, dtype=torch.bool), images)


def substitute(section, base=Path()):
    def drawn(label, count, generator):
        if label == "absent":
            raise UserError("no such class", 3)
        return torch.full((count, 3, 16, 16), Q)

    adapter = Two()
    adapter.image_size = 16
    setting = Setting(
        adapter, Nothing(), standard_normal(), lambda: seeded("toy"), drawn, lambda weights: adapter, base
    )
    return section.build(setting, *([None, None] if isinstance(section, MethodSection) else []))


@pytest.mark.parametrize("distribution", ["images", "identity", "batch", "uniform", "constant"])
def test_noise_targets_have_the_moments_they_name(distribution):
    made = substitute(targets.Noise(kind="noise", distribution=distribution)).images(batch(40), seeded("n"))
    mean, std = {
        "images": (0, 1), "identity": (0, 1), "uniform": (0.5, 12**-0.5), "constant": (GREY, 0),
        "batch": (0.5, 0.26),  # clamping takes a little of 12^−½
    }[distribution]  # fmt: skip
    assert float(made.mean()) == pytest.approx(mean, abs=0.02)
    assert float(made.std()) == pytest.approx(std, abs=0.02)


def test_a_blur_keeps_the_mean_and_a_wide_one_is_nearly_flat():
    view = batch()
    narrow, wide = (substitute(targets.Blurred(kind="blurred", sigma=s)).images(view, seeded()) for s in (0.5, 40.0))
    assert view.truth.std() > narrow.std() > 5 * wide.std()
    filled = substitute(targets.MeanFilled(kind="mean-filled")).images(view, seeded())
    torch.testing.assert_close(filled, view.truth.mean((2, 3), keepdim=True).expand_as(view.truth))


def test_surrogates_are_retain_images_or_a_file(tmp_path):
    from PIL import Image

    made = substitute(targets.SurrogateClass(kind="surrogate-class")).images(batch(), seeded())
    assert made.unique().tolist() == pytest.approx([Q])
    with pytest.raises(UserError, match="no such class"):
        substitute(targets.SurrogateClass(kind="surrogate-class", name="absent"))
    Image.new("RGB", (20, 20), (51, 102, 153)).save(tmp_path / "one.png")
    made = substitute(targets.SurrogateImage(kind="surrogate-image", path="one.png"), tmp_path).images(
        batch(), seeded()
    )
    assert made[1, :, 3, 3].tolist() == pytest.approx([0.2, 0.4, 0.6])
    with pytest.raises(UserError, match=r"none\.png: not a readable image"):
        substitute(targets.SurrogateImage(kind="surrogate-image", path="none.png"), tmp_path)


def gradients(seed, size=4):
    """Return two random vectors, ∇f and ∇h."""
    return torch.randn(2, size, generator=seeded("gradients", seed), dtype=torch.float64) * torch.tensor([[1.0], [3.0]])


def mixed(rule, f, h):
    """Return the direction that a rule makes of two gradients."""
    facts = Facts(
        torch.tensor(1.0).double(), None, lambda *given: torch.zeros(()),
        squared_norm=h @ h, product=f @ h, objective_norm=f @ f,
    )  # fmt: skip
    weight, lam = rule.weights(facts)
    return direction(f.clone(), h, lam, weight)


RANDOM = pytest.mark.parametrize("seed", range(20))


@RANDOM
def test_cup_protects_one_of_the_two_losses_at_each_end(seed):
    f, h = gradients(seed)
    assert mixed(mixtures.Pivot(1.0), f, h) @ h >= h @ h * (1 - 1e-9)
    assert mixed(mixtures.Pivot(0.0), f, h) @ f >= f @ f * (1 - 1e-9)
    if f @ h >= 0:
        torch.testing.assert_close(mixed(mixtures.Pivot(0.3), f, h), f + h)


@pytest.mark.parametrize("tau", [0.2, 0.5, 0.7])
def test_cup_ends_where_the_weighted_gradients_cancel(tau):
    f, _ = gradients(0)
    torch.testing.assert_close(mixed(mixtures.Pivot(tau), f, -f * (1 - tau) / tau), torch.zeros_like(f))
    assert mixed(mixtures.Pivot(tau), f, -f * 2 * (1 - tau) / tau).norm() > 0.1


@RANDOM
@pytest.mark.parametrize("quota", [0.0, 0.5, 2.0])
def test_a_step_of_hamu_meets_its_quota_at_the_least_retain_loss(seed, quota):
    f, h = gradients(seed)
    g = mixed(mixtures.Quota(quota, stops=False), f, h)
    assert g @ h >= quota - 1e-9
    reach = f.norm()
    if quota > reach * h.norm():
        torch.testing.assert_close(g, quota * h / (h @ h))
        return
    assert g.norm() <= reach * (1 + 1e-9)
    # The best step lies in the plane of the two gradients: look at all angles in it.
    one = h / h.norm()
    other = f - (f @ one) * one
    angles = torch.linspace(0, 2 * math.pi, 100001, dtype=torch.float64)[:, None]
    circle = reach * (angles.cos() * one + angles.sin() * other / other.norm())
    best = (circle @ f)[circle @ h >= quota].max()
    assert float(g @ f) == pytest.approx(float(best), rel=1e-3, abs=1e-3 * float(reach) ** 2)


def test_hamu_ends_where_no_step_meets_its_quota_without_raising_the_retain_loss():
    f, h = torch.tensor([1.0, 0.0]).double(), torch.tensor([-2.0, 0.5]).double()
    for quota, over in ((0.4, False), (0.6, True)):  # ‖∇f‖ times the part of ∇h across ∇f is 0.5
        rule = mixtures.Quota(quota, stops=True)
        g = mixed(rule, f, h)
        assert rule.over() == over
        assert (g.norm() == 0) == over
    rule = mixtures.Quota(0.6, stops=False)
    assert mixed(rule, f, h) @ f < 0
    assert not rule.over()
    descent, _ = toy(trade_offs.Hamu(kind="hamu", quota=5.0, stop=True), steps=10)
    start = descent.flat.theta.tolist()
    assert run(descent) == start
    assert descent.ends == [{"steps": 1, "stopped": True}]


@RANDOM
def test_munba_strikes_the_nash_bargain(seed):
    """Each player's gain is the reciprocal of its weight, and both gain the same part of their gradient's length."""
    f, h = gradients(seed)
    g = mixed(mixtures.Bargain(), f, h)
    u, v = f / f.norm(), h / h.norm()
    room = (1 + u @ v).sqrt()
    torch.testing.assert_close(g, (u + v) / room)
    assert float(g @ f) == pytest.approx(float(f.norm() * room))
    assert float(g @ h) == pytest.approx(float(h.norm() * room))
    # The closed form as the released code has it.
    squared, product, other = f @ f, f @ h, h @ h
    alpha = (
        (squared * other - product * (squared * other).sqrt()) / (squared**2 * other - squared * product**2)
    ).sqrt()
    torch.testing.assert_close(g, alpha * f + (1 - squared * alpha**2) / (product * alpha) * h)


def test_eupmu_raises_its_multiplier_where_the_retain_loss_rises():
    section = trade_offs.Eupmu(kind="eupmu", rate=0.1, target=GREYS)
    descent, images = toy(section, a=A0, steps=3, lr=0.1)
    a, lam = A0, 0.0
    moments, f = [0.0, 0.0], lambda a: ((a - A0) * Q) ** 2
    for step in (1, 2, 3):
        kept, aimed = kept_and_aimed(a)
        after = a - 0.1 * (lam * kept + aimed) / (1 + lam)
        rise = f(after) - f(a)
        moments = [0.9 * moments[0] + 0.1 * rise, 0.999 * moments[1] + 0.001 * rise**2]
        lam = max(0, lam + 0.1 * (moments[0] / (1 - 0.9**step)) / ((moments[1] / (1 - 0.999**step)) ** 0.5 + 1e-8))
        a = after
    assert run(descent) == pytest.approx([a], rel=1e-5)
    assert float(descent.leg.rule.state["lam"]) == pytest.approx(lam, rel=1e-3)
    assert lam > 0.2
    assert images["retain"].reads == 3 * 2 * 4  # a batch for the view and for the targets, once in a step


def test_a_tolerance_lets_eupmu_forget_more():
    """With none the retain loss may not rise; with a wide one λ stays 0, which is descent on the forget loss alone."""
    runs = {}
    for tolerance in (0.0, 1.0):
        section = trade_offs.Eupmu(kind="eupmu", tolerance=tolerance, rate=0.3, target=GREYS)
        descent, _ = toy(section, a=A0, steps=60, lr=0.1)
        runs[tolerance] = abs(run(descent)[0] - A0)
    assert runs[1.0] > 2 * runs[0.0]


def weighed(name, f, h, **settings):
    from unlearnkit.builtin.borrowed import Weighting

    return mixed(Weighting(name, **settings), f, h)


@RANDOM
def test_mgda_is_the_shortest_vector_between_the_gradients(seed):
    f, h = gradients(seed)
    part = float(((f - h) @ f / ((f - h) @ (f - h))).clamp(0, 1))
    torch.testing.assert_close(weighed("MGDA", f, h), (1 - part) * f + part * h, rtol=1e-2, atol=2e-2)


@RANDOM
def test_pcgrad_takes_the_opposed_parts_away(seed):
    f, h = gradients(seed)
    conflict = min(float(f @ h), 0.0)
    torch.testing.assert_close(weighed("PCGrad", f, h), f - conflict / (h @ h) * h + h - conflict / (f @ f) * f)


@RANDOM
def test_cagrad_is_the_best_step_for_the_worse_off_loss_near_the_mean(seed):
    f, h = gradients(seed)
    mean = (f + h) / 2
    g = weighed("CAGrad", f, h, c=0.5)
    radius = 0.5 * mean.norm()
    assert (g - mean).norm() <= radius * 1.01
    one = f / f.norm()
    other = h - (h @ one) * one
    angles = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)[:, None]
    ball = mean + radius * (angles.cos() * one + angles.sin() * other / other.norm())
    best = torch.minimum(ball @ f, ball @ h).max()
    assert float(torch.minimum(g @ f, g @ h)) == pytest.approx(float(best), rel=2e-2, abs=2e-2)


def test_the_lagrangian_ascends_on_the_relative_violation():
    section = trade_offs.Lagrangian(kind="lagrangian", epsilon=0.1, rate=0.2, target=GREYS)
    descent, _ = toy(section, a=A0, steps=5, lr=0.3)
    a, lam = A0, 0.0
    for _ in range(5):
        kept, aimed = kept_and_aimed(a)
        h = (a * P - A0 * GREY) ** 2
        a, lam = a - 0.3 * (kept + lam * aimed), max(0.0, lam + 0.2 * (h - 0.1) / 0.1)
    assert run(descent) == pytest.approx([a], rel=1e-5)
    assert float(descent.leg.rule.state["lam"]) == pytest.approx(lam, rel=1e-4)


def test_the_lagrangian_ends_at_its_bound():
    section = trade_offs.Lagrangian(kind="lagrangian", epsilon=0.1, rate=0.1, target=GREYS)
    descent, _ = toy(section, a=A0, steps=4000, lr=0.1)
    (a,) = run(descent)
    assert (a * P - A0 * GREY) ** 2 == pytest.approx(0.1, rel=1e-2)


@pytest.mark.parametrize(("library", "method"), [("torchjd", "mgda"), ("cvxpy", "cagrad"), ("cooper", "lagrangian")])
def test_a_missing_library_is_said(monkeypatch, library, method):
    import sys

    from unlearnkit.builtin import borrowed

    monkeypatch.setitem(sys.modules, library, None)
    if library == "cvxpy":
        pytest.importorskip("torchjd")
        monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    build = {
        "mgda": lambda: borrowed.Weighting("MGDA"),
        "cagrad": lambda: borrowed.Weighting("CAGrad", c=0.5),
        "lagrangian": lambda: borrowed.PrimalDual(0.1, 0.1),
    }[method]
    with pytest.raises(UserError, match=r"pip install 'unlearnkit\["):
        build()


def test_siss_is_for_diffusion_models():
    with pytest.raises(UserError, match="this model is none"):
        substitute(trade_offs.Siss(kind="siss"))


@pytest.mark.parametrize("stop", [3, 10])
@pytest.mark.parametrize("kind", ["eupmu", "lagrangian", "lur"])
def test_a_rule_with_a_state_continues_bit_for_bit(kind, stop):
    section = FORMULAS[kind][0]
    whole, first, second = (toy(section, steps=20, lr=1e-2)[0] for _ in range(3))
    expected = run(whole)
    run(first, stop)
    tensors, facts = first.state()
    second.load({name: value.clone() for name, value in tensors.items()}, facts)
    assert run(second) == expected
    assert second.history == whole.history
