"""A step leaves the host free to run ahead of the device: nothing in it waits for a tensor's value."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.steps import constrained, prepared, read
from unlearnkit.builtin.tasks.sections import CenterCrop
from unlearnkit.contracts import Degraded, parts
from unlearnkit.data import seeded, view_of
from unlearnkit.plugins import discover

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL = ("quickstart", "mae-faces", "mae-airplanes", "vq-gan-motorbikes", "palette-faces")
PAPERS = [f"papers/{path.stem}" for path in sorted((RECIPES / "papers").glob("*.yaml"))]
META = torch.device("meta")


@pytest.mark.parametrize("name", [*SMALL, *PAPERS])
def test_no_model_and_no_task_waits_for_the_device(name, monkeypatch):
    """Tensors of the meta device have no values, so that asking for one is an error."""
    monkeypatch.setattr(torch, "autocast", lambda device, *, enabled: nullcontext())  # the meta device has none
    recipe = read(RECIPES / f"{name}.yaml", ["model.weights=null"], discover())
    student = recipe.model.build(None)
    student.module.to(META)
    images = torch.zeros(2, 3, student.image_size, student.image_size, device=META)
    for section in (recipe.task, *recipe.evaluate.tasks):
        view = view_of(student, section.build(), images, seeded("waits"))
        torch.stack([part.float().sum() for part in parts(student.embed(view))]).sum().backward()
    assert all(parameter.grad is not None for parameter in student.encoder.parameters() if parameter.requires_grad)


def test_a_view_has_its_mask_on_the_host():
    """Tensors of the meta device cannot be read, so that the mask must have been there."""
    view = CenterCrop(kind="center-crop", ratio=0.5).build().degrade(torch.zeros(3, 3, 8, 8, device=META), seeded())
    assert view.on_host.shape == (3, 1, 8, 8)
    assert view[:2].on_host.sum() == 2 * 16
    other = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    assert torch.equal(Degraded(view.images, other).on_host, other)  # where no task drew one there


class Waits(TorchDispatchMode):
    """Notes the operators whose result the host must know."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in {"_local_scalar_dense", "nonzero", "equal", "masked_select"}:
            self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["vq-gan-motorbikes", "palette-faces"])
def test_the_rule_the_losses_and_the_optimiser_wait_for_nothing(name):
    """These models have no masks on the host, whose shapes are known there without waiting."""
    bench = prepared(
        RECIPES / f"{name}.yaml", ["data.per_class={train: 4, validation: 1}", "training.batch_size=2"], discover()
    )
    step = constrained(bench)
    step()
    with Waits() as waits:
        step()
    assert waits.seen == []
    with waits:
        float(bench.flat.theta.detach().sum())
    assert waits.seen == ["_local_scalar_dense"]
