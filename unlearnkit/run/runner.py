"""One run from folder to folder: both phases, the methods beside them, evaluation and report."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from unlearnkit.disk import disk_errors, write_file, write_json
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation import instruments
from unlearnkit.evaluation.audits import audited
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.evaluation.results import collect
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report import write as write_report
from unlearnkit.run import manifest
from unlearnkit.run.events import Run, Tell
from unlearnkit.run.folder import disk_bytes, held, read_json, refuse_begun, refuse_full
from unlearnkit.run.interrupts import device_errors, signals
from unlearnkit.run.solve import solve
from unlearnkit.solver.landing import between
from unlearnkit.solver.phases import Bounds, boundaries, epsilons, front
from unlearnkit.solver.problem import Solution
from unlearnkit.solver.workbench import Workbench, build


def start(
    recipe: Recipe, text: str, resolved: Mapping[str, Any], base: Path, folder: Path, plugins: Plugins, tell: Tell
) -> Path:
    """Run a recipe in a new folder and return the folder; relative paths of the recipe start at `base`."""
    refuse_begun(folder)
    bench = build(recipe, base, folder / "cache")
    tools = instruments.build(recipe.evaluate, base, bench.device)
    refuse_full(folder, disk_bytes(sizes(bench), recipe.evaluate.images, bench.student.image_size))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        run = Run(folder, plugins, tell)
        run.manifest = manifest.describe(bench, plugins, text, base)
        write_file(folder / "recipe.yaml", text.encode())
        write_json(folder / "recipe.resolved.json", resolved)
        run.save_manifest()
        _work(run, bench, tools)
    return folder


def resume(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell
) -> Path:
    """Continue the run in `folder` from its last checkpoint, bit for bit unless `overrides` change the recipe."""
    with held(folder):
        run = Run(folder, plugins, tell)
        run.manifest = read_json(folder / "manifest.json")
        base = Path(run.manifest["base"])
        bench = build(recipe, base, folder / "cache")
        for what, found in bench.facts.items():
            if found != run.manifest.get(what):
                named = what.replace("_", " ")
                raise UserError(f"{folder}: the {named} changed since the run began; run the recipe again", Exit.FOLDER)
        tools = instruments.build(recipe.evaluate, base, bench.device)
        if overrides:
            write_json(folder / "recipe.resolved.json", resolved)
        run.manifest["resumed"].append({"time": manifest.now(), "set": list(overrides)})
        run.save_manifest()
        for changed in (entry["set"] for entry in run.manifest["resumed"] if entry["set"]):
            run.warn(f"resumed with {', '.join(changed)}: solutions found before used the old value")
        _work(run, bench, tools)
    return folder


def sizes(bench: Workbench) -> list[int]:
    """Return the entries of each solution's vector, one for each problem of a recipe."""
    own = [bench.flat.theta.numel()] * (2 + bench.recipe.epsilons.count)
    return own + [bench.flats[problem.part].theta.numel() for problem in bench.methods]


def _work(run: Run, bench: Workbench, tools: Instruments) -> None:
    """Solve every problem that is not solved yet, evaluate, and write results and report."""
    with signals(run), device_errors():
        name, device = bench.recipe.name, str(bench.device)
        run.event("start", name=name, problems=len(sizes(bench)), steps=bench.steps, device=device)
        for what, failed in tools.failures():
            instruments.tell(run, what, failed)
        _prepare(run, bench)
        bounds = bound(run, bench)
        swept, outside = sweep(run, bench, bounds)
        beside = [solve(run, bench, other, partial(bench.original, other.part), None) for other in bench.methods]
        solutions = [bounds.highest, bounds.lowest, *swept, *beside]
        run.event("evaluate", solutions=len(solutions))
        with disk_errors(run.folder):
            results = collect(run.folder, bench, tools, solutions, bounds.range, outside, run)
            if tools.audits:
                run.event("audit", audits=list(tools.audits), models=len(solutions) + 1)
            results["audits"] = audited(run.folder, bench, tools, solutions, run)
            write_json(run.folder / "results.json", results)
            run.manifest["finished"] = manifest.now()
            run.save_manifest()
            write_report(run.folder)
        for leftover in ("checkpoints", "cache"):
            shutil.rmtree(run.folder / leftover, ignore_errors=True)
        run.event("passes", **bench.store.passes)
        run.event("done", report=str(run.folder / "report.html"))


def _prepare(run: Run, bench: Workbench) -> None:
    """Compute once what is frozen, and say where it is kept."""
    for side in bench.sides.values():
        _ = side.stages, side.targets
    for name, facts in bench.store.kept.items():
        run.event("cache", name=name, **facts)
        if facts["where"] == "nowhere":
            size = f"{facts['mib']} MiB, more than training.cache has"
            run.warn(f"{name} needs {size}: it is computed at every step again")


def bound(run: Run, bench: Workbench) -> Bounds:
    """Return phase 1."""
    return boundaries(bench.losses, bench.recipe.control, bench.origin, partial(solve, run, bench))


def sweep(run: Run, bench: Workbench, bounds: Bounds) -> tuple[list[Solution], list[dict[str, object]]]:
    """Return phase 2 by ascending ε, and each ε outside the range with why; raise `UserError` where none is inside."""
    recipe, valid = bench.recipe, bounds.range
    inside, outside = epsilons(bench.losses, recipe.control, recipe.epsilons, valid)
    for entry in outside:
        run.event("warning", message=f"ε = {entry['epsilon']} was not run: {entry['reason']}")
    if not inside:
        missed = f"none is inside the valid range {valid[0]:.6g} to {valid[1]:.6g}; give values in it, or fractions"
        raise UserError(f"epsilons.values: {missed}. The boundary solutions are saved in {run.folder}", Exit.RECIPE)
    line, lands = partial(between, bench.flat, bench.sides["forget"]), recipe.control.landing == "line"
    solutions = front(bounds, inside, recipe.sweep, line, lands, partial(solve, run, bench))
    by_id = {solution.problem.id: solution for solution in solutions}
    return [by_id[problem.id] for problem in inside], outside
