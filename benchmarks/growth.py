"""`python -m benchmarks.growth`: how our step grows with the model's width and with the images in it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import in_turn, ratio
from benchmarks.steps import Step, constrained, prepare
from unlearnkit.plugins import Plugins, discover
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.validate import load
from unlearnkit.workbench import build

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
    print("| what | trained parameters | step ÷ the one before, median [quartiles] |\n|:--|--:|--:|")
    for key, values in GROWTHS.items():
        found = ways(given.recipe, key, values, plugins)
        device = build(_recipe(given.recipe, [], plugins), given.recipe.parent).device
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
        bench = build(_recipe(path, ["model.weights=null", f"{key}={value}"], plugins), path.parent)
        prepare(bench)
        found[f"`{key}` {value}"] = bench.flat.theta.numel(), constrained(bench)
    return found


def _recipe(path: Path, changes: Sequence[str], plugins: Plugins) -> Recipe:
    recipe = load(path, plugins, changes).recipe
    assert isinstance(recipe, Recipe)
    return recipe


if __name__ == "__main__":
    main()
