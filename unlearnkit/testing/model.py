"""The check of model adapters, rule by rule."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from unlearnkit.builtin.tasks import Whole, reduced
from unlearnkit.contracts import ModelAdapter, Task, View, parts, shared, trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.recipe.sections import ModelSection
from unlearnkit.testing.checks import CROP, check_section, random_images, require, same


def check_model(section: ModelSection, task: Task | None = None, weights: Path | None = None) -> None:
    """Check a model adapter on random images under a task; left out it is a centre crop, or for a scale a reduction.

    `build` must read back the folder that `save` writes.
    """
    check_section(section)
    torch.manual_seed(0)
    adapter = section.build(weights)
    adapter.module.eval()
    usual = CROP if adapter.scale == 1 else Whole(lambda images: reduced(adapter.scale, "task", images).clamp(0, 1))
    view = view_of(adapter, task or usual, random_images(adapter.image_size), seeded("view"))
    _check_parts(section, adapter)
    for check in (_check_first_stage, _check_embedding, _check_output, _check_own_loss, _check_save, _check_frozen):
        check(section, adapter, view)


def _check_parts(section: ModelSection, adapter: ModelAdapter) -> None:
    inside = set(adapter.module.modules())
    require(adapter.encoder in inside, section, "encoder", "expected a submodule of `module`")
    outside = shared(adapter)
    require(not outside, section, "encoder", f"expected no parameter shared with the rest, found {outside}")
    if adapter.first is not None:
        require(adapter.first in inside, section, "first", "expected a submodule of `module`")
        overlap = set(adapter.encoder.parameters()) & set(adapter.first.parameters())
        require(not overlap, section, "first", "expected no parameter of the encoder in the frozen first stage")
    draws, again = adapter.draw(2, seeded("draw")), adapter.draw(2, seeded("draw"))
    require(same(draws, again), section, "draw", "expected the same draws from the same generator state")
    rows = {part.shape[0] for part in draws}
    require(rows <= {2}, section, "draw", f"expected one row an image, found {sorted(rows)} for 2")


def _check_first_stage(section: ModelSection, adapter: ModelAdapter, view: View) -> None:
    with torch.no_grad():
        stage = adapter.first_stage(view)
        wanted = "expected an output where `first` names a frozen first stage, and none without one"
        require(bool(stage) == (adapter.first is not None), section, "first_stage", wanted)
        rows = {part.shape[0] for part in stage}
        require(rows <= {2}, section, "first_stage", f"expected one row an image, found {sorted(rows)} for 2")
        other = replace(view, draws=adapter.draw(2, seeded("other draw")))
        require(same(stage, adapter.first_stage(other)), section, "first_stage", "expected it not to read the draws")
        known = adapter.embed(replace(view, stage=stage))
        require(same(known, adapter.embed(view)), section, "embed", "expected the same with the stage given as without")


def _check_embedding(section: ModelSection, adapter: ModelAdapter, view: View) -> None:
    embedding = adapter.embed(view)
    rows = {part.shape[0] for part in parts(embedding)}
    require(rows == {2}, section, "embed", f"expected one row an image, found {sorted(rows)} for 2")
    require(same(embedding, adapter.embed(view)), section, "embed", "expected the same embedding for the same view")
    adapter.module.zero_grad()
    torch.stack([part.float().square().mean() for part in parts(embedding)]).sum().backward()
    reached = any(p.grad is not None and bool(p.grad.any()) for p in adapter.encoder.parameters())
    require(reached, section, "embed", "expected a gradient in the encoder's parameters")
    if bool(view.hidden.any()):
        with torch.no_grad():
            changed = replace(view, truth=view.truth.masked_fill(view.hidden, 0.25))
            blind = same(adapter.embed(view), adapter.embed(changed))
        sees = adapter.sees_truth
        wanted = "to read `view.truth`, as it says" if sees else "not to read the hidden pixels of the truth"
        require(blind != sees, section, "sees_truth", f"expected the embedding {wanted}")


def _check_output(section: ModelSection, adapter: ModelAdapter, view: View) -> None:
    with torch.no_grad():
        image = adapter.decode(adapter.embed(view), view)
        wanted, found = list(view.truth.shape), list(image.shape)
        require(wanted == found, section, "decode", f"expected {wanted}, found {found}")
        output = adapter.output(view)
        require(bool(output.min() >= 0) and bool(output.max() <= 1), section, "output", "expected values in [0, 1]")
        require(same(output, adapter.output(view)), section, "output", "expected the same output for the same view")
        if bool(view.hidden.any()):
            kept = torch.where(view.hidden, output, view.images)
            require(same(kept, output), section, "output", "expected the visible pixels as they were")
            changed = replace(view, truth=view.truth.masked_fill(view.hidden, 0.25))
            require(same(output, adapter.output(changed)), section, "output", "expected it not to read the truth")


def _check_own_loss(section: ModelSection, adapter: ModelAdapter, view: View) -> None:
    adapter.module.zero_grad()
    loss = adapter.own_loss(view.truth, view)
    require(loss.shape == () and bool(loss.isfinite()), section, "own_loss", "expected a finite scalar")
    loss.backward()
    reached = any(p.grad is not None and bool(p.grad.any()) for p in trainable(adapter))
    require(reached, section, "own_loss", "expected a gradient in the trained parameters")


def _check_save(section: ModelSection, adapter: ModelAdapter, view: View) -> None:
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        adapter.save(Path(name))
        again = section.build(Path(name))
        again.module.eval()
        equal = same(adapter.output(view), again.output(view))
    require(equal, section, "save", "expected `build` to read back what it writes")


def _check_frozen(section: ModelSection, adapter: ModelAdapter, view: View) -> None:
    """Change the encoder; what is frozen must not move with it."""
    with torch.no_grad():
        embedding, stage = adapter.embed(view), adapter.first_stage(view)
        before = adapter.decode(embedding, view)
        for parameter in adapter.encoder.parameters():
            parameter.mul_(1.5).add_(0.1)
        kept = same(before, adapter.decode(embedding, view))
        require(kept, section, "decode", "expected the decoder to stay as it is while the encoder is trained")
        moved = not same(stage, adapter.first_stage(view))
        require(not moved, section, "first_stage", "expected the first stage to stay while the encoder is trained")
