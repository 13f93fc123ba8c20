"""What a recipe would run, how many steps, how long, how much memory and disk, without running it."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from unlearnkit.contracts import Audit, Item, ModelAdapter, Part, draws, trainable
from unlearnkit.data import Chosen, Pixels, few, in_memory, load_apart, sections, weight
from unlearnkit.device import choose_device, memory
from unlearnkit.disk import MIB
from unlearnkit.errors import UserError
from unlearnkit.evaluation.instruments import build as build_instruments
from unlearnkit.recipe.data import Selection
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import ExecutorSection, label
from unlearnkit.recipe.training import Curve, Look
from unlearnkit.recipe.vary import children
from unlearnkit.run.alike import counted
from unlearnkit.run.folder import disk_bytes
from unlearnkit.run.forecast import Spent, forecast, paces, solving
from unlearnkit.run.interrupts import device_errors
from unlearnkit.run.memory import Need, need
from unlearnkit.run.named import look, look_at_all
from unlearnkit.run.pace import pace
from unlearnkit.run.room import gib, held, large, outline
from unlearnkit.run.shadows import costs
from unlearnkit.run.shadows import planned as shadows
from unlearnkit.run.tasks import Task, entries, lengths
from unlearnkit.solver.phases import named as named_problems
from unlearnkit.solver.pretrained import built, pretrained, strangers
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.schedule import budget, whole_sets
from unlearnkit.solver.workbench import SETS, Workbench, adapted, build, compared, swept
from unlearnkit.weights import noted, resolve

PARTS: tuple[Part, ...] = ("encoder", "all")
SHOWN = 5
"""Classes named of many."""
FEW = 1024
"""Images of a smaller look, of which a plan says what it would save."""
SAMPLE = 64
"""Images of each set and split that are looked at where not all are."""


def describe(
    recipe: Recipe, base: Path, every_image: bool = False, timed: bool = True, executor: ExecutorSection | None = None
) -> dict[str, Any]:
    """Return the plan: problems, steps, seconds, sets, memory and disk in MiB, and what is missing on this machine.

    The weights are opened, a sample of the images or `every_image` is decoded, and where nothing is missing a step is
    taken and, if `timed`, measured. Of several runs the first one is described, and problems and steps of all counted.
    """
    resolved = recipe.model_dump(mode="json")
    named, runs = look_at_all(recipe, resolved, base), [run.recipe for run in children(recipe, resolved)] or [recipe]
    recipe = runs[0]
    tried, chosen = named.tried, named.chosen
    device = tried(choose_device, recipe.training.device)
    made: list[Audit | None] = []
    for evaluate in {its.evaluate.model_dump_json(): its.evaluate for its in runs}.values():
        beside = [evaluate.maps.build] if evaluate.maps else []
        made += [tried(one.build, base, torch.device("cpu")) for one in evaluate.audits]
        for instrument in [one.build for one in evaluate.metrics] + beside:
            tried(instrument, base, torch.device("cpu"))
        if evaluate.limits:
            tried(build_instruments, evaluate, base, torch.device("cpu"))
    here, drawn, bench, found = device or torch.device("cpu"), outline(recipe, base), None, None
    if short := large(recipe, base, drawn, here) if drawn else None:
        named.errors.append(short)
    with device_errors(), noted() as notes:
        if chosen and not named.errors:
            some = [few(part, max(SAMPLE, 2 * recipe.training.batch_size)) for part in chosen]
            bench = tried(build, recipe, base, None, some)
        if bench and chosen:
            weights, source = resolve(recipe.model.weights, base), sections(recipe.data)[0]
            chosen = (strangers(weights, source, chosen[0]), chosen[1])
        begun = time.process_time()
        own = bench.student if bench else drawn if short else tried(measured, recipe, base)
        adapter = own or recipe.model.build(None)
        if not (bench or short):
            tried(adapted, recipe, adapter)
        looked = tried(_looked, recipe, chosen, adapter, every_image) if chosen else None
        if bench and timed:
            found = tried(pace, bench)
    sizes = {part: sum(p.numel() for p in trainable(adapter, part)) for part in PARTS}
    added = {id(parameter) for parameter in adapter.adapters}
    all_of_it = sum(parameter.numel() for parameter in adapter.module.parameters() if id(parameter) not in added)
    sets = [_counts(recipe, chosen)]
    sets += [sets[0] if its.data == recipe.data else _counts(its, look(its, base).chosen) for its in runs[1:]]
    budgets, counts = [_budget(*each) for each in zip(runs, sets, strict=True)], sets[0]
    forget, retain, steps = counts["forget"]["train"], counts["retain"]["train"], budgets[0]
    methods = [_methods(bench, its, each) for its, each in zip(runs, budgets, strict=True)]
    taken = [
        None if each is None else lengths(its, each, beside)
        for its, each, beside in zip(runs, budgets, methods, strict=True)
    ]
    work, every = counted([*zip(runs, taken, strict=True)]), [*swept(recipe).values()]
    problems = [*named_problems(recipe), *([one.label for one in methods[0]] or map(label, every))]
    asked = steps and (bench or not every)
    shadowed = tried(shadows, recipe, base, adapter, made, steps, methods[0]) if asked else None
    size, paired = adapter.image_size, chosen is not None and chosen[0].source.paired
    task, of = recipe.task.build(), (recipe.model.part, recipe.training.precision)
    needed = (None if short else tried(need, adapter, task, *of, here, paired)) or Need(0, 0, 0)
    each = weight(size, paired, adapter.scale)
    decoded = [(count or 0) * each for halves in counts.values() for count in halves.values()]
    fits = in_memory(decoded, recipe.data.memory_mib * MIB)
    images = sum(bytes_ for bytes_, held in zip(decoded, fits, strict=True) if held)
    rows = (forget or 0) + (retain or 0)
    once = task.fixed and recipe.training.crop is None and bool(needed.stage or not draws(adapter))
    kept = (needed.embedding * (retain or 0) * (not draws(adapter)) + needed.stage * rows) if once else 0
    room = recipe.training.cache
    where = "memory" if kept <= room.memory_mib * MIB else "disk" if kept <= room.disk_mib * MIB else "nowhere"
    where = where if once else "nowhere"
    ours = kept if where == "disk" and room.shared is None else 0
    vectors = [*entries(recipe, sizes.__getitem__).values()]
    seconds = schedule = None
    if bench and found and looked and work.steps:
        reading = 0.0 if all(fits) else 2 * recipe.training.batch_size * looked.seconds
        usual = replace(found, step=max(found.step, reading))
        different = [one for beside in reversed(methods) for one in beside]  # of one id the first run's
        curved = next((its for its in runs if isinstance(its.sweep, Curve)), recipe)
        with device_errors():
            speeds = tried(paces, curved, bench, usual, different, reading) or {}

        def solved(task: Task, **changes: object) -> Spent:
            number = int(task.place)
            training = runs[number].training.model_copy(update=changes)
            its = runs[number].model_copy(update={"training": training})
            scratch = any(one.scratch for one in methods[number] if one.id == task.id)
            images, known = [sets[number][of]["train"] or 0 for of in SETS], taken[number] or {}
            return solving(speeds.get(task.id, usual), its, task.id, known[task.id], images, scratch=scratch)

        spent = [solved(task) for task in work.once]
        looking = sum(one.looks for one in spent)
        seconds = {
            "step": usual.step,
            "steps": sum(one.steps for one in spent),
            "looks": looking,
            "checkpoints": sum(one.checkpoints for one in spent),
            "saved": looking - sum(solved(task, look=Look(images=FEW)).looks for task in work.once),
            "preparation": rows * (len(runs) * looked.seconds * all(fits) + work.frozen * usual.frozen),
        }
        if executor and steps:
            begin, tools = begun + seconds["preparation"] / len(runs), build_instruments(recipe.evaluate, base, here)
            apart = tried(costs, bench, tools, steps, methods[0]) or {}
            schedule = forecast(
                runs, bench, tools, executor, usual, lambda task: sum(solved(task)), different, apart, begin, counts
            )
    return {
        "name": recipe.name, "device": str(device) if device else recipe.training.device,
        "precision": recipe.training.precision, "problems": problems,
        "audits": [label(section) for section in recipe.evaluate.audits],
        "targets": [label(section) for section in recipe.epsilons.targets], "steps_each": steps,
        "shadows": {
            "models": len(runs) * sum(count for count, _ in shadowed),
            "steps": len(runs) * sum(count * each for count, each in shadowed),
        } if shadowed else {},
        "runs": len(runs), "shared": work.shared, "steps": work.steps,
        "images_seen": 2 * work.steps * recipe.training.batch_size if work.steps else None, "seconds": seconds,
        "schedule": schedule,
        "sets": counts,
        "notes": [
            *notes, *(bench.cautions if bench else ()), *(looked.notes if looked else ()),
            *whole_sets(recipe.training, chosen or ()),
        ],
        "classes": {part.name: list(part.classes) for part in chosen} if chosen else None,
        "parameters": {"trained": sizes[recipe.model.part], "all": all_of_it, "from": "weights" if own else "recipe"},
        "memory_mib": {
            "weights, gradients, optimiser": round(held(recipe, adapter) / MIB), "images": round(images / MIB),
            "kept frozen outputs": round(kept / MIB) if where == "memory" else 0,
            "activations": None if short else round(needed.activations * recipe.training.batch_size / MIB),
        },
        "device_mib": None if (there := memory(here)) is None else round(there / MIB),
        "images": {
            "decoded": "once" if all(fits) else "for each batch where data.memory_mib does not hold them",
            "all_mib": round(sum(decoded) / MIB), "looked_at": looked.count if looked else 0,
        },
        "frozen": {
            "computed": "at every step" if where == "nowhere" else "once an image", "where": where,
            "why": _why(recipe, adapter, once) if where == "nowhere" else None, "kept_mib": round(kept / MIB),
        },
        "disk_mib": round((disk_bytes(vectors, recipe.evaluate.images, size, all_of_it) + ours) / MIB),
        "missing": named.lines, "exit_code": named.code,
    }  # fmt: skip


def measured(recipe: Recipe, base: Path) -> ModelAdapter:
    """Return the recipe's model with its weights, which may bring sizes of their own; raise `UserError` without."""
    return built(recipe.model, resolve(recipe.model.weights, base))


