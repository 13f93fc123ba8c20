"""One run from folder to folder: both phases, the methods beside them, evaluation and report."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from unlearnkit.disk import disk_errors, remove_folder, remove_parts, write_json
from unlearnkit.errors import Exit, Stopped, UserError
from unlearnkit.evaluation import instruments, maps
from unlearnkit.evaluation.audits import audited
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.evaluation.measure import Gauge
from unlearnkit.evaluation.models import ORIGINAL, stop_ids
from unlearnkit.evaluation.originals import Originals
from unlearnkit.evaluation.results import collect
from unlearnkit.fronts import CURVE
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report import write as write_report
from unlearnkit.report.controllability import controlled
from unlearnkit.report.gap import gap
from unlearnkit.report.limits import held as held_to
from unlearnkit.run import folder as folders
from unlearnkit.run import manifest, shadows
from unlearnkit.run.events import Run
from unlearnkit.run.export import keep_original
from unlearnkit.run.folder import disk_bytes, held, refuse_begun, refuse_full
from unlearnkit.run.follow import built, spread
from unlearnkit.run.front import bound, polished, sweep
from unlearnkit.run.interrupts import Stop, Tell, device_errors, signals
from unlearnkit.run.solve import solve
from unlearnkit.run.targets import Search, Wanted, wanted
from unlearnkit.run.tasks import entries, lengths
from unlearnkit.seal import SEAL, Sealed
from unlearnkit.solver import ranks
from unlearnkit.solver.dial import Dial
from unlearnkit.solver.phases import named
from unlearnkit.solver.schedule import whole_sets
from unlearnkit.solver.workbench import Workbench

Hand = Callable[[Run, Workbench, Instruments, Sequence[Wanted]], bool]
"""Has others do the tasks of a run that has begun; returns whether this process does what is left, and the rest."""


def alone(run: Run, bench: Workbench, tools: Instruments, targets: Sequence[Wanted]) -> bool:
    """Leave all tasks to this process."""
    return True


def start(
    recipe: Recipe,
    text: str,
    resolved: Mapping[str, Any],
    base: Path,
    folder: Path,
    plugins: Plugins,
    tell: Tell,
    checked: Callable[[], None] = lambda: None,
    hand: Hand = alone,
    varied: Mapping[str, Any] | None = None,
) -> Path:
    """Run a recipe in a new folder and return the folder; relative paths of the recipe start at `base`.

    `checked` is called once the recipe has been found to fit, before anything is written. Of one run of several its
    manifest has the values that tell it from the others, `varied`.
    """
    refuse_begun(folder)
    stop = Stop(tell, begun=False)
    with signals(stop), device_errors():
        bench = built(recipe, resolved, base, folder)
        tools = shadows.checked(bench, instruments.build(recipe.evaluate, base, bench.device))
        targets = wanted(bench, tools)
        model = sum(parameter.numel() for parameter in bench.reference.module.parameters())
        refuse_full(folder, disk_bytes(sizes(bench), recipe.evaluate.images, bench.student.image_size, model))
        checked()
        with held(folder):
            refuse_begun(folder)  # another process may have begun one since
            remove_parts(folder)
            said = folders.begin(folder, text, resolved)
            run = Run(folder, plugins, tell, stop)
            run.manifest = manifest.describe(bench, plugins) | said | folders.places(folder, base)
            run.manifest |= {} if varied is None else {"varied": dict(varied)}
            run.save_manifest()
            stop.begun = True
            _work(run, bench, tools, targets, hand)
    return folder


def resume(
    recipe: Recipe,
    resolved: Mapping[str, Any],
    folder: Path,
    overrides: tuple[str, ...],
    plugins: Plugins,
    tell: Tell,
    checked: Callable[[], None] = lambda: None,
    hand: Hand = alone,
    begun: bool = False,
) -> Path:
    """Continue the run in `folder`, bit for bit; a finished one stays as it is.

    Where `resolved` is another recipe than the run's, what that changes is solved again. `checked` is called as by
    `start`; a run that the same command has `begun` is not noted as one that was resumed.
    """
    folders.begun(folder)
    if (folder / SEAL).exists():
        Sealed.of(folder).verify()
        if not folders.changed(folder, resolved):
            tell({"event": "finished", "report": str(folder / "report.html")})
            return folder
    stop = Stop(tell)
    with signals(stop), device_errors(), held(folder):
        known, changed = folders.begun(folder), folders.changed(folder, resolved)
        basis = folders.basis_of(folder, known)
        threads = basis["device"].get("threads")
        if threads not in (None, torch.get_num_threads()):
            found = f"going on with {threads} threads, with which the run began, where this process had"
            tell({"event": "warning", "message": f"{found} {torch.get_num_threads()}"})
            torch.set_num_threads(threads)
        base = folders.base_of(folder, known)
        bench = built(recipe, resolved, base, folder)
        manifest.refuse_other(folder, basis, bench, changed)
        tools = shadows.checked(bench, instruments.build(recipe.evaluate, base, bench.device))
        targets = wanted(bench, tools)
        checked()
        remove_parts(folder)
        run = Run(folder, plugins, tell, stop)
        run.manifest = known | {"basis": manifest.inputs(bench), **bench.facts, "finished": None}
        if not begun:
            its = {"time": manifest.now(), "set": list(overrides), "processes": ranks.count()}
            run.manifest["resumed"].append(its)
        if changed:
            run.manifest.pop("warnings", None)  # those that still hold come again

        def save(hashes: list[str]) -> None:
            run.manifest["resolved_sha256"] = hashes
            run.manifest["basis_before"] = basis if len(hashes) > 1 else None
            run.save_manifest()

        (folder / SEAL).unlink(missing_ok=True)
        folders.change(folder, resolved, save)
        _work(run, bench, tools, targets, hand)
    return folder


def sizes(bench: Workbench) -> list[int]:
    """Return the entries of each solution's vector, one for each problem of a recipe."""
    return [*entries(bench.recipe, lambda part: bench.flats[part].theta.numel()).values()]


