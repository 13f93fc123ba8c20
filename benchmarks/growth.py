"""`python -m benchmarks.growth`: how our step grows with the model's width and with the images in it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import in_turn, ratio
from benchmarks.steps import Step, constrained, prepared, read
from unlearnkit.device import choose_device
from unlearnkit.plugins import Plugins, discover

GROWTHS = {"model.width": (96, 192, 384), "training.batch_size": (8, 16, 32, 64)}
"""What grows, and from where to where."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    recipe = Path(__file__).parents[1] / "recipes" / "mae-airplanes.yaml"
    parser.add_argument("recipe", nargs="?", type=Path, default=recipe, help="of a model with a width (mae-airplanes)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (7)")
    given = parser.parse_args()
    plugins = discover()
    device = choose_device(read(given.recipe, [], plugins).training.device)
    print("| what | trained parameters | step ÷ the one before, median [quartiles] |\n|:--|--:|--:|")
    for key, values in GROWTHS.items():
        found = ways(given.recipe, key, values, plugins)
        spent = in_turn({name: step for name, (_, step) in found.items()}, given.rounds, device)
        before = None
        for name, (size, _) in found.items():
            grown = "" if before is None else "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(spent[name], spent[before]))
            print(f"| {name} | {size / 1e6:.2f} M | {grown} |")
            before = name


def ways(path: Path, key: str, values: Sequence[int], plugins: Plugins) -> dict[str, tuple[int, Step]]:
    """Return the trained parameters and our step for each value of `key`, on a model without its weights."""
    found = {}
    for value in values:
        bench = prepared(path, ["model.weights=null", f"{key}={value}"], plugins)
        found[f"`{key}` {value}"] = bench.flat.theta.numel(), constrained(bench)
    return found


if __name__ == "__main__":
    main()
