"""Everything the method works with, built from a recipe before anything is written."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

from unlearnkit.contracts import Item, Loss, ModelAdapter, Part, Setting, Size, Task, shared, trainable
from unlearnkit.control import Constant, Stage
from unlearnkit.data import (
    Chosen,
    Pixels,
    load_apart,
    refuse_misfit,
    sections,
    seeded,
    shrunk,
    split,
    whole_digest,
)
from unlearnkit.device import choose_device, make_deterministic
from unlearnkit.disk import MIB, expanded, sha256
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import MethodSection, label
from unlearnkit.solver import lora
from unlearnkit.solver.curve import CurveDescent
from unlearnkit.solver.descent import NEAR, Descent
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.frozen import Store
from unlearnkit.solver.origin import Origin, digest, plain, processor, software
from unlearnkit.solver.phases import Losses
from unlearnkit.solver.pretrained import built, strangers
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.schedule import budget
from unlearnkit.solver.shares import share
from unlearnkit.solver.side import Side
from unlearnkit.solver.sources import sources
from unlearnkit.solver.tryout import try_losses, try_parts, unreached
from unlearnkit.weights import noted, resolve

SETS = ("forget", "retain")
SPLITS = ("train", "validation")
LONGEST = 60
"""Characters of a method's id at most, which names files."""
UNFELT = ("steps", "epochs", "checkpoint_every", "cache", "device")
"""Fields of `training` that change no solution, or are told in another way: steps as a number, the device by itself."""


