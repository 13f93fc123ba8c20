"""Everything a run works with, built from a recipe before anything is written."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unlearnkit.contracts import Loss, Metric, ModelAdapter, Task
from unlearnkit.data import Chosen, Pixels, colour_statistics, digest, load, seeded, split
from unlearnkit.errors import Exit, UserError
from unlearnkit.flat import Flat
from unlearnkit.phases import Side
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.weights import choose_device, resolve, sha256

SETS = ("forget", "retain")
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Workbench:
    """Student, reference, data, losses and metrics of one recipe."""

    recipe: Recipe
    device: torch.device
    student: ModelAdapter
    reference: ModelAdapter
    flat: Flat
    origin: Tensor
    """The trained parameters of the reference, flat."""
    task: Task
    chosen: Mapping[str, Chosen]
    images: Mapping[str, Mapping[str, Pixels]]
    """By set and split: uint8 [N, 3, S, S]; the training images come on the device."""
    sides: Mapping[str, Side]
    metrics: Mapping[str, Metric | str]
    """By kind, the second of a kind as `fid-2`; a metric that cannot be built is its reason."""
    facts: Mapping[str, object]
    """What the manifest records of weights and data."""
    frozen: str
    """Hash of all that unlearning must not change, as it came from the weights file."""

    @property
    def identity(self) -> str:
        """Hash of all that a frozen output depends on: weights, data, task and losses."""
        recipe = self.recipe
        sections = [section.model_dump_json() for section in (recipe.model, recipe.task, recipe.forget, recipe.retain)]
        origin = hashlib.sha256(self.origin.cpu().numpy().tobytes()).hexdigest()
        return hashlib.sha256(
            json.dumps([self.facts["data"], self.frozen, origin, sections, torch.__version__]).encode()
        ).hexdigest()

    def frozen_digest(self) -> str:
        """Return the hash of all that unlearning must not change as it is now."""
        return frozen_digest(self.student, self.flat)


def frozen_digest(adapter: ModelAdapter, flat: Flat) -> str:
    """Return a hash of a model's parameters that are not trained, and of its buffers."""
    trained = {parameter.data_ptr() for parameter in flat.parameters}
    state = hashlib.sha256()
    for name, value in adapter.module.state_dict().items():
        if value.data_ptr() not in trained:
            state.update(name.encode() + value.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def build(recipe: Recipe, base: Path) -> Workbench:
    """Build the workbench; raise `UserError` for whatever the recipe names that is missing or does not fit."""
    device = choose_device(recipe.training.device)
    weights = resolve(recipe.model.weights, base)
    forget, retain = split(recipe.data, base, recipe.seed)
    torch.manual_seed(recipe.seed)
    student = recipe.model.build(weights)
    # The reference is copied before anything is trained or resumed, and from the weights file alone.
    reference = copy.deepcopy(student)
    for adapter in (student, reference):
        adapter.module.to(device).eval().requires_grad_(False)
    parameters = student.trainable(recipe.model.train)
    if recipe.model.train == "encoder":
        _refuse_shared(student)
    flat = Flat(parameters)
    size = student.image_size
    chosen = {"forget": forget, "retain": retain}
    for wanted in (recipe.task, *recipe.evaluate.tasks):  # one that does not suit the size is refused at once
        wanted.build().degrade(torch.zeros(1, 3, size, size), seeded(recipe.seed, "fits"))
    task = recipe.task.build()
    images = load(chosen, size, recipe.data, device)
    noise = colour_statistics(images["forget"]["train"])
    losses: dict[str, Loss] = {
        "forget": recipe.forget.build(reference, task, noise, seeded(recipe.seed, "noise")),
        "retain": recipe.retain.build(reference, task, noise, seeded(recipe.seed, "noise")),
    }
    sides = {
        name: Side(
            name, losses[name], images[name]["train"], task, student, recipe.seed, recipe.training
        )
        for name in SETS
    }  # fmt: skip
    metrics: dict[str, Metric | str] = {}
    kinds = [section.kind for section in recipe.evaluate.metrics]
    for place, section in enumerate(recipe.evaluate.metrics):
        number = kinds[:place].count(section.kind)
        try:
            metric: Metric | str = section.build(base, device)
        except UserError as error:
            metric = str(error)
        except Exception as error:  # one metric's failure stays in its own cell, whatever it is
            metric = f"{type(error).__name__}: {error}"
        metrics[f"{section.kind}-{number + 1}" if number else section.kind] = metric
    facts = {
        "weights": {"ref": recipe.model.weights, "sha256": sha256(weights) if weights else None},
        "data": [
            {
                "set": name,
                **part.source.describe(),
                "classes": list(part.classes),
                "digest": digest(*(images[name][split] for split in SPLITS)),
            }
            for name, part in chosen.items()
        ],
    }
    origin, frozen = flat.theta.detach().clone(), frozen_digest(student, flat)
    return Workbench(
        recipe, device, student, reference, flat, origin, task, chosen, images, sides, metrics, facts, frozen
    )  # fmt: skip


def _refuse_shared(adapter: ModelAdapter) -> None:
    """Refuse a model whose frozen part would move with its encoder."""
    if shared := adapter.shared():
        raise UserError(
            f"model: the encoder shares {', '.join(shared[:3])} with the frozen part, which would move with it; the "
            f"adapter must untie them, or use `train: all`",
            Exit.PLUGIN,
        )
