"""`python -m benchmarks.adapters RECIPE...`: low-rank adapters beside training the weights of the same part.

Each way has a phase 1 of its own, and is then solved at the same ε: fractions of what the first way's phase 1 found.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.fronts import ALONE, unheard_run
from benchmarks.measure import in_turn, peak_bytes, ratio
from benchmarks.steps import constrained, prepared, several
from unlearnkit.plugins import Plugins, discover
from unlearnkit.run.front import bound, sweep
from unlearnkit.run.room import held

WAYS = {
    "weights": ["model.train=encoder"],
    "rank 8": ["model.train=lora"],
    "rank 8, three times the rate": ["model.train=lora", "training.optimizer.lr={}"],
}
"""What each changes of the recipe, with the place of its rate."""
FASTER = 3
FRACTIONS = (0.1, 0.5)
ROUNDS, STEPS = 15, 2


def main() -> None:
    """Print a table for each recipe."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    for path in given.recipes:
        print(f"\n## {path.stem}\n")
        for row in rows(path, given.overrides, discover()):
            print(f"| {' | '.join(row)} |", flush=True)


def rows(path: Path, overrides: Sequence[str], plugins: Plugins) -> Iterator[list[str]]:
    """Yield what each way trains, what its step takes of the first way's, and where it ends; f2 times 1,000."""
    rate = FASTER * prepared(path, overrides, plugins).recipe.training.optimizer.lr
    ways = {name: [*overrides, *(change.format(rate) for change in changes)] for name, changes in WAYS.items()}
    benches = {name: prepared(path, changes, plugins) for name, changes in ways.items()}
    first, device = next(iter(benches)), next(iter(benches.values())).device
    steps = {name: constrained(bench) for name, bench in benches.items()}
    peaks = {name: peak_bytes(step, device) for name, step in steps.items()}
    spent = in_turn({name: partial(several, step, STEPS) for name, step in steps.items()}, ROUNDS, device)
    head = ["way", "trained", "step ÷", "held ÷", "peak of a step ÷", "f1 from", "to", *map(str, FRACTIONS)]
    yield from (head, [":--", *["--:"] * (len(head) - 1)])
    values: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, bench in benches.items():
            bounds = bound(unheard_run(Path(folder, name, "1"), plugins), bench)
            low, high = bounds.range
            values = values or [low + fraction * (high - low) for fraction in FRACTIONS]
            its = prepared(path, [*ways[name], ALONE, f"epsilons={{values: {values}}}"], plugins)
            solved, *_ = sweep(unheard_run(Path(folder, name, "2"), plugins), its, bounds)
            f2 = {one.problem.epsilon: f"{1000 * one.last.f2:.3g}" for one in solved}
            added = sum(parameter.numel() for parameter in bench.student.adapters)
            model = sum(parameter.numel() for parameter in bench.student.module.parameters()) - added
            its_held, whole = held(bench.recipe, bench.student), held(benches[first].recipe, benches[first].student)
            yield [
                name, f"{bench.flat.theta.numel() / 1e6:.3f} M of {model / 1e6:.2f} M",
                "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(spent[name], spent[first])), f"{its_held / whole:.2f}",
                f"{peaks[name] / peaks[first]:.2f}", f"{low:.3g}", f"{high:.3g}",
                *(f2.get(value, "out of reach") for value in values),
            ]  # fmt: skip


if __name__ == "__main__":
    main()
