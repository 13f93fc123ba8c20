"""`python -m benchmarks [RECIPE...]`: what a step costs, as ratios, on the models of some recipes."""

import argparse
import platform
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import unlearnkit
from benchmarks.measure import in_turn, operations, peak_bytes, ratio
from benchmarks.steps import WAYS, Step, decode, generated, prepared, product, several, stacked, switched
from unlearnkit.plugins import discover
from unlearnkit.run.manifest import device as described
from unlearnkit.solver.workbench import Workbench

RECIPES = ("mae-faces", "mae-airplanes", "vq-gan-motorbikes", "palette-faces")
OURS = "ε-constrained (ours)"
TARGETS = (
    ("our step ÷ weighted sum", OURS, "weighted sum (ours)", "≤ 1.05"),
    ("Li et al.'s step ÷ ours", "Li et al. 2024", OURS, "≥ 1.6"),
    ("TorchJD's step ÷ ours", "TorchJD MGDA", OURS, "≥ 1.5"),
    ("Cooper's step ÷ ours", "Cooper", OURS, "—"),
    ("deterministic kernels ÷ any, in our step", "deterministic", "free", "—"),
)
STACK = 5
"""How many ε take a stacked step."""
FORWARD = 6
"""Looks at f1 alone that an ε takes: about three for its start on the line and three to land."""


def main() -> None:
    """Print one table for each recipe."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    here = Path(__file__).parents[1] / "recipes"
    parser.add_argument("recipes", nargs="*", type=Path, default=[here / f"{name}.yaml" for name in RECIPES])
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count (15)")
    parser.add_argument("--steps", type=int, default=2, help="steps in a row of each way in a round (2)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--generated", action="store_true", help="pictures of noise and untrained weights instead")
    given = parser.parse_args()
    plugins = discover()
    for path in given.recipes:
        with TemporaryDirectory() as folder:
            changes = given.overrides
            if given.generated:
                changes = generated(Path(folder), path, changes, plugins)
            report(prepared(path, changes, plugins), given.rounds, given.steps)


def report(bench: Workbench, rounds: int, steps: int) -> None:
    """Measure and print one recipe."""
    device, size = bench.device, bench.recipe.training.batch_size
    where = described(device)
    trained = bench.flat.theta.numel()
    print(f"\n## {bench.recipe.name}: {trained / 1e6:.2f} M trained parameters, {size} + {size} images a step\n")
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, unlearnkit {unlearnkit.__version__}"
    print(f"{where['kind']} {where['name']}, {torch.get_num_threads()} threads, {versions}, {date.today()}\n")
    ways = {name: make(bench) for name, make in WAYS.items()}
    own = ways | {"deterministic": switched(bench, True), "free": switched(bench, False)}
    runs: dict[str, Step] = {name: partial(several, step, steps) for name, step in own.items()}
    multiply, operations_of_it = product(bench)
    together, _ = stacked(bench, STACK)
    once: dict[str, Step] = {"product": multiply, "decode": partial(decode, bench)}
    once |= {"stacked": together} if fits(together) else {}
    spent = in_turn(runs | once, rounds, device)
    print("| ratio | median [quartiles] | target |\n|:--|--:|--:|")
    for title, way, base, target in TARGETS:
        _row(title, ratio(spent[way], spent[base]), 1, target)
    share = steps * operations(ways[OURS]) / operations_of_it
    _row("arithmetic of our step ÷ of a matrix product in that time", ratio(spent["product"], spent[OURS]), share)
    _row("images that one process decodes ÷ that our step takes", ratio(spent[OURS], spent["decode"]), 1 / steps)
    title = f"{STACK} ε in one stacked step ÷ {STACK} steps"
    if "stacked" in once:
        _row(title, ratio(spent["stacked"], spent[OURS]), steps / STACK, "< 1")
    else:
        print(f"| {title} | out of memory | < 1 |")
    memory = {name: peak_bytes(step, device) for name, step in ways.items()}
    held = memory[OURS] / memory["weighted sum (ours)"]
    print(f"| peak memory of our step ÷ weighted sum | {held:.2f} | ≤ 0.7 |")
    if "stacked" in once:
        print(f"| peak memory of the stacked step ÷ our step | {peak_bytes(together, device) / memory[OURS]:.1f} | — |")
    whole, forward = outside(bench, ways[OURS])
    looks = bench.recipe.training.checks * whole + FORWARD * forward
    print(f"| looks at whole sets ÷ all of an ε of {bench.steps} steps | {looks / (looks + bench.steps):.2f} | — |")
    print(f"\nA look at both whole sets costs {whole:.1f} steps, f1 on the forget set {forward:.1f}.")
    print(f"\nPeak memory of a step, MiB: {', '.join(f'{n} {b / 2**20:.0f}' for n, b in memory.items())}.")
    if device.type == "cuda":
        fastest = min(spent[OURS]) / steps
        print(f"{2 * size / fastest:.0f} images per second.")


def fits(step: Step) -> bool:
    """Tell whether the device has the memory for a step, which is taken."""
    with suppress(torch.OutOfMemoryError):
        step()
        return True
    return False


def outside(bench: Workbench, step: Step) -> tuple[float, float]:
    """Return what a look at both whole sets with gradients costs, and f1 alone on the forget set, in steps."""

    def check() -> None:
        for which, side in enumerate(bench.sides.values()):
            side.whole().gradient(bench.flat, which)

    def f1() -> None:
        bench.sides["forget"].exact()

    looks = {"check": check, "f1": f1, "step": step}
    spent = in_turn(looks, 3, bench.device)
    return ratio(spent["check"], spent["step"])[0], ratio(spent["f1"], spent["step"])[0]


def _row(title: str, found: tuple[float, float, float], scale: float, target: str = "—") -> None:
    middle, low, high = (scale * value for value in found)
    print(f"| {title} | {middle:.2f} [{low:.2f}, {high:.2f}] | {target} |")


if __name__ == "__main__":
    main()