@dataclass(frozen=True)
class _Looked:
    """Images that were decoded, how long one took, and what is to be known of the sets."""

    count: int
    seconds: float
    notes: Sequence[str]


def _looked(recipe: Recipe, chosen: Sequence[Chosen], adapter: ModelAdapter, every: bool) -> _Looked:
    """Decode a sample of images of the sets for a model, spread over each, once `every` image has been looked at."""
    size, scale, cpu, whole = adapter.image_size, adapter.scale, torch.device("cpu"), 0
    if every:
        apart, found = load_apart({part.name: part for part in chosen}, size, recipe.data, cpu, scale)
        whole, chosen = sum(len(half) for halves in found.values() for half in halves.values()), [*apart.values()]
    began, count = time.perf_counter(), 0
    for source, half in [(part.source, half) for part in chosen for half in _halves(part) if half]:
        pixels = Pixels(source, half[:: -(-len(half) // SAMPLE)], size, cpu, scale=scale)
        pixels.pairs(torch.arange(len(pixels)))
        count += len(pixels)
    notes = [note for part in chosen for note in part.notes]
    return _Looked(whole or count, (time.perf_counter() - began) / max(1, count), notes)


def _halves(part: Chosen) -> tuple[Sequence[Item], Sequence[Item]]:
    return part.train, part.validation


def _why(recipe: Recipe, adapter: ModelAdapter, once: bool) -> str:
    """Return why what is frozen cannot be computed once."""
    if recipe.training.crop is not None:
        return "training.crop makes every view new"
    if draws(adapter):
        return f"a {recipe.model.kind} model draws noise of its own at every step"
    return "training.cache has too little room" if once else f"the task {recipe.task.kind} is random"


def _budget(recipe: Recipe, counts: Mapping[str, Mapping[str, int | None]]) -> int | None:
    """Return the steps of one problem, as far as they are known."""
    forget, retain = counts["forget"]["train"], counts["retain"]["train"]
    return budget(recipe.training, forget, retain) if forget and retain else recipe.training.steps


def _methods(bench: Workbench | None, recipe: Recipe, steps: int | None) -> list[Problem]:
    """Return the methods beside one of several runs, of which `bench` is the first; none where they are not known."""
    if bench is None or steps is None:
        return []
    with suppress(UserError):  # of what fits another model alone
        original = partial(pretrained, resolve(recipe.model.weights, bench.base))
        setting = replace(bench.setting, sources=replace(bench.setting.sources, original=original))
        return compared(recipe, setting, bench.losses.forget, bench.losses.retain, steps)
    return []


def _counts(recipe: Recipe, chosen: Sequence[Chosen] | None) -> dict[str, dict[str, int | None]]:
    """Return the images of each set, from the data or, where that is missing, from the recipe."""
    if chosen is not None:
        return {part.name: {"train": len(part.train), "validation": len(part.validation)} for part in chosen}
    return {
        name: {
            half: wanted * classes if wanted and not count.at_most and (classes := _classes(selection)) else None
            for count in [selection.per_class or recipe.data.per_class]
            for half, wanted in (("train", count.train), ("validation", count.validation))
        }
        for name, selection in (("forget", recipe.data.forget), ("retain", recipe.data.retain))
    }


def _classes(selection: Selection) -> int | None:
    """Return the number of whole classes in a set where the recipe alone says it."""
    if selection.files is not None or selection.where is not None or selection.fraction is not None:
        return None
    return selection.draw or (None if selection.classes is None else len(selection.classes))


def lines(plan: dict[str, Any]) -> list[str]:
    """Return a plan as lines for a person."""
    sizes = ", by the sizes in the recipe alone" * (plan["parameters"]["from"] == "recipe")
    rows = [
        f"{plan['name']} on {plan['device']}, {plan['precision']}",
        f"  model: {plan['parameters']['trained']:,} trained parameters of {plan['parameters']['all']:,}{sizes}",
    ]
    for name, counts in plan["sets"].items():
        classes = plan["classes"][name] if plan["classes"] else []
        named = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
        of = f" of {len(classes):,} classes: {named}" if classes else ""
        training, validation = map(_shown, counts.values())
        rows.append(f"  {name} set: {training} training and {validation} validation images{of}")
    rows += [f"  {note}" for note in plan["notes"]]
    times = f", and such in each of {plan['runs']} runs" if plan["runs"] > 1 else ""
    each, steps = _shown(plan["steps_each"]), _shown(plan["steps"])
    rows.append(f"  {len(plan['problems'])} problems on a budget of {each} steps{times}: {steps} steps")
    if (shared := plan["shared"])["problems"]:
        less = "" if shared["steps"] is None else f", which saves {shared['steps']:,} steps"
        rows.append(f"    {shared['problems']} more are alike in several runs and solved once{less}")
    rows += [f"    {problem}" for problem in plan["problems"]]
    if plan["targets"]:
        rows += ["  looked for between them, and polished where that is asked for:"]
        rows += [f"    {target}" for target in plan["targets"]]
    if (spent := plan["seconds"]) is not None:
        parts = ", ".join(f"{what} {_long(spent[what])}" for what in ("steps", "looks", "checkpoints", "preparation"))
        rows.append(f"  time here by a measured step of {spent['step']:.2g} s: {parts}")
        if spent["saved"] > 0:
            rows.append(f"    training.look: {{images: {FEW}}} would save {_long(spent['saved'])} of the looks")
        rows.append("    looks are those at whole sets, with landing; evaluation and audits come on top")
    if (by := plan["schedule"]) is not None:
        kind, workers = by["executor"]["kind"], by["executor"]["workers"]
        rows.append(
            f"  {kind}, {workers} at a time: {_long(by['makespan'])} for {by['tasks']} tasks, {_long(by['serial'])} "
            f"one after the other, {_long(by['critical'])} in the longest chain"
        )
        rows.append(f"    with {_long(by['begin'])} until a process is at work; audits come on top")
    if plan["audits"]:
        rows += ["  audits of the original and of each solution:", *(f"    {audit}" for audit in plan["audits"])]
    if apart := plan["shadows"]:
        there = f", {_long(apart['steps'] * plan['seconds']['step'])} on top" if plan["seconds"] else ""
        rows.append(f"    {apart['models']} shadow models, trained and unlearned: {apart['steps']:,} steps{there}")
    taken = {what: value for what, value in plan["memory_mib"].items() if value is not None}
    rows.append("  memory, MiB: " + ", ".join(f"{what} {value:,}" for what, value in taken.items()))
    if (there := plan["device_mib"]) is not None:
        total, least = sum(taken.values()), next(iter(taken.values()))
        more = "; lower training.batch_size, training.cache.memory_mib or data.memory_mib" * (least <= there < total)
        rows.append(f"    {gib(total * MIB)} in all, of {gib(there * MIB)} that {plan['device']} has{more}")
    if plan["images"]["decoded"] != "once":
        rows.append(f"  images: {plan['images']['all_mib']:,} MiB, decoded {plan['images']['decoded']}")
    frozen = plan["frozen"]
    kept = f" ({frozen['why']})" if frozen["why"] else f", {frozen['kept_mib']:,} MiB in {frozen['where']}"
    rows.append(f"  frozen outputs: computed {frozen['computed']}{kept}")
    rows.append(f"  disk, MiB: {plan['disk_mib']:,}{' a run' if plan['runs'] > 1 else ''}")
    looked = plan["images"]["looked_at"]
    missing = [f"    {line}" for text in plan["missing"] for line in text.splitlines()]
    if missing:
        return [*rows, "  missing or wrong here:", *missing]
    return [*rows, f"  nothing is missing: the weights fit, and {looked:,} images were looked at"]


def _long(seconds: float) -> str:
    """Return a time as people say it."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def _shown(value: int | None) -> str:
    return "an unknown number of" if value is None else f"{value:,}"
