"""Everything a run works with, built from a recipe before anything is written."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from unlearnkit.audits import Audit
from unlearnkit.contracts import Loss, Metric, ModelAdapter, Setting, Task
from unlearnkit.data import Chosen, Pixels, colour_statistics, digest, load, seeded, split, to_float
from unlearnkit.device import choose_device, make_deterministic
from unlearnkit.errors import Exit, Stopped, UserError
from unlearnkit.flat import Flat
from unlearnkit.phases import Leg, budget, legs_of
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import AuditSection, MethodSection, MetricSection
from unlearnkit.sides import Side
from unlearnkit.stages import Stage
from unlearnkit.weights import resolve, sha256

Part = Literal["encoder", "all"]
SETS = ("forget", "retain")
SPLITS = ("train", "validation")
S = TypeVar("S", MetricSection, AuditSection)
T = TypeVar("T")


@dataclass(frozen=True)
class Workbench:
    """Student, reference, data, losses and metrics of one recipe."""

    recipe: Recipe
    device: torch.device
    student: ModelAdapter
    reference: ModelAdapter
    flats: Mapping[Part, Flat]
    """The parameters that a problem may train, by part; those of the encoder come first in those of all."""
    origin: Tensor
    """The reference's parameters of the part that the recipe trains, flat."""
    task: Task
    chosen: Mapping[str, Chosen]
    images: Mapping[str, Mapping[str, Pixels]]
    """By set and split: uint8 [N, 3, S, S]; the training images come on the device."""
    sides: Mapping[str, Side]
    metrics: Mapping[str, Metric | str]
    """By kind, the second of a kind as `fid-2`; a metric that cannot be built is its reason."""
    facts: Mapping[str, object]
    """What the manifest records of weights and data."""
    frozen: Mapping[Part, str]
    """Hash of all that training a part must not change, as it came from the weights file."""
    methods: Sequence[tuple[MethodSection, Sequence[Stage]]]
    """The methods of `compare`, one for each value of what they sweep, and their stages."""
    audits: Mapping[str, tuple[AuditSection, Audit | str]]
    """By kind, the second of a kind as `relearning-2`; an audit that cannot be built is its reason."""

    @property
    def flat(self) -> Flat:
        """The parameters that the ε solutions train."""
        return self.flats[self.recipe.model.train]

    @property
    def steps(self) -> int:
        """The steps of one problem."""
        return budget(self.recipe.training, *(self.sides[name].count for name in SETS))

    def put(self, part: Part, theta: Tensor) -> None:
        """Put the student at the weights `theta` of a part; all else is as in the reference."""
        for own, was in zip(self.student.trainable(), self.reference.trainable(), strict=True):
            own.data.copy_(was.data)
        self.flats[part].set(theta)

    def original(self, part: Part) -> Tensor:
        """Return the reference's parameters of a part, flat."""
        own = _parameters(self.reference)[: len(self.flats[part].parameters)]
        return torch.cat([parameter.detach().reshape(-1) for parameter in own])

    def fresh(self, part: Part) -> Tensor:
        """Return freshly initialised weights of a part, flat: those of an untrained model and the recipe's seed."""
        own = fresh(self.recipe, self.reference)[: len(self.flats[part].parameters)]
        return torch.cat([parameter.detach().reshape(-1) for parameter in own]).to(self.device)

    def legs(self, stages: Sequence[Stage], part: Part, *purpose: object) -> list[Leg]:
        """Return the legs of a method's stages; `purpose` seeds the noise in them."""

        def start(stage: Stage, number: int, theta: Tensor) -> Tensor:
            begun = self.fresh(part) if stage.fresh else theta
            white = torch.randn(len(begun), generator=seeded(self.recipe.seed, *purpose, number, "weight noise"))
            return begun + stage.noise * white.to(begun.device) if stage.noise else begun

        return legs_of(stages, self.sides, self.steps, start)

    @property
    def identity(self) -> str:
        """Hash of all that a frozen output depends on: weights, data, task and losses."""
        recipe = self.recipe
        sections = [section.model_dump_json() for section in (recipe.model, recipe.task, recipe.forget, recipe.retain)]
        origin = hashlib.sha256(self.origin.cpu().numpy().tobytes()).hexdigest()
        return hashlib.sha256(
            json.dumps(
                [
                    self.facts["data"],
                    self.facts.get("target_weights"),
                    self.frozen[recipe.model.train],
                    origin,
                    sections,
                    torch.__version__,
                ]
            ).encode()
        ).hexdigest()

    def frozen_digest(self, part: Part) -> str:
        """Return the hash of all that training a part must not change as it is now."""
        return frozen_digest(self.student, self.flats[part])


def named(sections: Sequence[S]) -> list[tuple[str, S]]:
    """Return sections with the names of their kinds, the second of a kind as `fid-2`."""
    kinds = [section.kind for section in sections]
    numbers = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
    return [
        (f"{kind}-{number}" if number > 1 else kind, section)
        for kind, number, section in zip(kinds, numbers, sections, strict=True)
    ]


