"""Laws of views: other images degraded in just the same way, and outputs that are larger than what the model sees."""

import json
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from tiny_task import ran
from torch import nn
from torch.nn import functional as F

from unlearnkit.builtin.metrics.comparisons import Psnr
from unlearnkit.builtin.tasks.sections import CenterCrop, Downscaling, RandomBox
from unlearnkit.contracts import NEUTRAL, ModelAdapter, Task, View, hide, mean_colour_fill, psnr, region_error, whole
from unlearnkit.data import again, seeded, view_of
from unlearnkit.plugins import discover
from unlearnkit.recipe.sections import ModelSection, TaskSection
from unlearnkit.testing import check_model, check_task
from unlearnkit.weights import load

SIDE = 16


def pictures(name, count=3):
    return torch.rand(count, 3, SIDE, SIDE, generator=seeded(name))


class Enlarger(ModelAdapter):
    """Two convolutions, whose output is enlarged to twice the side."""

    image_size = SIDE

    def __init__(self):
        self.module = nn.ModuleDict({"e": nn.Conv2d(3, 4, 3, padding=1), "d": nn.Conv2d(4, 3, 3, padding=1)})
        self.encoder = self.module["e"]

    def embed(self, view):
        return self.module["e"](view.images)

    def decode(self, embedding, view):
        return F.interpolate(self.module["d"](embedding), scale_factor=2)

    def own_loss(self, images, view):
        return (self.decode(self.embed(view), view) - images).square().mean()


class Drawing(Enlarger):
    """The same with draws of its own."""

    def draw(self, count, generator):
        return torch.randn(count, 4, generator=generator), torch.randint(1000, (count,), generator=generator)


class Halved(Task):
    """Half the resolution."""

    fixed = True

    def degrade(self, images, generator):
        return whole(F.avg_pool2d(images, 2), size=images.shape[2:])


class Halving(TaskSection):
    """Show half the resolution."""

    kind: Literal["halving"]
    """Half the resolution."""

    def build(self):
        return Halved()


class Enlarging(ModelSection):
    """A model that enlarges what it sees."""

    kind: Literal["enlarging"]
    """Enlarging."""

    def build(self, weights):
        adapter = Enlarger()
        if weights is not None:
            load(adapter.module, weights)
        return adapter


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(CenterCrop(kind="center-crop").build(), id="fixed"),
        pytest.param(RandomBox(kind="random-box").build(), id="random mask"),
        pytest.param(Downscaling(kind="downscaling").build(), id="whole image"),
        pytest.param(Halved(), id="smaller image"),
    ],
)
def test_again_gives_other_images_the_same_mask_and_the_same_draws(task):
    images, others, generator = pictures("some"), pictures("others"), seeded("view")
    view = view_of(Drawing(), task, images, generator)
    state = generator.get_state()
    found = again(view, task, others)
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(found.truth, others)
    assert torch.equal(found.hidden, view.hidden)
    assert torch.equal(found.on_host, view.on_host)
    assert all(torch.equal(a, b) for a, b in zip(found.draws, view.draws, strict=True))
    if view.hidden.any():
        assert torch.equal(found.images, torch.where(view.hidden, NEUTRAL, others))
    else:
        assert torch.equal(found.images, task.degrade(others, seeded()).images)
    for back in (again(view, task, images), again(found, task, images)):
        assert torch.equal(back.images, view.images)
        assert torch.equal(back.hidden, view.hidden)
    other = view_of(Drawing(), task, images, seeded("another view"))
    assert not torch.equal(other.draws[0], view.draws[0])
    assert torch.equal(other.hidden, view.hidden) == task.fixed


def test_a_part_of_a_view_is_no_view_to_repeat():
    """Masks and draws of a batch come from one generator, so that those of a part cannot be drawn alone."""
    task = RandomBox(kind="random-box").build()
    view = view_of(Drawing(), task, pictures("some"), seeded("view"))
    part = view[:2]
    assert torch.equal(part.hidden, view.hidden[:2])
    assert all(torch.equal(a, b[:2]) for a, b in zip(part.draws, view.draws, strict=True))
    with pytest.raises(AssertionError, match="of a part of a view T cannot be repeated"):
        again(part, task, pictures("others", 2))


