"""Laws of looks at some of the images: how sure they are, and that what is reported is of all of them."""

import json
import math

import pytest
import scipy.stats
import torch
from safetensors.torch import load_file
from tiny_task import ran
from two_numbers import A0, B0, SIZE, Counted, Nothing, Two

from unlearnkit.builtin.losses.sections import ReferenceEmbedding
from unlearnkit.contracts import Loss
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.training import Look, Training
from unlearnkit.recipe.validate import load
from unlearnkit.solver.looks import PARTS, half_width, parted
from unlearnkit.solver.side import Side
from unlearnkit.solver.workbench import build


class Grey(Counted):
    """Images of one grey each, sorted: few of them are bright."""

    def __init__(self, count):
        self.levels = (255 * torch.rand(count, generator=torch.Generator().manual_seed(1)).sort()[0] ** 3).byte()

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, rows):
        return self.levels[rows][:, None, None, None].expand(-1, 3, SIZE, SIZE)


class Own(Loss):
    """The mean over a batch of (D(E(x)) − x)²."""

    fixed, reads_reference = True, False

    def target(self, view, generator):
        return ()

    def distance(self, student, view, target):
        return student.own_loss(view.images, view)


def side(count, images, seed=0):
    look = None if images is None else Look(images=images)
    return Side("forget", Own(), Grey(count), Nothing(), Two(), seed, Training(look=look))


@pytest.mark.parametrize(("count", "images"), [(1200, 100), (1200, 600), (300, 297), (4000, 2100)])
def test_in_93_of_100_seeds_the_interval_covers_the_value_of_the_whole_set(count, images):
    """Its law is tried on the loss of each image by itself, of a thousand seeds."""
    one = side(count, images)
    each = (A0 * B0 - 1) ** 2 * (one.images.levels / 255).double() ** 2
    covered, errors, halves = 0, [], []
    for seed in range(1000):
        one.seed = seed
        parts = one.pieces(True)
        means, sizes = torch.stack([each[part].mean() for part in parts]), torch.tensor([*map(len, parts)]).double()
        errors.append(float((means * sizes).sum() / images - each.mean()))
        halves.append(half_width(means, sizes, count))
        covered += abs(errors[-1]) <= halves[-1]
    assert covered >= 930
    value, half = one.seen()
    assert one.exact() == pytest.approx(float(each.mean()), rel=1e-5)
    assert value - one.exact() == pytest.approx(errors[-1], rel=1e-2)
    assert half == pytest.approx(halves[-1], rel=1e-3)
    spread = torch.tensor(errors).square().mean().sqrt()
    mean = float(spread) * scipy.stats.t.ppf(0.975, len(parts) - 1)
    assert torch.tensor(halves).mean() == pytest.approx(mean, rel=0.1), "it is no wider than it must be"


def test_of_single_images_the_interval_is_the_textbooks():
    values, count = torch.rand(PARTS, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 50
    expected = scipy.stats.sem(values) * math.sqrt(1 - PARTS / count) * scipy.stats.t.ppf(0.975, PARTS - 1)
    assert half_width(values, torch.ones(PARTS).double(), count) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [2, 15, 16, 17, 2048, 2049, 10_000])
def test_parts_are_all_rows_once_many_enough_and_small_enough(rows):
    parts = parted(torch.arange(rows), 128)
    assert torch.cat(parts).tolist() == list(range(rows))
    assert all(0 < len(part) <= 128 for part in parts)
    assert len(parts) >= min(rows, PARTS)


def test_a_look_is_at_the_same_images_each_time_and_at_all_where_they_are_few():
    few = side(1200, 100)
    first, again = torch.cat(few.pieces(True)), torch.cat(few.pieces(True))
    assert torch.equal(first, again)
    assert len({*first.tolist()}) == 100
    assert not torch.equal(first, torch.cat(side(1200, 100, seed=1).pieces(True)))
    for images in (1200, 5000):
        assert side(1200, images).seen() == (side(1200, None).exact(), None)


SHORT = (
    "training={steps: 6, batch_size: 4, checks: 2, device: cpu, look: {images: 5}}", "epsilons.fractions=[0.25, 0.75]",
    "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 1}",
)  # fmt: skip
SWEEPS = {
    "line": "sweep={kind: independent}", "chain": "sweep={kind: continuation}",
    "curve": "sweep={kind: curve, budget: 1, polish: 2}",
}  # fmt: skip


@pytest.mark.parametrize("sweep", SWEEPS.values(), ids=SWEEPS)
def test_what_is_reported_is_of_the_whole_sets(tiny, sweep):
    overrides = (*SHORT, sweep, "compare=[{kind: composite, alpha: 0.3}]")
    run = ran(tiny, tiny.parent / "run", *overrides)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    looks = [event for event in events if event["event"] == "check" and "f1_within" in event]
    assert len(looks) >= 3
    assert all(look["f1_within"] > 0 and look["f2_within"] > 0 for look in looks)
    results = json.loads((run / "results.json").read_text())
    bench = build(load(tiny, discover(), overrides).recipe, tiny.parent)
    for row in results["solutions"]:
        assert not {"f1_within", "f2_within"} & row["checks"][-1].keys()
        theta = load_file(run / "solutions" / row["id"] / "tensors.safetensors")["theta"]
        bench.put(row["part"], theta)
        assert row["f1"] == bench.sides["forget"].exact()
        assert row["f2"] == bench.sides["retain"].exact()
        if row["epsilon"] is not None:
            assert row["satisfied"] == (row["gap"] <= 0.02)
    assert "some of the images" in (run / "report.html").read_text()


def test_looks_at_as_many_images_as_there_are_change_no_bit(tiny, finished):
    run = ran(tiny, tiny.parent / "run", "training.look={images: 16}")
    for name in ("boundary-highest", "epsilon-at-0.5"):
        path = f"solutions/{name}/tensors.safetensors"
        assert (run / path).read_bytes() == (finished / "run" / path).read_bytes()
    before, after = (json.loads((place / "results.json").read_text()) for place in (finished / "run", run))
    assert [row["checks"] for row in before["solutions"]] == [row["checks"] for row in after["solutions"]]


def test_a_loss_that_some_images_do_not_tell_of_is_refused(tiny, monkeypatch):
    class Spread(Own):
        def distance(self, student, view, target):
            made = student.output(view)
            return (made - made.mean(0)).square().mean()

    monkeypatch.setattr(ReferenceEmbedding, "build", lambda *_: Spread())
    with pytest.raises(UserError, match=r"retain: Spread: its loss of two images is not the mean.*training\.look"):
        build(load(tiny, discover(), ["training.look={images: 5}"]).recipe, tiny.parent)