def _work(run: Run, bench: Workbench, tools: Instruments, targets: Sequence[Wanted], hand: Hand) -> None:
    """Solve every problem that is not solved yet, evaluate, write results and report, and seal the folder."""
    folders.recall(run.folder)
    try:
        for place in ("solutions", "checkpoints", "evaluations", "images", *(["audits"] if tools.audits else [])):
            with disk_errors(run.folder):
                (run.folder / place).mkdir(exist_ok=True)
        name, device = bench.recipe.name, str(bench.device)
        whole = sum(lengths(bench.recipe, bench.steps, bench.methods).values())
        run.event("start", name=name, problems=len(sizes(bench)), steps=bench.steps, whole=whole, device=device)
        for note in (*run.manifest.get("notes", ()), *whole_sets(bench.recipe.training, bench.chosen.values())):
            run.event("warning", message=note)
        for what, failed in tools.failures():
            instruments.tell(run, what, failed)
        for note in (*bench.cautions, *(note for part in bench.chosen.values() for note in part.notes)):
            if note not in run.manifest.get("warnings", ()):
                run.warn(note)
        problems = [*named(bench.recipe), *(problem.id for problem in bench.methods)]
        if any(not (run.folder / "solutions" / name).exists() for name in problems):
            _tell_kept(run, bench)
            _refuse_loose(bench)
        if not hand(run, bench, tools, targets):
            return
        bounds = bound(run, bench)
        swept, outside, dial = sweep(run, bench, bounds)
        beside = [solve(run, bench, other, partial(bench.original, other.part), None) for other in bench.methods]
        gauge, retrained = Gauge(Originals(bench), tools, run), [one for one in beside if one.problem.retrained]
        serving = partial(polished, run, bench, bounds, dial)
        aimed = Search(run, gauge, dial, bounds.range, retrained, serving).rows(targets)
        solutions = [bounds.highest, bounds.lowest, *swept, *(one for one, _ in aimed), *beside]
        _shadowed(run, bench, tools, [ORIGINAL, *(one.problem.id for one in solutions)])
        run.event("evaluate", solutions=len(solutions))
        if ranks.count() > 1:
            spread(run, gauge, tools, solutions, dial)
        said = {one.problem.id: target for one, target in aimed}
        results = collect(run.folder, gauge, tools, solutions, bounds.range, outside, dial, said)
        if tools.audits:
            run.event("audit", audits=list(tools.audits), models=len(solutions) + 1)
        results["audits"] = audited(run.folder, bench, tools, solutions, run)
        results["limits"] = held_to([limit.model_dump() for limit in bench.recipe.evaluate.limits], results)
        results["gap"] = gap(results)  # type: ignore[arg-type]
        results["controlled"] = controlled(results)
        _finish(run, bench, results, [solution.problem.id for solution in solutions], tools.audits, dial)
    except Stopped as stopped:
        run.event("stopped", signal=stopped.signal)
        raise