def reason_or(what: Callable[..., T], *arguments: object) -> T | str:
    """Return what a plugin's call returns, or why it failed, so that its failure stays in its own cell."""
    try:
        return what(*arguments)
    except Stopped:
        raise
    except (UserError, ValueError) as error:
        return str(error)
    except Exception as error:  # whatever it is
        return f"{type(error).__name__}: {error}"


def _parameters(adapter: ModelAdapter) -> list[Parameter]:
    """Return all that may be trained, the encoder first, each parameter once."""
    return list(dict.fromkeys([*adapter.trainable("encoder"), *adapter.trainable()]))


def fresh(recipe: Recipe, like: ModelAdapter) -> list[Parameter]:
    """Return the parameters of an untrained model; raise `UserError` where they are not of the sizes of `like`."""
    torch.manual_seed(recipe.seed)
    found, wanted = _parameters(recipe.model.build(None)), _parameters(like)
    if [parameter.shape for parameter in found] != [parameter.shape for parameter in wanted]:
        raise UserError(
            f"model: a {recipe.model.kind} that is trained anew has other sizes than the weights; give the sizes of "
            f"the weights in `model`",
            Exit.RECIPE,
        )
    return found


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
    make_deterministic(device)
    weights = resolve(recipe.model.weights, base)
    forget, retain = split(recipe.data, base, recipe.seed)
    torch.manual_seed(recipe.seed)
    student = recipe.model.build(weights)
    # The reference is copied before anything is trained or resumed, and from the weights file alone.
    reference = copy.deepcopy(student)
    for adapter in (student, reference):
        adapter.module.to(device).eval().requires_grad_(False)
    swept = [one for method in recipe.compare for one in method.each()]
    parts = {recipe.model.train, *(one.part or recipe.model.train for one in swept)}
    if "encoder" in parts:
        _refuse_shared(student)
    whole = Flat(_parameters(student))
    flats: dict[Part, Flat] = {"all": whole, "encoder": whole.first(len(dict.fromkeys(student.trainable("encoder"))))}
    flats[recipe.model.train].alone()
    size = student.image_size
    chosen = {"forget": forget, "retain": retain}
    for wanted in (recipe.task, *recipe.evaluate.tasks):  # one that does not suit the size is refused at once
        wanted.build().degrade(torch.zeros(1, 3, size, size), seeded(recipe.seed, "fits"))
    task = recipe.task.build()
    images = load(chosen, size, recipe.data, device)
    noise = colour_statistics(images["forget"]["train"])
    retained = images["retain"]["train"]
    others: dict[str, str] = {}

    def other(named: str) -> ModelAdapter:
        path = resolve(named, base, "target.weights")
        assert path is not None
        others[named] = sha256(path)
        adapter = recipe.model.build(path)
        adapter.module.to(device).eval().requires_grad_(False)
        return adapter

    drawn = partial(_drawn, retained, chosen["retain"])
    setting = Setting(reference, task, noise, lambda: seeded(recipe.seed, "noise"), drawn, other, base)
    losses: dict[str, Loss] = {"forget": recipe.forget.build(setting), "retain": recipe.retain.build(setting)}
    methods = [(one, tuple(one.build(setting, losses["forget"], losses["retain"]))) for one in swept]
    if any(stage.fresh for _, stages in methods for stage in stages):
        fresh(recipe, reference)  # refused at once where it does not fit
    sides = {
        name: Side(
            name, losses[name], images[name]["train"], task, student, recipe.seed, recipe.training
        )
        for name in SETS
    }  # fmt: skip
    metrics = {name: reason_or(section.build, base, device) for name, section in named(recipe.evaluate.metrics)}
    audits = {
        name: (section, reason_or(section.build, base, device)) for name, section in named(recipe.evaluate.audits)
    }
    facts: dict[str, object] = {
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
    if others:
        facts["target_weights"] = others
    origin = flats[recipe.model.train].theta.detach().clone()
    frozen: dict[Part, str] = {part: frozen_digest(student, flats[part]) for part in sorted(parts)}
    return Workbench(
        recipe, device, student, reference, flats, origin, task, chosen, images, sides, metrics, facts, frozen, methods,
        audits,
    )  # fmt: skip


def _drawn(pixels: Pixels, chosen: Chosen, label: str | None, count: int, generator: torch.Generator) -> Tensor:
    """Return training images of a set, of one class or of any, drawn with replacement."""
    rows = [row for row, item in enumerate(chosen.train) if label in (None, item.label)]
    if not rows:
        raise UserError(
            f"target.name: the {chosen.name} set has no training images of class '{label}'; it has: "
            f"{', '.join(sorted({item.label for item in chosen.train}))}",
            Exit.RECIPE,
        )
    return to_float(pixels[torch.tensor(rows)[torch.randint(len(rows), (count,), generator=generator)]])


def _refuse_shared(adapter: ModelAdapter) -> None:
    """Refuse a model whose frozen part would move with its encoder."""
    if shared := adapter.shared():
        raise UserError(
            f"model: the encoder shares {', '.join(shared[:3])} with the frozen part, which would move with it; the "
            f"adapter must untie them, or use `train: all`",
            Exit.PLUGIN,
        )
