"""The check of audits, on an untrained model and random images."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unlearnkit import contracts
from unlearnkit.contracts import Figure, Images, Item, Missing, ModelAdapter, Over, OwnLoss, Size, Task, trainable
from unlearnkit.data import Pixels, seeded
from unlearnkit.errors import UserError
from unlearnkit.evaluation.case import ModelCase
from unlearnkit.recipe.sections import AuditSection, ModelSection
from unlearnkit.recipe.training import Training
from unlearnkit.solver.side import Side
from unlearnkit.testing.checks import CROP, check_section, require, same

COUNTS = {"train": 6, "validation": 4}


class Drawn(Images):
    """Random images, one class."""

    def __init__(self, label: str, count: int) -> None:
        self.items = [Item(f"{label}-{row}", label) for row in range(count)]
        self.labels = frozenset({label})

    def read(self, item: Item, size: Size) -> Tensor:
        """Return the image as uint8 [3, size, size]."""
        return torch.randint(256, (3, *contracts.sides(size)), generator=seeded(item.key), dtype=torch.uint8)

    def describe(self) -> Mapping[str, object]:
        """Return no facts."""
        return {}


def case(
    model: ModelAdapter,
    reference: ModelAdapter,
    task: Task,
    images: Mapping[str, Mapping[str, Pixels]],
    untrained: ModelAdapter,
    training: Training | None = None,
) -> ModelCase:
    """Return a case of a copy of `model`, as a run makes it, with the images of each set by split."""
    given = training or Training(batch_size=4)
    own = copy.deepcopy(model)
    sides = {name: Side(name, OwnLoss(), images[name]["train"], task, own, 0, given) for name in images}
    return ModelCase(own, reference, sides, images, given, 0, lambda: trainable(untrained), [untrained], untrained)


def check_audit(section: AuditSection, model: ModelSection, task: Task | None = None, base: Path = Path()) -> None:
    """Check an audit on an untrained model: all its figures, twice the same, and nothing but its case is changed."""
    check_section(section)
    torch.manual_seed(0)
    audit, reference, untrained = section.build(base, torch.device("cpu")), model.build(None), model.build(None)

    def drawn(label: str, count: int) -> Pixels:
        return Pixels(source := Drawn(label, count), source.items, reference.image_size, torch.device("cpu"))

    def examined() -> Mapping[str, contracts.Finding] | str:
        own = case(reference, reference, task or CROP, images, untrained)
        try:
            return audit.examine(own)
        except (UserError, ValueError) as error:
            return str(error)

    sets = ("forget", "retain")
    images = {name: {split: drawn(f"{name}-{split}", count) for split, count in COUNTS.items()} for name in sets}
    items = {name: {split: pixels.items for split, pixels in halves.items()} for name, halves in images.items()}
    require(bool(audit.figures), section, "figures", "expected at least one")
    described = all(isinstance(figure, Figure) and figure.meaning for figure in audit.figures.values())
    require(described, section, "figures", "expected a Figure with a meaning under each name")
    require(bool(audit.samples(items)), section, "samples", "expected how many images it is of")
    before = tuple(value.clone() for value in reference.module.state_dict().values())
    first, again = examined(), examined()
    require(first == again, section, "examine", "expected the same findings of the same case")
    kept = same(before, tuple(reference.module.state_dict().values()))
    require(kept, section, "examine", "expected it to change no model but that of the case")
    if isinstance(first, str):
        require(bool(first), section, "examine", "expected a reason in the ValueError")
        return
    require(set(first) == set(audit.figures), section, "examine", "expected a finding for each of `figures`")
    typed = all(isinstance(value, int | float | Over | Missing) for value in first.values())
    require(typed, section, "examine", "expected numbers, Over or Missing")
