"""`python -m benchmarks.dial RECIPE... --to FOLDER`: the front as one curve beside points solved one by one.

Every way starts from the same phase 1. S is the recipe's budget of one problem; the curve has 5 S steps, and so have
five solves of S, ten of S/2, ten by continuation, and a composite loss with ten α. Each recipe and seed has a JSON file
in the folder; what has one is not measured again, and what was solved before one was stopped stays in `build/dial`.
"""

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fronts import ALONE, share, unheard_run
from benchmarks.steps import prepared, read
from unlearnkit.control import Constant, Stage
from unlearnkit.plugins import Plugins, discover
from unlearnkit.run.front import bound, serve, sweep
from unlearnkit.run.solve import solve
from unlearnkit.solver.dial import Dial
from unlearnkit.solver.phases import Bounds, epsilons
from unlearnkit.solver.problem import Check, Problem, Solution
from unlearnkit.solver.workbench import Workbench

TEN = [round(place / 9, 4) for place in range(10)]
"""Places in the published range of ε that all ways are held against."""
FIVE = [0.0, 0.25, 0.5, 0.75, 1.0]
UNSEEN = 20
"""ε between the highest completeness and the original model that nothing was trained at."""
POLISH = (50, 200)
POLISHED = (0, 4, 9)
"""Of `TEN`, those that are polished, and solved with more steps beside."""
RUNS = Path("build/dial")
"""A folder for each recipe and seed, whose solutions are taken where they were computed from the same."""
LONG = 500
"""Steps of the dedicated solves that are held beside, whatever S is."""


def main() -> None:
    """Measure what has no file yet, and print the tables of all files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dial", description=__doc__)
    parser.add_argument("recipes", nargs="*", type=Path, metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--polish", action="store_true", help="measure polished points and long solves instead")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    plugins = discover()
    for seed in given.seeds:
        for path in given.recipes:
            file = given.to / f"{path.stem}-{seed}{'-polish' if given.polish else ''}.json"
            if not file.exists():
                found = measured(path, [*given.overrides, f"seed={seed}"], plugins, given.polish)
                file.write_text(json.dumps(found, indent=1) + "\n")
    print("\n\n".join(tables(given.to)))


def tables(folder: Path) -> list[str]:
    """Return the tables of all files of a folder, one of each recipe and one of what was polished."""
    every: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text())
        every.setdefault(f"{found['recipe']}{', polished' if 'polish' in found else ''}", []).append(found)
    return [polished(runs) if "polish" in runs[0] else table(runs) for runs in every.values()]


def measured(path: Path, overrides: Sequence[str], plugins: Plugins, polish: bool) -> dict[str, Any]:
    """Return f1 and f2 of every way's points, by way."""
    bench = prepared(path, overrides, plugins)
    steps, forget = bench.steps, bench.sides["forget"]
    half = max(1, round(steps / 2))

    def way(*changes: str) -> Workbench:
        return replace(bench, recipe=read(path, [*overrides, *changes], plugins))

    ten, five = f"epsilons={{fractions: {TEN}}}", f"epsilons={{fractions: {FIVE}}}"
    folder = RUNS / f"{path.stem}-{bench.recipe.seed}"
    begin = lambda name: unheard_run(folder / name, plugins)  # noqa: E731
    bounds = bound(begin("phase-1"), bench)
    low, high = bounds.highest.last, bounds.lowest.last

    def swept(name: str, *changes: str) -> tuple[list[Solution], Dial, dict[str, Any]]:
        solutions, _, dial = sweep(begin(name), way(*changes), bounds)
        return solutions, dial, {"points": [_point(one.last) for one in solutions]}

    _, curve, curved = swept("curve", ten, "sweep={kind: curve, budget: 5}")
    if polish:
        more = _polished(begin, bench, way, bounds, curve, half)
        return {"recipe": path.stem, "seed": bench.recipe.seed, "steps": steps, "polish": more}
    _, line, fived = swept("five", five, ALONE)
    ways: dict[str, Any] = {"curve": curved, "five dedicated": fived}
    ways["polyline through five"] = {"points": _along(bench, line, _epsilons(low.f1, high.f1, TEN))[0]}
    ways["ten dedicated, S/2"] = swept("ten-half", ten, ALONE, f"training.steps={half}")[2]
    dedicated, _, ways["ten dedicated, S"] = swept("ten", ten, ALONE)
    tightened = "sweep={kind: continuation, direction: tighten}"
    ways["continuation, loose to tight"] = swept("continuation", ten, f"training.steps={half}", tightened)[2]
    alphas = [one.last.lam for one in dedicated]
    ways["composite loss, ten α"] = {"points": _composite(begin("composite"), bench, bounds, alphas, half)}
    bench.put(bench.recipe.model.part, bench.origin)
    start = forget.exact()
    wanted = [low.f1 + (place + 0.5) / UNSEEN * (start - low.f1) for place in range(UNSEEN)]
    unseen, looks = _along(bench, curve, wanted)
    return {
        "recipe": path.stem, "seed": bench.recipe.seed, "steps": steps, "corner": _point(low), "lowest": _point(high),
        "start": start, "ways": ways, "unseen": {"epsilon": wanted, "points": unseen, "looks": looks},
    }  # fmt: skip


