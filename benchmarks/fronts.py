"""`python -m benchmarks.fronts RECIPE...`: where several ways through phase 2 end, each from the same phase 1."""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.measure import timed
from benchmarks.steps import prepared, read
from unlearnkit.fronts import hypervolume
from unlearnkit.plugins import Plugins, discover
from unlearnkit.run.events import Run
from unlearnkit.run.front import bound, sweep
from unlearnkit.run.interrupts import Stop
from unlearnkit.solver.problem import Check

ALONE = "sweep={kind: independent}"
PUBLISHED = ("control.epsilon={kind: constraint-gap}", "control.multiplier={kind: closed-form}", "control.landing=none")
WAYS = {"our rule": (ALONE,), "published": (ALONE, *PUBLISHED)}
"""Ways through phase 2 by name: what each changes of the recipe."""


@dataclass(frozen=True)
class Front:
    """What one way came to with one seed."""

    checks: Sequence[Check]
    """Of the solutions, by ascending ε."""
    hypervolume: float
    """Share of the rectangle from the highest completeness's f1 and f2 = 0 to the original's f1 and the former's f2."""
    seconds: float
    first: float
    """Seconds of phase 1, which all ways share."""


def main() -> None:
    """Print one table for each recipe."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fronts", description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--way", action="append", default=[], metavar="NAME:KEY=VALUE;...",
        help="a way of your own, instead of our rule and the published one",
    )  # fmt: skip
    given = parser.parse_args()
    own = {name: tuple(filter(None, changes.split(";"))) for name, _, changes in (w.partition(":") for w in given.way)}
    plugins = discover()
    for path in given.recipes:
        found: dict[str, list[Front]] = {}
        for seed in given.seeds:
            for name, front in fronts(path, [*given.overrides, f"seed={seed}"], own or WAYS, plugins).items():
                found.setdefault(name, []).append(front)
        print(f"\n## {path.stem}, seeds {', '.join(map(str, given.seeds))}\n\n{table(found)}", flush=True)


def fronts(
    path: Path, overrides: Sequence[str], ways: Mapping[str, Sequence[str]], plugins: Plugins
) -> dict[str, Front]:
    """Return the front of each way, where all share the boundary solutions of the recipe."""
    bench = prepared(path, overrides, plugins)
    start = bench.sides["forget"].exact()
    with tempfile.TemporaryDirectory() as folder:
        bounds, first = timed(partial(bound, unheard_run(Path(folder, "phase-1"), plugins), bench), bench.device)
        found = {}
        for name, changes in ways.items():
            its = replace(bench, recipe=read(path, [*overrides, *changes], plugins))
            work = partial(sweep, unheard_run(Path(folder, name), plugins), its, bounds)
            (solutions, *_), spent = timed(work, bench.device)
            checks = [solution.last for solution in solutions]
            found[name] = Front(checks, share(checks, bounds.highest.last, start), spent, first)
    return found


def _unheard(event: Mapping[str, object]) -> None:
    """Tell nobody."""


def unheard_run(folder: Path, plugins: Plugins) -> Run:
    """Return a run in a folder that tells nobody."""
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    run = Run(folder, plugins, _unheard, Stop(_unheard))
    run.manifest = {"times": {}, "costs": {}}
    return run


def share(checks: Sequence[Check], corner: Check, start: float) -> float:
    """Return which part of the rectangle from `corner`, the highest completeness, to f1 = `start` they dominate."""
    points = [((check.f1 - corner.f1) / (start - corner.f1), check.f2 / corner.f2) for check in checks]
    return hypervolume(points, (1.0, 1.0))


def table(found: Mapping[str, Sequence[Front]]) -> str:
    """Return the ways' gaps, f2 and hypervolumes as Markdown: means over seeds, ± standard deviations of several."""
    first, *_ = found.values()
    head = ["way", *(f"ε {number}" for number in range(len(first[0].checks))), "hypervolume", "time ÷ first"]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    for name, fronts in found.items():
        by_epsilon = list(zip(*(front.checks for front in fronts), strict=True))
        ratios = [front.seconds / base.seconds for front, base in zip(fronts, first, strict=True)]
        gaps = [[100 * check.gap for check in checks if check.gap is not None] for checks in by_epsilon]
        lines.append([f"{name}: gap %", *(_spread(gap, "+.1f") for gap in gaps), "", ""])
        f2 = [_spread([check.f2 for check in checks], ".3g") for checks in by_epsilon]
        area = _spread([front.hypervolume for front in fronts], ".4f")
        lines.append([f"{name}: f2", *f2, area, _spread(ratios, ".2f")])
        every = [check for checks in by_epsilon for check in checks if check.gap is not None]
        most = max(100 * check.gap for check in every if check.gap is not None)
        active = [100 * check.gap for check in every if check.gap is not None and check.lam > 0]
        least = f"{min(active):+.1f} %" if active else "—"
        lines.append([f"{name}: largest gap {most:+.1f} %, least with λ > 0 {least}", *[""] * (len(head) - 1)])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    count, base = len(first[0].checks), first[0]
    together = (base.first + base.seconds) / (count * base.first + base.seconds)
    return f"{rows}\n\nA run for all {count} ε costs {together:.2f} of a run for each, by the first way's first seed."


def _spread(values: Sequence[float], form: str) -> str:
    mean = format(statistics.fmean(values), form)
    return f"{mean} ± {format(statistics.stdev(values), form.replace('+', ''))}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
