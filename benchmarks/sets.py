"""`python -m benchmarks.sets`: what a run costs as its sets grow: building, going on, a step, a look and memory."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import timed
from benchmarks.steps import prepared
from unlearnkit.builtin.data.pictures import Pictures
from unlearnkit.control import ClosedForm, Stage
from unlearnkit.data import memo
from unlearnkit.disk import CACHE
from unlearnkit.plugins import discover
from unlearnkit.run.memory import peak
from unlearnkit.solver.problem import Problem

COUNTS, SIDE, FORGOTTEN, SEEN, STEPS = (1_000, 4_000, 16_000, 64_000), 32, 16, 256, 8
"""Images, their side, one of how many is to be forgotten, images of a sampled look, and steps of which the middle one
counts."""
CPU = torch.device("cpu")
RECIPE = f"""\
model: {{kind: vit-mae, image_size: {SIDE}, patch_size: 8, width: 32, depth: 2, heads: 2, decoder_width: 32,
         decoder_depth: 1, decoder_heads: 2}}
data: {{source: {{kind: image-folder, root: images}}, forget: {{classes: [forget]}}, retain: {{classes: [retain]}},
        per_class: {{validation: 16}}, memory_mib: 0, workers: 0}}
training: {{batch_size: 16, steps: {STEPS}, cache: {{memory_mib: 0, disk_mib: 0}}, device: cpu}}
"""
"""Nothing is held."""
TITLES = {
    "built": "build, the first time, s", "again": "build again, as `resume` does, s", "step": "a step, s",
    "look": "a look at the whole sets, s", "few": f"a look at {SEEN} images of each, s", "peak": "resident, MiB",
    "decoded": "images decoded, the first time", "decoded again": "images decoded again",
}  # fmt: skip
BESIDE = ("decoded", "decoded again")


def main() -> None:
    """Print a table; each figure is of a process of its own that has built all of the run's data."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sets", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="images (1000 4000 16000 64000)")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        print(json.dumps(measured(given.build, given.steps)))
        return
    rows = dict[int, dict[str, float]]()
    for count in given.counts:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), count)
            first, again = apart(Path(folder)), apart(Path(folder), "--steps")
            rows[count] = again | {"again": again["built"], "decoded again": again["decoded"]}
            rows[count] |= {"built": first["built"], "decoded": first["decoded"]}
            print(count, rows[count], file=sys.stderr)
    least = min(rows)
    print(f"| what | {least:,} images |", " | ".join(f"{count:,} ÷ {least:,}" for count in rows if count != least), "|")
    print(f"|:--{'|--:' * len(rows)}|")
    for name, title in TITLES.items():
        told = [row[name] if name in BESIDE else row[name] / rows[least][name] for row in rows.values()]
        cells = [f"{value:,.0f}" if name in BESIDE else f"{value:.2f}" for value in told]
        first_cell = cells[0] if name in BESIDE else f"{rows[least][name]:.3g}"
        print(f"| {title} | {first_cell} | {' | '.join(cells[1:])} |")


def write(folder: Path, count: int) -> None:
    """Write so many small JPEGs, each of its own colours, and the recipe beside them."""
    for name in ("forget", "retain"):
        (folder / "images" / name).mkdir(parents=True)

    def one(number: int) -> None:
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        name = "retain" if number % FORGOTTEN else "forget"
        image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(folder / "images" / name / f"{number:06}.jpg", quality=85)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(count)))
    (folder / "sets.yaml").write_text(RECIPE, encoding="utf-8")
    time.sleep(2 * memo.SETTLED / 1e9)


def apart(folder: Path, *how: str) -> dict[str, float]:
    """Return what a new process measures."""
    command = [sys.executable, "-m", "benchmarks.sets", "--build", str(folder), *how]
    env = os.environ | {CACHE: str(folder / "memo"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def measured(folder: Path, steps: bool) -> dict[str, float]:
    """Return processor seconds of a build and the images it decodes, then those of `steps` and looks, and memory."""
    decoded, read = 0, Pictures.read

    def counted(*given: object) -> torch.Tensor:
        nonlocal decoded
        decoded += 1
        return read(*given)  # type: ignore[arg-type]

    Pictures.read = counted  # type: ignore[method-assign,assignment]
    plugins = discover()
    looking = [f"training.look={{images: {SEEN}}}"]
    bench, built = timed(lambda: prepared(folder / "sets.yaml", looking, plugins), CPU)
    found = {"built": built, "decoded": decoded}
    if not steps:
        return found
    losses, part = bench.losses, bench.losses.part
    stage, psi = Stage(losses.forget, losses.retain, ClosedForm()), bench.recipe.control.boundary.build()
    descent = bench.begun(Problem("sets", [stage], psi, part=part))
    descent.begin(bench.original(part))
    each = sorted(timed(descent.step, CPU)[1] for _ in range(STEPS) if descent.advance())
    found |= {"step": each[len(each) // 2], "few": timed(descent.check, CPU)[1]}
    found["look"] = timed(lambda: [side.whole().gradient(bench.flat, 0) for side in bench.sides.values()], CPU)[1]
    return found | {"peak": peak(CPU) or 0}


if __name__ == "__main__":
    main()
