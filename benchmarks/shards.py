"""`python -m benchmarks.shards`: what a step costs one process when its batches are computed in parts."""

from functools import partial
from pathlib import Path

from benchmarks.measure import in_turn, ratio
from benchmarks.steps import constrained, prepared, several
from unlearnkit.plugins import discover

COUNTS, ROUNDS, STEPS = (1, 2, 4, 8), 15, 2
RECIPES = ("mae-faces", "vq-gan-motorbikes")


def main() -> None:
    """Print a row for each recipe."""
    plugins = discover()
    print(f"| recipe | {' | '.join(f'{count} parts' for count in COUNTS[1:])} |")
    print(f"|:--{'|--:' * len(COUNTS[1:])}|")
    for name in RECIPES:
        path = Path(__file__).parents[1] / "recipes" / f"{name}.yaml"
        benches = [prepared(path, ["training.device=cpu", f"training.shards={count}"], plugins) for count in COUNTS]
        ways = {str(bench.recipe.training.shards): partial(several, constrained(bench), STEPS) for bench in benches}
        spent = in_turn(ways, ROUNDS, benches[0].device)
        found = (ratio(spent[str(count)], spent["1"]) for count in COUNTS[1:])
        print(f"| {name} | {' | '.join(f'{middle:.2f} [{low:.2f}, {high:.2f}]' for middle, low, high in found)} |")


if __name__ == "__main__":
    main()
