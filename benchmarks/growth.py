"""`python -m benchmarks.growth`: how our step changes with a value of the recipe, by default with width and images."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import in_turn, ratio
from benchmarks.steps import Step, constrained, prepared, read
from unlearnkit.device import choose_device
from unlearnkit.plugins import Plugins, discover

GROWTHS = {"model.width": ("96", "192", "384"), "training.batch_size": ("8", "16", "32", "64")}
"""What grows, and from where to where."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    recipe = Path(__file__).parents[1] / "recipes" / "mae-airplanes.yaml"
    parser.add_argument("recipe", nargs="?", type=Path, default=recipe, help="(mae-airplanes)")
    parser.add_argument("--key", help="what changes, such as training.compile, with --values")
    parser.add_argument("--values", nargs="+", default=(), help="from which value to which")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (7)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    plugins = discover()
    device = choose_device(read(given.recipe, given.overrides, plugins).training.device)
    print("| what | trained parameters | step ÷ the one before, median [quartiles] |\n|:--|--:|--:|")
    for key, values in ({given.key: given.values} if given.key else GROWTHS).items():
        found = ways(given.recipe, key, values, given.overrides, plugins)
        spent = in_turn({name: step for name, (_, step) in found.items()}, given.rounds, device)
        before = None
        for name, (size, _) in found.items():
            grown = "" if before is None else "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(spent[name], spent[before]))
            print(f"| {name} | {size / 1e6:.2f} M | {grown} |")
            before = name


def ways(
    path: Path, key: str, values: Sequence[str], overrides: Sequence[str], plugins: Plugins
) -> dict[str, tuple[int, Step]]:
    """Return the trained parameters and our step for each value of `key`; a model that changes has no weights."""
    without = ["model.weights=null"] if key.startswith("model.") else []
    found = {}
    for value in values:
        bench = prepared(path, [*overrides, *without, f"{key}={value}"], plugins)
        found[f"`{key}` {value}"] = bench.flat.theta.numel(), constrained(bench)
    return found


if __name__ == "__main__":
    main()
