"""Laws of audits: the attack's figures against torchmetrics and by hand, and the step loop against plain PyTorch."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import binary_auroc

from unlearnkit.builtin.audits.attacks import rounded, searched
from unlearnkit.builtin.audits.chunks import hidden_psnr
from unlearnkit.builtin.audits.compared import alignment, band, cka, kernel, nearer
from unlearnkit.builtin.audits.membership import Membership, RetainLeakage, auc, calibrated, interpolated, tpr
from unlearnkit.builtin.audits.nearness import Layers, Relative, layers, probed
from unlearnkit.builtin.audits.outputs import CopySimilarity
from unlearnkit.builtin.audits.pairs import TwoPoints, crossed
from unlearnkit.builtin.audits.sections import Relearning
from unlearnkit.builtin.tasks.degradations import Box
from unlearnkit.contracts import Extractor, Item, Missing, Over, region_error, trainable
from unlearnkit.data import Pixels, batch_index, seeded, to_float, view_of
from unlearnkit.evaluation.again import compared, unheld
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.recipe.training import SGD, AdamW, Training
from unlearnkit.solver.problem import DivergedError
from unlearnkit.testing.audit import Drawn, case
from unlearnkit.testing.plugin import SMALL

TASK = Box((0.5, 0.5), central=True)


def scores(members, others, shift, ties=False):
    drawn = torch.randn(members + others, generator=seeded("scores", members), dtype=torch.float64)
    which = torch.arange(members + others) < members
    return (drawn + shift * which).round(decimals=0 if ties else 12), which


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0])
def test_auc_is_that_of_torchmetrics(ties, shift):
    score, members = scores(60, 40, shift, ties)
    ranks = score.unique(return_inverse=True)[1].double()
    assert auc(score, members) == pytest.approx(float(binary_auroc(ranks / ranks.max(), members.long())), abs=1e-6)
    assert auc(score, members) + auc(-score, members) == pytest.approx(1)


@pytest.mark.parametrize("others", [100, 199, 250])
def test_tpr_is_the_best_of_all_thresholds_whose_fpr_is_at_most_one_in_a_hundred(others):
    score, members = scores(80, others, 2.0)
    rates = [
        (float((score[~members] > at).double().mean()), float((score[members] > at).double().mean()))
        for at in score.tolist()
    ]
    assert tpr(score, members) == max(hit for false, hit in rates if false <= 0.01)


def test_tpr_at_one_in_a_hundred_needs_a_hundred_non_members():
    assert tpr(*scores(10, 99, 1.0)) == Missing(
        "too few images: 99 non-members, and 1 % of them is less than one; give 100"
    )


@pytest.mark.parametrize(("inside", "outside"), [(100, 50), (200, 300)])
def test_scores_without_a_trace_are_within_chance_nineteen_times_in_twenty(inside, outside):
    generator = torch.Generator().manual_seed(inside)
    items = {split: [Item(str(i), "a") for i in range(n)] for split, n in (("train", inside), ("validation", outside))}
    chance = Membership("none", 1).chance({"forget": items})
    members = torch.arange(inside + outside) < inside
    drawn = [torch.rand(inside + outside, generator=generator) for _ in range(500)]
    within = [abs(auc(score, members) - 0.5) <= chance["auc"] for score in drawn]
    assert 0.92 < sum(within) / len(within) < 0.98
    if outside > 100:
        within = [abs(tpr(score, members) - 0.01) <= chance["tpr"] for score in drawn]
        assert 0.92 < sum(within) / len(within) < 0.98


@pytest.mark.parametrize(("inside", "outside"), [(1, 5), (2, 100), (10, 100), (100, 100), (200, 300)])
def test_no_member_above_the_threshold_is_within_chance(inside, outside):
    items = {split: [Item(str(i), "a") for i in range(n)] for split, n in (("train", inside), ("validation", outside))}
    assert Membership("none", 1).chance({"forget": items})["tpr"] >= 0.01  # where 0 lies, beside 1 % of chance


def test_calibration_takes_difficulty_out_and_leaves_membership():
    difficulty = torch.rand(200, generator=seeded("d"), dtype=torch.float64) + 0.05
    members = torch.arange(200) < 100
    noise = torch.randn(200, generator=seeded("n"), dtype=torch.float64)
    losses = difficulty**1.5 * torch.exp(0.02 * noise - 0.1 * members)
    score = calibrated(losses, difficulty[:, None], "difficulty")
    assert abs(float(torch.corrcoef(torch.stack([score, difficulty.log()]))[0, 1])) < 1e-9
    assert auc(score, members) > 0.95 > 0.6 > auc(-losses, members)
    assert torch.equal(calibrated(losses, losses[:, None] + 1, "original"), (losses + 1) - losses)
    with pytest.raises(ValueError, match="not positive"):
        calibrated(losses - 1, difficulty[:, None], "difficulty")


def images(size=16):
    return {
        name: {split: Pixels(source := Drawn(f"{name}-{split}", count), source.items, size, torch.device("cpu"))
               for split, count in (("train", 10), ("validation", 5))}
        for name in ("forget", "retain")
    }  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(1)
    return SMALL.build(None)


def test_steps_of_an_audit_are_those_of_plain_pytorch_on_the_same_batches(model):
    given = case(model, model, TASK, images(), SMALL.build(None), Training(batch_size=4))
    other = case(model, model, TASK, images(), SMALL.build(None)).model
    encoder = set(trainable(other, "encoder"))
    decoder = [parameter for parameter in trainable(other) if parameter not in encoder]
    optimizer = torch.optim.SGD(decoder, lr=0.1)
    for parameter in decoder:
        parameter.requires_grad_(True)
    for step in range(3):
        loss = torch.zeros(())
        for name, pixels in images().items():
            batch = to_float(pixels["train"][batch_index(step, 10, 4, 0, None, name)])
            loss = loss + other.own_loss(batch, view_of(other, TASK, batch, seeded("fixed")))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    done = list(given.train(given.rest(), ("forget", "retain"), 3, SGD(kind="sgd", lr=0.1), decay=0))
    assert done == [0, 1, 2, 3]
    for name, value in given.model.module.state_dict().items():
        assert torch.allclose(value, other.module.state_dict()[name], atol=1e-6), name
        assert torch.equal(value, model.module.state_dict()[name]) == name.startswith("encoder.")


def test_a_step_that_is_not_finite_ends_the_training(model):
    given = case(model, model, TASK, images(), SMALL.build(None))
    with pytest.raises(DivergedError, match="non-finite at step"):
        list(given.train(given.rest(), ("forget",), 50, AdamW(lr=1e38), decay=0))


def test_a_refreshed_decoder_is_that_of_the_untrained_model(model):
    torch.manual_seed(2)
    untrained = SMALL.build(None)
    given = case(model, model, TASK, images(), untrained)
    given.refresh(given.rest())
    for name, value in given.model.module.state_dict().items():
        source = model if name.startswith("encoder.") else untrained
        assert torch.equal(value, source.module.state_dict()[name]), name


def test_views_are_the_same_for_every_model_and_others_for_another_purpose(model):
    task = Box((0.3, 0.6), central=False)
    one, other = (case(found, model, task, images(), model) for found in (model, SMALL.build(None)))
    first, again = (next(found.views("forget", "validation")) for found in (one, other))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.truth, to_float(images()["forget"]["validation"][torch.arange(5)]))
    assert not torch.equal(first.hidden, next(one.views("forget", "validation", 1)).hidden)


def relearned(given, **fields):
    return Relearning(kind="relearning", **fields).build(Path(), torch.device("cpu")).examine(given)


def test_the_original_needs_no_step_to_be_back(model):
    found = relearned(case(model, model, TASK, images(), model), steps=5)
    assert found == {
        "start": 1.0, "forget_steps": 0, "forget_most": 1.0, "retain_steps": 0, "retain_most": 1.0,
    }  # fmt: skip


def test_relearning_counts_the_steps_until_the_error_is_back(model):
    """Against the same training by hand, one step at a time."""
    start = case(SMALL.build(None), model, TASK, images(), model)
    for _ in start.train(trainable(start.model), ("forget",), 30, AdamW(lr=1e-2), decay=0):
        pass
    original = start.model
    fast = AdamW(lr=1e-2)
    given = case(model, original, TASK, images(), model)
    view = next(given.views("forget", "validation"))
    parts = []
    for _ in given.train(trainable(given.model), ("forget",), 40, fast, decay=0):
        errors = [float(region_error(found.output(view), view).mean().detach()) for found in (original, given.model)]
        parts.append(errors[0] / errors[1])
    back = next(step for step, part in enumerate(parts) if part >= 0.95)
    assert 0 < back < 40
    fields = {"optimizer": fast, "recovered": 0.95, "images": ["forget"]}
    found = relearned(case(model, original, TASK, images(), model), steps=40, every=1, **fields)
    assert found["start"] == pytest.approx(parts[0])
    assert found["forget_steps"] == back
    few = relearned(case(model, original, TASK, images(), model), steps=back - 1, every=1, **fields)
    assert few["forget_steps"] == Over(back - 1)
    assert few["forget_most"] == pytest.approx(max(parts[:back]))


class Pooled(Extractor):
    """The mean colour of each quarter."""

    label, width = "pooled", 12

    def features(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    def describe(self):
        return {"extractor": "pooled"}


def test_copies_are_found_by_what_was_hidden_alone(model):
    class Copying(type(model)):
        def output(self, view):
            return torch.where(view.hidden, view.truth, torch.rand(view.truth.shape, generator=seeded("visible")))

    class Other(type(model)):
        def output(self, view):
            return torch.where(view.hidden, view.truth.roll(1, 0), view.truth)

    audit = CopySimilarity("train", Pooled())
    copied, other = (
        audit.examine(case(cls(SMALL.build(None).module), model, TASK, images(), model)) for cls in (Copying, Other)
    )
    assert copied["mean"] == pytest.approx(1)
    assert (copied["own"], other["own"]) == (1, 0)
    assert other["mean"] == pytest.approx(1)
    truths = [
        torch.nn.functional.normalize(
            Pooled().features(to_float(pixels[torch.arange(len(pixels))])[..., 4:12, 4:12]).double(), dim=1
        )
        for pixels in images()["forget"].values()
    ]
    assert copied["unseen"] == pytest.approx(float((truths[1] @ truths[0].T).max(1).values.mean()), abs=1e-6)


def test_the_error_is_over_what_the_model_was_to_make(model):
    view = next(case(model, model, TASK, images(), model).views("forget", "validation"))
    outputs = view.truth.clone()
    outputs[view.hidden.expand_as(outputs)] += 0.5
    outputs[:, :, 0, 0] += 9
    assert torch.allclose(region_error(outputs, view), torch.full((5,), 0.25))


def drawn(*shape):
    return torch.randn(*shape, generator=seeded("drawn", shape), dtype=torch.float64)


def test_cka_and_alignment_are_those_of_their_formulas_and_blind_to_rotation_and_scale():
    x, y = drawn(12, 5), drawn(12, 7)
    rotation = torch.linalg.qr(drawn(5, 5))[0]
    a, b = x - x.mean(0), y - y.mean(0)
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())  # Kornblith et al. 2019, equation 3
    assert cka(kernel(x), kernel(y)) == pytest.approx(float(expected))
    assert cka(kernel(x), kernel(3 * x @ rotation + 1)) == pytest.approx(1)
    assert alignment(kernel(x), kernel(3 * x @ rotation + 1)).tolist() == pytest.approx([1] * 12)
    others = [j for j in range(12) if j != 4]
    one, other = (kernel(z)[4, others] for z in (x, y))
    assert float(alignment(kernel(x), kernel(y))[4]) == pytest.approx(float(one @ other / (one.norm() * other.norm())))


def test_the_relative_test_is_the_sign_test_of_scipy():
    from scipy.stats import binomtest

    near, far = drawn(40).abs(), drawn(1, 40)[0].abs() + 0.2
    near[:3] = far[:3]
    won = int((near < far).sum())
    share, p = nearer(near, far)
    assert share == (won + 1.5) / 40
    assert p == pytest.approx(binomtest(won, 37, alternative="greater").pvalue)
    within = [abs(nearer(*drawn(2, 100, i)[:, :, 0])[0] - 0.5) <= band(100) for i in range(1, 200)]
    assert sum(within) / len(within) > 0.92


def test_a_probe_is_ridge_regression_on_the_features():
    x, which = drawn(30, 4), torch.arange(30) % 3 == 0
    x[which, 0] += 2
    x, fitted = x - x.mean(0), torch.arange(30) < 20
    inside, told = x[fitted], which[fitted].double()
    ridge = 0.1 * (inside**2).sum(1).mean() * torch.eye(4, dtype=torch.float64)
    weights = torch.linalg.solve(inside.T @ inside + ridge, inside.T @ (told - told.mean()))
    expected = auc(x[~fitted] @ weights, which[~fitted])
    assert probed(kernel(x), which, fitted) == pytest.approx(expected)
    assert expected > 0.8


def test_weights_of_few_bits_have_few_values_and_lie_half_a_step_away():
    weight = drawn(6, 50)
    for bits in (8, 4):
        found, step = rounded(weight, bits), weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert bool(((found - weight).abs() <= step / 2 + 1e-12).all())
        assert all(len(row.unique()) <= 2**bits - 1 for row in found)
    assert rounded(drawn(5), 16).shape == (5,)


def test_a_search_stays_within_its_bound_and_leaves_what_is_hidden(model):
    view = next(case(model, model, TASK, images(), model).views("forget", "validation"))
    model.module.requires_grad_(False)
    found = searched(model, view, 5, 0.05)
    moved = (found.images - view.images).abs()
    assert 0 < float(moved.max()) <= 0.05 + 1e-6
    assert not bool(moved[view.hidden.expand_as(moved)].any())
    errors = [float(region_error(model.output(one), view).mean()) for one in (view, found)]
    assert errors[1] < errors[0]

    class Deaf(type(model)):
        def embed(self, view):
            return super().embed(view).detach()

    with pytest.raises(ValueError, match="no gradient"):
        searched(Deaf(model.module), view, 1, 0.05)


def test_layers_are_the_blocks_in_their_order_and_no_hook_is_left(model):
    views = list(case(model, model, TASK, images(), model).views("forget", "validation"))
    found = layers(model, views)
    assert len(found) == len(model.encoder.blocks)
    with torch.no_grad():
        expected = model.encoder.norm(found[-1].view(5, -1, model.encoder.norm.normalized_shape[0])).flatten(1)
        assert torch.allclose(expected, model.embed(views[0]).flatten(1), atol=1e-6)
    assert not any(module._forward_hooks for module in model.module.modules())


@pytest.mark.parametrize(("depth", "looked"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 3])])
def test_each_layer_is_looked_at_once_and_one_that_is_not_there_says_so(depth, looked):
    section = SMALL.model_copy(update={"depth": depth})
    whole, other = section.build(None), section.build(None)
    three, nine = (Layers(count).examine(case(whole, other, TASK, images(), whole)) for count in (3, 9))
    known = [nine[f"original_{place}"] for place in range(1, depth + 1)]
    assert len(set(known)) == depth
    fewer = Missing(f"the encoder has {depth} layer{'s' * (depth > 1)}")
    assert {name for name, found in nine.items() if found == fewer} == {
        f"{figure}_{place}" for figure in ("original", "retrained", "probe") for place in range(depth + 1, 10)
    }
    assert [three[f"original_{place + 1}"] for place in range(len(looked))] == [known[place] for place in looked]


def test_an_encoder_without_layers_gives_a_reason(model):
    model.encoder, model.embed = nn.Identity(), lambda view: view.images
    with pytest.raises(ValueError, match="the encoder has no layers"):
        Layers(2).examine(case(model, model, TASK, images(), model))


def test_what_is_retained_is_given_away_by_what_learnt_it_by_heart(model):
    learnt = case(model, model, TASK, images(), model)
    for _ in learnt.train(trainable(learnt.model), ("retain",), 60, AdamW(lr=1e-2), decay=0):
        pass
    audit = RetainLeakage(1)
    found = [audit.examine(case(one, model, TASK, images(), model)) for one in (model, learnt.model)]
    assert found[0]["excess"] == 0
    assert found[1]["auc"] > 0.8
    assert found[1]["excess"] == found[1]["auc"] - found[0]["auc"]


def test_interpolation_is_nought_at_the_original_and_one_at_the_retrained():
    before, after = drawn(20).exp(), drawn(20, 3).exp() * 5
    assert interpolated(before, before, after) == 0
    assert interpolated(after.log().mean(1).exp(), before, after) == pytest.approx(1)
    assert isinstance(interpolated(-before, before, after), Missing)
    for loses in (before[:, None], before[:, None] / 2):  # as much as the original, and less
        assert interpolated(before * 1.5, before, loses) == Missing("retrained models lose no more than it")
    score = calibrated(before, after, "retrained")
    assert torch.allclose(score, (after.log().mean(1) - before.log()) / after.log().std(1).clamp(min=1e-3))


def test_two_points_of_a_straight_way_lead_back_to_the_original_and_one_leads_nowhere(model):
    learnt = case(model, model, TASK, images(), model)
    for _ in learnt.train(trainable(learnt.model), ("forget",), 40, AdamW(lr=1e-2), decay=0):
        pass
    halfway, way = copy.deepcopy(model), zip(*(one.module.parameters() for one in (model, learnt.model)), strict=True)
    for between, (far, near) in zip(halfway.module.parameters(), way, strict=True):
        between.data.copy_((far.data + near.data) / 2)

    def found(other):
        own = case(model, learnt.model, TASK, images(), model)
        own.other = other
        return TwoPoints("halfway", (0.5, 1.0)).examine(own)

    two, one = found(halfway), found(model)
    whole = case(learnt.model, learnt.model, TASK, images(), model)
    assert two["weights"] == pytest.approx(hidden_psnr(whole.model, whole.views("forget", "validation")), abs=1e-3)
    assert two["gain"] > 0.1
    assert two["share"] == 1
    assert two["back"] == pytest.approx(1, abs=1e-3)
    assert one["own"] == one["other"] == one["weights"] == one["outputs"]
    assert (one["gain"], one["share"], one["back"]) == (0, 0.5, 0)
    with pytest.raises(ValueError, match="takes another model than halfway"):
        found(None)


def test_figures_that_hang_on_a_model_which_is_not_handed_over_are_not_held():
    every = {"relative": Relative(), "two-points": TwoPoints("loose", (1.0,)), "retain-leakage": RetainLeakage(1)}
    tools = Instruments({}, {name: (None, audit) for name, audit in every.items()})
    rows = [{"id": "strict"}, {"id": "gold", "retrained": True}]  # of another solution nothing is claimed

    def left_out(*models):
        return unheld({"results": {"solutions": rows}}, tools, dict.fromkeys(models))

    assert left_out("original", "strict") == {"relative", "two-points"}
    assert left_out("original", "strict", "loose") == {"relative"}
    assert left_out("original", "strict", "loose", "gold") == set()


def test_each_half_of_the_images_has_the_place_that_is_best_on_the_other():
    seen = drawn(5, 7)
    found = crossed(seen)
    for half, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        means = [float(row[other].mean()) for row in seen]
        assert torch.equal(found[half], seen[means.index(max(means))][half])


@pytest.mark.parametrize("claimed", [0.0, 3e-8, -2e-5, 0.0009, 0.05, 12.5])
@pytest.mark.parametrize("off", [0.0, 3e-8, 9e-7, 1.1e-6, 9e-4, 1.1e-2])
def test_a_figure_is_wrong_where_it_is_told_to_be_farther_apart_than_a_thousandth(claimed, off):
    ((_, apart, why),) = compared(claimed, claimed + off)
    assert bool(why) == (apart > 1e-3) == (not math.isclose(claimed, claimed + off, rel_tol=1e-3, abs_tol=1e-6))
