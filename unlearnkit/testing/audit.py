"""The check of audits, on an untrained model and random images."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unlearnkit.audits import Audit, Case, Figure, Finding, Missing, Over
from unlearnkit.builtin.degradations import Box
from unlearnkit.builtin.distances import OwnLoss
from unlearnkit.contracts import Images, Item, ModelAdapter, Task
from unlearnkit.data import Pixels, seeded
from unlearnkit.recipe.recipe import Training
from unlearnkit.recipe.sections import AuditSection, ModelSection
from unlearnkit.sides import Side
from unlearnkit.testing.checks import check_section, require

COUNTS = {"train": 6, "validation": 4}


class Drawn(Images):
    """Random images, one class."""

    def __init__(self, label: str, count: int) -> None:
        self.items = [Item(f"{label}-{row}", label) for row in range(count)]
        self.labels = frozenset({label})

    def read(self, item: Item, size: int) -> Tensor:
        """Return the image as uint8 [3, size, size]."""
        return torch.randint(256, (3, size, size), generator=seeded(item.key), dtype=torch.uint8)

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
) -> Case:
    """Return a case of a copy of `model`, as a run makes it, with the images of each set by split."""
    given = training or Training(batch_size=4)
    own = copy.deepcopy(model)
    sides = {name: Side(name, OwnLoss(), images[name]["train"], task, own, 0, given) for name in images}
    fresh = list(dict.fromkeys([*untrained.trainable("encoder"), *untrained.trainable()]))
    return Case(own, reference, sides, images, given, 0, lambda: fresh)


def check_audit(section: AuditSection, model: ModelSection, task: Task | None = None, base: Path = Path()) -> None:
    """Check an audit on an untrained model: all its figures, twice the same, and nothing but its case is changed."""
    check_section(section)
    torch.manual_seed(0)
    audit, reference, untrained = section.build(base, torch.device("cpu")), model.build(None), model.build(None)
    size, device = reference.image_size, torch.device("cpu")
    images = {
        name: {split: Pixels(source := Drawn(f"{name}-{split}", count), source.items, size, device)
               for split, count in COUNTS.items()}
        for name in ("forget", "retain")
    }  # fmt: skip
    require(bool(audit.figures), section, "figures", "expected at least one")
    described = all(isinstance(figure, Figure) and figure.meaning for figure in audit.figures.values())
    require(described, section, "figures", "expected a Figure with a meaning under each name")
    require(bool(audit.samples(images)), section, "samples", "expected how many images it is of")
    before = [value.clone() for value in reference.module.state_dict().values()]
    made = partial(case, reference, reference, task or Box((0.5, 0.5), central=True), images, untrained)
    first, again = (_examined(audit, made()) for _ in range(2))
    require(first == again, section, "examine", "expected the same findings of the same case")
    after: Sequence[Tensor] = list(reference.module.state_dict().values())
    kept = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    require(kept, section, "examine", "expected it to change no model but that of the case")
    if isinstance(first, str):
        require(bool(first), section, "examine", "expected a reason in the ValueError")
        return
    require(set(first) == set(audit.figures), section, "examine", "expected a finding for each of `figures`")
    typed = all(isinstance(value, int | float | Over | Missing) for value in first.values())
    require(typed, section, "examine", "expected numbers, Over or Missing")


def _examined(audit: Audit, case: Case) -> Mapping[str, Finding] | str:
    try:
        return audit.examine(case)
    except ValueError as error:
        return str(error)
