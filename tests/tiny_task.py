"""A tiny task that runs in seconds: random-looking pictures of three colours and an untrained model."""

import hashlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unlearnkit.plugins import Plugins, discover
from unlearnkit.recipe.executors import executor
from unlearnkit.recipe.validate import load

MODEL = """\
model:
  kind: vit-mae
  image_size: 16
  patch_size: 4
  width: 16
  depth: 1
  heads: 2
  decoder_width: 16
  decoder_depth: 1
  decoder_heads: 2
"""
RECIPE = f"""\
name: tiny
seed: 3
{MODEL}\
data:
  source: {{kind: image-folder, root: pictures}}
  forget: {{classes: [red]}}
  retain: {{classes: [green, blue]}}
  per_class: {{train: 8, validation: 4}}
epsilons: {{fractions: [0, 0.5, 1]}}
sweep: {{kind: independent}}
training:
  optimizer: {{kind: adamw, lr: 3.0e-3}}
  batch_size: 4
  steps: 24
  checks: 3
  checkpoint_every: 5
  device: cpu
evaluate:
  metrics: [{{kind: hidden-psnr}}]
  images: 3
  stops: 2
"""

Tell = Callable[[Mapping[str, Any]], None]


def write_tiny(folder: Path) -> Path:
    """Write the tiny recipe and its pictures into a folder."""
    for number, label in enumerate(("red", "green", "blue")):
        (folder / "pictures" / label).mkdir(parents=True)
        for place in range(12):
            draw = np.random.default_rng([number, place])
            pixels = draw.integers(0, 90, (20, 24, 3), dtype=np.uint8)
            pixels[..., number] += draw.integers(60, 160, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / label / f"{place:02}.png")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    return recipe


def ran(
    recipe: Path, to: Path, *overrides: str, plugins: Plugins | None = None, tell: Tell = lambda event: None,
    by: str = "serial",
) -> Path:  # fmt: skip
    """Run a recipe from this process, as the command line does, and return the run folder."""
    from unlearnkit.run.several import start

    plugins = plugins or discover()
    found, crew = load(recipe, plugins, overrides), executor(by, plugins)
    return start(found.recipe, found.source.text, found.resolved, recipe.parent, to, plugins, tell, crew)


def resumed(
    run: Path, *overrides: str, plugins: Plugins | None = None, tell: Tell = lambda event: None, by: str = "serial"
) -> Path:
    """Continue a run from this process, as the command line does, and return the run folder."""
    from unlearnkit.run.several import resume

    plugins = plugins or discover()
    base = Path(json.loads((run / "manifest.json").read_text())["base"])
    found = load(run / "recipe.resolved.json", plugins, overrides, base)
    return resume(found.recipe, found.resolved, run, overrides, plugins, tell, executor(by, plugins))


QUICK = (
    "training.steps=6", "training.checkpoint_every=2", "epsilons.fractions=[0.25, 0.75]", "evaluate.stops=0",
    "evaluate.audits=[{kind: membership}]",
)  # fmt: skip
"""A run of all sorts of tasks, for engines that take seconds to begin one."""
WAYS = ("sweep={kind: independent}", "sweep={kind: continuation}", "sweep={kind: curve}", "seeds=[3, 4]")
"""What changes which task waits for which."""


class Killer:
    """Kills the worker of the first task of each kind, a solving one amid its steps: hand it to a run as `tell`."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}
        self.killed: list[str] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "task":
            self.pids[event["name"]] = event["pid"]
        name = f"solve-{event['id']}" if event["event"] == "step" else event.get("name", "")
        kind = name.partition("-")[0]
        amid = event["event"] == ("step" if kind == "solve" else "task")
        if amid and name in self.pids and kind not in self.killed:
            with suppress(ProcessLookupError):  # of one that had done all that it had to
                os.kill(self.pids[name], signal.SIGKILL)
                self.killed.append(kind)


LASTING = ("results.json", "solutions", "images", "evaluations", "audits", "original", "recipe.yaml")
"""What has the same bytes in every run of a recipe; the rest of a run folder has times, or is drawn of these."""


def lasting(run: Path) -> dict[str, str]:
    """Return the hash of each file that is the same in every run of a recipe, also of one of several runs."""
    inside = {path.parent.name for path in run.glob("*/recipe.resolved.json")}
    files = ((path, [part for part in path.relative_to(run).parts if part not in inside]) for path in run.rglob("*"))
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path, parts in files
        if path.is_file() and parts[0] in LASTING
    }


def failing(real, at: int, error: BaseException):
    """Return a function that does as `real` but fails, before it has done anything, at the call of that number."""
    calls = iter(range(10**6))

    def call(*arguments, **options):
        if next(calls) == at:
            raise error
        return real(*arguments, **options)

    return call