@dataclass(frozen=True)
class Workbench:
    """Student, reference, data and losses of one recipe."""

    recipe: Recipe
    device: torch.device
    student: ModelAdapter
    reference: ModelAdapter
    setting: Setting
    """What losses and methods were built for."""
    flats: Mapping[Part, Flat]
    """The parameters that a problem may train, by part; those of the encoder come first in those of all."""
    task: Task
    chosen: Mapping[str, Chosen]
    images: Mapping[str, Mapping[str, Pixels]]
    """By set and split: uint8 [N, 3, S, S]; the training images come on the device."""
    sides: Mapping[str, Side]
    store: Store
    """Where what is frozen is kept."""
    methods: Sequence[Problem]
    """The methods of `compare`, one for each value of what they sweep."""
    facts: Mapping[str, object]
    """What the manifest records of weights and data."""
    basis: Origin
    """What every solution depends on, by name."""
    validation: Mapping[str, str]
    """The hash of each set's validation images, which figures depend on too."""
    base: Path
    """The recipe's folder, where relative paths start."""
    cautions: Sequence[str]
    """What its author may not mean, for the plan and the report."""

    @property
    def flat(self) -> Flat:
        """The parameters that the ε solutions train."""
        return self.flats[self.recipe.model.part]

    @property
    def losses(self) -> Losses:
        """f1, f2 and what they are lowered by."""
        return Losses(self.sides["forget"].loss, self.sides["retain"].loss, self.recipe.model.part)

    @property
    def steps(self) -> int:
        """The steps of one problem."""
        return budget(self.recipe.training, *(self.sides[name].count for name in SETS))

    @cached_property
    def origin(self) -> Tensor:
        """The reference's parameters of the part that the recipe trains, flat."""
        return self.original(self.recipe.model.part)

    def origin_of(self, problem: Problem) -> Origin:
        """Return all that the solution of a problem depends on."""
        made = {name: plain(value, self.base) for name, value in problem.made.items()}
        used = {"software": self.basis["software"] | software(problem.made.values())}
        own = {name: getattr(problem, name) for name in ("id", "part", "objective", "epsilon")}
        budgets = [stage.budget for stage in problem.stages]
        apart = [_apart(stage, self.base) for stage in problem.stages if stage.fresh]
        return {**self.basis, **used, **own, "budgets": budgets, "made": made, **({"fresh": apart} if apart else {})}

    def origin_of_scratch(self, problem: Problem) -> Origin:
        """Return all that the weights of a problem depend on that starts from scratch: no θ0, and no image unread."""
        (stage,) = problem.stages
        weighed = isinstance(rule := stage.rule, Constant) and [rule.weight, rule.lam]
        both = {"forget": [self.basis["data"]["forget"], weighed]} if stage.forget else {}
        training = self.recipe.training.model_copy(update=dict(stage.settings))
        said = training.model_dump(mode="json", exclude={*UNFELT, "checks"})
        return {
            **{name: self.basis[name] for name in ("software", "device", "task")},
            "model": {name: value for name, value in self.basis["model"].items() if name != "weights"},
            "frozen": frozen_digest(self.reference, "all"), "part": problem.part, "data": self.basis["data"]["retain"],
            "seed": self.recipe.seed if stage.seed is None else stage.seed,
            "training": {**said, "steps": stage.steps(self.steps)}, **both,
        }  # fmt: skip

    def hashes_at(self, size: Size) -> dict[str, dict[str, str]]:
        """Return, by split and set, the hash of what the images are at another size than the model's."""
        chosen = dict(zip(SETS, split(self.recipe.data, self.base, self.recipe.seed), strict=True))
        streamed = self.recipe.data.model_copy(update={"memory_mib": 0, "workers": 0})  # beside those in memory
        return _hashes(load_apart(chosen, size, streamed, torch.device("cpu"), self.student.scale)[1])

    def data_before(self) -> list[dict[str, object]]:
        """Return what the facts say of the data with the hashes of 0.2.0, for which all images are decoded."""
        return _described(self.chosen, _hashes(self.images, whole_digest))

    def put(self, part: Part, theta: Tensor) -> None:
        """Put the student at the weights `theta` of a part; all else is as in the reference."""
        for own, was in zip(trainable(self.student), trainable(self.reference), strict=True):
            own.data.copy_(was.data)
        self.flats[part].set(theta)

    def original(self, part: Part) -> Tensor:
        """Return the reference's parameters of a part, flat."""
        return flattened(trainable(self.reference, part))

    def begun(self, problem: Problem) -> Descent:
        """Return a problem at its first stage, with the student at the original weights."""
        origin = self.original(problem.part)
        self.put(problem.part, origin)
        if self.student.adapters:
            _ = self._frozen  # shared with the reference, so that it is looked at before anything is trained
        flat, start = self.flats[problem.part].alone(), partial(self._start, problem)
        training, close = self.recipe.training, partial(self.close, flat, origin)
        if problem.span is not None:
            return CurveDescent(problem, problem.span, flat, self.sides, training, self.steps, origin, close)
        return Descent(problem, flat, self.sides, training, self.steps, start, close)

    def close(self, flat: Flat, origin: Tensor) -> bool:
        """Tell whether the student's weights are near the original ones."""
        if self.student.adapters:
            return lora.change(self.student) < NEAR
        return bool((flat.theta - origin).norm() < NEAR * origin.norm())

    def _start(self, problem: Problem, stage: Stage, number: int, theta: Tensor) -> Tensor:
        """Return the weights that a stage starts from: those it finds, or fresh ones, with its noise on them."""
        if stage.fresh:
            own = fresh(self.recipe, self.reference, stage.seed)[: len(self.flats[problem.part].parameters)]
            anew = flattened(own).to(self.device)
            theta = anew if stage.fresh == 1 else theta.lerp(anew, stage.fresh)
        if not stage.noise:
            return theta
        white = torch.randn(len(theta), generator=seeded(self.recipe.seed, problem.id, number, "weight noise"))
        return theta + stage.noise * white.to(theta.device)

    @cached_property
    def _frozen(self) -> Mapping[Part, str]:
        return {part: frozen_digest(self.reference, part) for part in self.flats}

    def unchanged(self, part: Part) -> bool:
        """Tell whether all that training a part must not change is in the student as it came."""
        return frozen_digest(self.student, part) == self._frozen[part]


def parts(recipe: Recipe) -> set[Part]:
    """Return all that the problems of a recipe train."""
    return {recipe.model.part, *(one.part or recipe.model.part for one in recipe.compare)}


def adapted(recipe: Recipe, model: ModelAdapter) -> ModelAdapter:
    """Return a model with the adapters that the problems of a recipe train, where it is those."""
    lora.add(model, recipe.model.lora, "all" if "all" in parts(recipe) else "encoder", recipe.seed)
    return model