def _point(check: Check) -> list[float]:
    return [check.f1, check.f2]


def _epsilons(least: float, most: float, fractions: Sequence[float]) -> list[float]:
    return [least + fraction * (most - least) for fraction in fractions]


def _along(bench: Workbench, dial: Dial, wanted: Sequence[float]) -> tuple[list[list[float]], list[int]]:
    """Return f1 and f2 at the point of the dial for each ε, and how many looks at the forget set it took."""
    points, looks = [], []
    forget, retain = bench.sides["forget"], bench.sides["retain"]
    for epsilon in wanted:
        count = [0]

        def at(t: float, count: list[int] = count) -> Tensor:
            count[0] += 1
            return dial.at(t)

        t = replace(dial, at=at).find(bench.flat, forget, epsilon)
        bench.flat.set(dial.at(t))
        points.append([forget.exact(), retain.exact()])
        looks.append(count[0])
    return points, looks


def _composite(run: Any, bench: Workbench, bounds: Bounds, alphas: Sequence[float], steps: int) -> list[list[float]]:
    """Return f1 and f2 of f2 + α f1 from the original model, for α at which dedicated solutions are stationary."""
    losses, points = bench.losses, []
    least = min((alpha for alpha in alphas if alpha > 0), default=1.0)
    for number, alpha in enumerate(alphas):
        stage = Stage(losses.forget, losses.retain, Constant(1, alpha or least / 2), budget=steps / bench.steps)
        problem = Problem(f"composite-{number}", [stage], method="composite", part=losses.part, label=f"α {alpha}")
        points.append(_point(solve(run, bench, problem, lambda: bounds.original, None).last))
    return points