def _shadowed(run: Run, bench: Workbench, tools: Instruments, models: Sequence[str]) -> None:
    """Have audits that are not done of all models remember their shadow models."""
    for name, number, _ in shadows.asked(tools):
        if not all((run.folder / "audits" / name / f"{model}.json").exists() for model in models):
            shadows.shadow(run, bench, tools, name, number)


def _finish(
    run: Run, bench: Workbench, results: dict[str, Any], ids: list[str], audits: Collection[str], dial: Dial
) -> None:
    """Write what the end of a run leaves, remove what a changed recipe or the way there left, and seal the folder."""
    folder = run.folder
    stored = [*ids, CURVE] if dial.kind == "curve" else ids
    keep_original(folder, bench)
    write_json(folder / "results.json", results)
    for kind in ("times", "costs"):
        run.manifest[kind] = {name: value for name, value in run.manifest[kind].items() if name in stored}
    run.manifest["finished"] = manifest.now()
    run.save_manifest()
    models = ["original", *ids]
    left = {*(f"solutions/{name}" for name in stored), *(f"evaluations/{name}.json" for name in models)}
    left |= {f"evaluations/{name}.target.json" for name in ids}
    left |= {f"evaluations/{name}.json" for name in stop_ids(bench.recipe.evaluate.stops)}
    left |= {maps.FILE} if results["maps"] else set()
    left |= {f"audits/{audit}/{name}.json" for audit, name in product(audits, models)}
    for path in (path for pattern in ("solutions/*", "evaluations/*", "audits/*/*") for path in folder.glob(pattern)):
        if path.relative_to(folder).as_posix() not in left:
            _remove(path)
    compared = ("plots", "tables", "comparison.html", "comparison.md")
    for leftover in ("checkpoints", "cache", shadows.FOLDER, folders.TASKS, *compared):
        _remove(folder / leftover)
    run.event("passes", **bench.store.passes)
    sealed = Sealed.measured(folder)
    written = write_report(sealed)
    with run.stop.later():  # what is sealed is finished, whatever comes
        run.event("done", report=str(folder / "report.html"))
        sealed.write([*written, folder / "events.jsonl"])


def _remove(path: Path) -> None:
    with disk_errors(path):
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)


def _tell_kept(run: Run, bench: Workbench) -> None:
    """Say where what is frozen is kept."""
    for side in bench.sides.values():
        _ = side.stages, side.targets
    for name, facts in bench.store.kept.items():
        run.event("cache", name=name, **facts)
        if facts["where"] == "nowhere":
            size = f"{facts['mib']} MiB, more than training.cache has"
            run.warn(f"{name} needs {size}: it is computed at every step again")


def _refuse_loose(bench: Workbench) -> None:
    """Raise `UserError` where the student, the original model so far, keeps every ε as it is: phase 1 takes long."""
    if (values := bench.recipe.epsilons.values) and min(values) > (start := bench.sides["forget"].exact()):
        found = f"all are above {start:.6g}, f1 of the original model, which keeps to them as it is"
        raise UserError(f"epsilons.values: {found}; give smaller ones, or fractions", Exit.RECIPE)