def test_a_task_and_a_model_may_make_images_larger():
    task = Halving(kind="halving")
    check_task(task)
    torch.manual_seed(0)
    check_model(Enlarging(kind="enlarging"), task.build())


def test_an_output_larger_than_its_input_has_the_truths_shape_and_all_of_it_was_to_be_made():
    model, images = Enlarger(), pictures("some")
    view = view_of(model, Halved(), images, seeded("view"))
    assert view.images.shape == (3, 3, SIDE // 2, SIDE // 2)
    assert not view.hidden.any()
    assert view.hidden.shape == view.region.shape == (3, 1, SIDE, SIDE)
    assert view.region.all()
    predicted = pictures("predicted")
    assert torch.equal(view.filled(predicted), predicted)
    with torch.no_grad():
        output = model.output(view)
    assert output.shape == view.truth.shape
    torch.testing.assert_close(region_error(output, view), (output - images).square().mean((1, 2, 3)))
    expected = psnr(output, images)
    torch.testing.assert_close(psnr(output, images, view.region), expected)
    for hidden in (True, False):
        metric = Psnr(hidden=hidden)
        metric.update(output, view.truth, view)
        assert metric.compute()["value"] == pytest.approx(float(expected.mean()), rel=1e-6)


def test_the_hidden_psnr_of_an_image_does_not_depend_on_its_batch():
    truth, output = pictures("truth"), pictures("output")
    mask = torch.zeros(3, 1, SIDE, SIDE, dtype=torch.bool)
    mask[0, :, :2], mask[2] = True, True
    view = View(hide(truth, mask), truth)

    def found(rows):
        metric = Psnr(hidden=True)
        metric.update(output[rows], truth[rows], view[rows])
        return metric.compute()["value"]

    apart = [found(slice(row, row + 1)) for row in range(3)]
    assert apart == pytest.approx(
        [float(psnr(output[:1, :, :2], truth[:1, :, :2])), *psnr(output[1:], truth[1:]).tolist()], rel=1e-6
    )
    assert found(slice(0, 3)) == pytest.approx(sum(apart) / 3, rel=1e-6)


def test_a_fill_with_the_mean_colour_is_as_large_as_the_truth():
    view = view_of(Enlarger(), Halved(), pictures("some"), seeded("view"))
    fill = mean_colour_fill(view)
    assert fill.shape == view.truth.shape
    assert region_error(fill, view).isfinite().all()


def test_a_recipe_of_larger_outputs_runs_from_start_to_report(tiny):
    module = SimpleNamespace(__name__="larger", register_models=lambda: [Enlarging], register_tasks=lambda: [Halving])
    plugins = discover(extra=[module], installed=False)
    metrics = "evaluate.metrics=[{kind: psnr}, {kind: hidden-psnr}, {kind: ssim}]"
    audits = "evaluate.audits=[{kind: fresh-decoder, steps: 2}, {kind: relearning, steps: 2}]"
    changes = ["model={kind: enlarging}", "task={kind: halving}", metrics, audits, "compare=[{kind: max-loss}]"]
    run = ran(tiny, tiny.parent / "run", *changes, "training.steps=12", plugins=plugins)
    results = json.loads((run / "results.json").read_text())
    for row in (results["original"], *results["solutions"]):
        for cells in (splits["validation"]["truth"] for splits in row["metrics"].values()):
            assert cells["psnr"] == cells["hidden-psnr"]
            assert all(isinstance(value, float) for value in cells.values())
    for entry in results["audits"]:
        for cells in (entry["original"], *entry["solutions"].values()):
            assert not [cell for cell in cells.values() if isinstance(cell, dict) and "failed" in cell]
    assert (run / "report.html").exists()