def flattened(parameters: Sequence[Parameter]) -> Tensor:
    """Return parameters as one vector."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in parameters])


def fresh(recipe: Recipe, like: ModelAdapter, seed: int | None = None) -> list[Parameter]:
    """Return the parameters of an untrained model, of the recipe's seed or another one.

    Raise `UserError` where they are not of the sizes of `like`.
    """
    torch.manual_seed(recipe.seed if seed is None else seed)
    found, wanted = trainable(recipe.model.build(None)), trainable(like)
    if [parameter.shape for parameter in found] != [parameter.shape for parameter in wanted]:
        raise UserError(
            f"model: a {recipe.model.kind} that is trained anew has other sizes than the weights; give the sizes of "
            f"the weights in `model`",
            Exit.RECIPE,
        )
    return found


def frozen_digest(model: ModelAdapter, part: Part) -> str:
    """Return a hash of all that training a part must not change: a model's other parameters, and its buffers."""
    trained = {parameter.data_ptr() for parameter in trainable(model, part)}
    state = hashlib.sha256()
    for name, value in model.module.state_dict().items():
        if value.data_ptr() not in trained:
            state.update(name.encode() + value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def build(recipe: Recipe, base: Path, cache: Path | None = None, sets: Sequence[Chosen] = ()) -> Workbench:
    """Build the workbench; raise `UserError` for whatever the recipe names that is missing or does not fit.

    What is frozen is kept in memory, and where that is full in the folder `cache`. Its images are those of `sets`, the
    forget and the retain set, or where these are not given those that the recipe selects.
    """
    device = choose_device(recipe.training.device)
    make_deterministic(device)
    weights = resolve(recipe.model.weights, base)
    chosen = {part.name: part for part in sets or split(recipe.data, base, recipe.seed)}
    weighed = sha256(weights) if weights else None
    torch.manual_seed(recipe.seed)
    with noted() as notes:
        student = built(recipe.model, weights)
    if "encoder" in parts(recipe):
        _refuse_shared(student)
    adapted(recipe, student).module.to(device).eval().requires_grad_(False)
    # The reference is copied before anything is trained or resumed, and from the weights file alone.
    reference = lora.original(student)
    flats = _flats(student)
    flats[recipe.model.part].alone()
    paired = chosen["forget"].source.paired
    for wanted in (recipe.task, *recipe.evaluate.tasks):  # one that does not suit the size is refused at once
        refuse_misfit(student, wanted.build(), paired, seeded(recipe.seed, "fits"))
    try_parts(recipe, reference, device, paired)
    task = recipe.task.build()
    chosen, pixels = load_apart(chosen, student.image_size, recipe.data, device, student.scale)
    chosen["forget"] = strangers(weights, sections(recipe.data)[0], chosen["forget"])
    others: dict[str, str] = {}
    size = shrunk(student.image_size, student.scale) if paired else None
    setting = Setting(reference, task, sources(recipe, base, device, weights, chosen, pixels, others, notes, size))
    losses = {"forget": recipe.forget.build(setting), "retain": recipe.retain.build(setting)}
    steps = budget(recipe.training, *(len(chosen[name].train) for name in SETS))
    methods = compared(recipe, setting, losses["forget"], losses["retain"], steps)
    for problem in methods:
        lora.refuse(problem.label, student, problem.stages)
    if any(stage.fresh for problem in methods for stage in problem.stages):
        fresh(recipe, reference)  # refused at once where it does not fit
    hashes = _hashes(pixels)
    facts: dict[str, object] = {
        "weights": {"ref": recipe.model.weights, "sha256": weighed},
        "data": _described(chosen, hashes),
        **({"target_weights": others} if others else {}),
        **({"notes": notes} if notes else {}),
    }
    basis = _basis(recipe, base, device, weighed, hashes["train"], steps)
    room = recipe.training.cache
    frozen = digest({name: value for name, value in basis.items() if name != "training"})
    kept = cache if room.shared is None else expanded(base, room.shared)
    store = Store(kept, room.memory_mib * MIB, room.disk_mib * MIB, frozen, device)
    sides = {
        name: Side(name, loss, pixels[name]["train"], task, student, recipe.seed, recipe.training, store)
        for name, loss in losses.items()
    }
    try_losses(recipe, sides, methods)
    share(student, flats, sides, methods)
    return Workbench(
        recipe, device, student, reference, setting, flats, task, chosen, pixels, sides, store, methods, facts, basis,
        hashes["validation"], base, unreached(recipe, sides, student),
    )  # fmt: skip


def _flats(student: ModelAdapter) -> dict[Part, Flat]:
    whole = Flat(trainable(student))
    return {"all": whole, "encoder": whole.first(len(trainable(student, "encoder")))}


def compared(recipe: Recipe, setting: Setting, forget: Loss, retain: Loss, steps: int) -> list[Problem]:
    """Return the problem of each method beside a recipe, called as its solution is where one has so many steps."""
    psi = recipe.control.epsilon.build()
    return [
        _called(one, steps, Problem(
            name, tuple(one.build(setting, forget, retain)), psi, one.kind, label=label(one),
            part=one.part or recipe.model.part, made={"method": one, "epsilon": recipe.control.epsilon},
        ))
        for name, one in swept(recipe).items()
    ]  # fmt: skip


def _called(method: MethodSection, steps: int, problem: Problem) -> Problem:
    """Return a problem by another label where it was retrained: a yardstick, or too brief to be one."""
    if not method.retrained:
        return problem
    taken, last = problem.steps(steps), problem.stages[-1]
    seed = "" if last.seed is None else f", seed {last.seed}"
    if last.whole is not None and taken >= last.whole:
        return replace(problem, retrained=True, label=f"retrained, {taken:,} steps{seed}")
    of = f"of {last.whole:,} steps" if last.whole is not None else "steps, of the original's nothing is known"
    return replace(problem, brief=(taken, last.whole), label=f"retrained briefly: {taken:,} {of}{seed}")


def _apart(stage: Stage, base: Path) -> Origin:
    """Return what of a stage says how it differs from the recipe's training."""
    said = {"least": stage.least, "seed": stage.seed, "settings": plain(stage.settings, base)}
    return said | ({"fresh": stage.fresh} if stage.fresh < 1 else {})


def swept(recipe: Recipe) -> dict[str, MethodSection]:
    """Return the methods beside a recipe, one for each value of what they sweep, by id.

    The id is that of the label wherever a method stands, a second of the same numbered.
    """
    methods, found = [one for method in recipe.compare for one in method.each()], list[str]()
    for name in (re.sub("[^a-z0-9.]+", "-", label(one).lower()).strip("-.") for one in methods):
        short = name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{digest(name)[:8]}"
        again = sum(one == short or one.startswith(f"{short}--") for one in found)
        found.append(f"{short}--{again + 1}" if again else short)
    return dict(zip(found, methods, strict=True))


def _hashes(
    images: Mapping[str, Mapping[str, Pixels]], of: Callable[[Pixels], str] = attrgetter("digest")
) -> dict[str, dict[str, str]]:
    """Return, by split and set, the hash of the images with their names and classes, in their order."""

    def seen(pixels: Pixels) -> str:
        return digest([of(pixels), [[item.key, item.label] for item in pixels.items]])

    return {half: {name: seen(images[name][half]) for name in SETS} for half in SPLITS}


def listed(part: Chosen) -> str:
    """Return the images of a set, one a line: those of the forget set that are files as `sha256sum` lists them.

    All others have their key alone: no file of a retain set, which can be large, is read for it.
    """

    def line(item: Item) -> str:
        hashed = part.source.fingerprint(item, whole=True) if part.name == "forget" else None
        return f"{hashed}  {item.key}\n" if hashed else f"{item.key}\n"

    return "".join(line(item) for item in sorted((*part.train, *part.validation), key=attrgetter("key")))


def _described(chosen: Mapping[str, Chosen], hashes: Mapping[str, Mapping[str, str]]) -> list[dict[str, object]]:
    def of(part: Chosen) -> dict[str, object]:
        files, seen = listed(part), {half: hashes[half][part.name] for half in SPLITS}
        return {
            "set": part.name, **part.source.describe(), "classes": list(part.classes), "digest": digest(seen),
            "files": len(part.train) + len(part.validation), "files_sha256": hashlib.sha256(files.encode()).hexdigest(),
        }  # fmt: skip

    return [of(part) for part in chosen.values()]


def _basis(
    recipe: Recipe, base: Path, device: torch.device, weights: str | None, data: Mapping[str, str], steps: int
) -> Origin:
    """Return what every solution depends on; fields that change no bit of one are left out."""
    sections = {"model": recipe.model, "task": recipe.task, "forget": recipe.forget, "retain": recipe.retain}
    said = {name: plain(section, base) for name, section in sections.items()}
    training = recipe.training.model_dump(mode="json", exclude=set(UNFELT))
    adapters = recipe.model.lora and recipe.model.lora.model_dump(mode="json", exclude={"part"})
    return {
        "software": software(sections.values()), "device": processor(device), "seed": recipe.seed, **said,
        "model": {**said["model"], "weights": weights, "train": adapters}, "data": data,
        "training": {**training, "steps": steps},
    }  # fmt: skip


def _refuse_shared(adapter: ModelAdapter) -> None:
    """Refuse a model whose frozen part would move with its encoder."""
    if names := shared(adapter):
        raise UserError(
            f"model: the encoder shares {', '.join(names[:3])} with the frozen part, which would move with it; the "
            f"adapter must untie them, or use `train: all`",
            Exit.PLUGIN,
        )