def _polished(begin: Any, bench: Workbench, way: Any, bounds: Bounds, dial: Dial, half: int) -> dict[str, Any]:
    """Return f1 and f2 of some ε after a polish, of solves with as many steps beyond S/2, and of long ones."""
    fractions = [TEN[place] for place in POLISHED]
    wanted = way(f"epsilons={{fractions: {fractions}}}").recipe.epsilons
    inside, _ = epsilons(bench.losses, bench.recipe.control, wanted, bounds.range, bounds.range[1])
    found: dict[str, Any] = {"fractions": fractions}
    for count in POLISH:
        run = begin(f"polish-{count}")
        served = [serve(run, bench, bounds, dial, problem, count) for problem in inside]
        found[f"curve, polished by {count}"] = [_point(one.last) for one in served]
    for count in (*(half + count for count in POLISH), LONG):
        its = way(f"epsilons={{fractions: {fractions}}}", ALONE, f"training.steps={count}")
        solutions, *_ = sweep(begin(f"dedicated-{count}"), its, bounds)
        found[f"dedicated, {count} steps"] = [_point(one.last) for one in solutions]
    return found


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of one recipe: f2 against dedicated solves, hypervolumes, and ε that were never trained at."""
    scale, unit = _scale(point[1] for run in runs for way in run["ways"].values() for point in way["points"])
    heads = [f"{_title(runs)}, {unit}", *(f"{100 * fraction:.0f} %" for fraction in TEN), "hypervolume"]
    rows = [heads, [":--", *["--:"] * (len(heads) - 1)]]
    for name in [name for name in runs[0]["ways"] if all(name in run["ways"] for run in runs)]:
        every = [run["ways"][name]["points"] for run in runs]
        area = _spread([share(_checks(points), *_corner(run)) for points, run in zip(every, runs, strict=True)], ".3f")
        f2 = [_spread([scale * point[1] for point in at], ".3g", ".2g") for at in zip(*every, strict=True)]
        f2 = f2 if len(f2) == len(TEN) and "α" not in name else [""] * len(TEN)
        rows.append([name, *f2, area])
    for base in ("ten dedicated, S/2", "ten dedicated, S"):
        pairs = [zip(*(run["ways"][of]["points"] for of in ("curve", base)), strict=True) for run in runs]
        ratios = [[ours[1] / theirs[1] for ours, theirs in each] for each in pairs]
        rows.append([f"f2 of the curve ÷ {base}", *(_spread(at, ".2f") for at in zip(*ratios, strict=True)), ""])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    gaps = [
        abs(point[0] / epsilon - 1)
        for run in runs
        for point, epsilon in zip(run["unseen"]["points"], run["unseen"]["epsilon"], strict=True)
    ]
    looks = [count for run in runs for count in run["unseen"]["looks"]]
    lines.append(
        f"\n{len(gaps)} ε never trained at: largest gap {100 * max(gaps):.2f} %, looks: median "
        f"{statistics.median(looks):g}, most {max(looks)}."
    )
    return "\n".join(lines)


def polished(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of polished points and long solves of one recipe."""
    fractions, names = runs[0]["polish"]["fractions"], [name for name in runs[0]["polish"] if name != "fractions"]
    every = {name: [[point[1] for point in run["polish"][name]] for run in runs] for name in names}
    scale, unit = _scale(value for points in every.values() for point in points for value in point)
    lines = [f"| {_title(runs)}, {unit} | " + " | ".join(f"{100 * f:.0f} %" for f in fractions) + " |"]
    lines += ["| :-- |" + " --: |" * len(fractions)]
    for name, points in every.items():
        cells = (_spread([scale * value for value in at], ".3g", ".2g") for at in zip(*points, strict=True))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _title(runs: Sequence[Mapping[str, Any]]) -> str:
    seeds = sorted(run["seed"] for run in runs)
    return f"{runs[0]['recipe']} (S = {runs[0]['steps']}), seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _scale(values: Iterable[float]) -> tuple[int, str]:
    """Return what f2 is multiplied by so that it is short to read, and how that is written."""
    return (1000, "f2 × 1,000") if max(values) < 1 else (1, "f2")


def _checks(points: Sequence[Sequence[float]]) -> list[Check]:
    return [Check(0, f1, f2, None, 0.0, 0.0) for f1, f2 in points]


def _corner(run: Mapping[str, Any]) -> tuple[Check, float]:
    (corner,) = _checks([run["corner"]])
    return corner, run["start"]


def _spread(values: Sequence[float], form: str, apart: str = "") -> str:
    mean = format(statistics.fmean(values), form)
    return f"{mean} ± {format(statistics.stdev(values), apart or form)}" if len(values) > 1 else mean


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
