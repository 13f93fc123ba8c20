"""A tiny task that runs in seconds: random-looking pictures of three colours and an untrained model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unlearnkit.plugins import Plugins, discover
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
    recipe: Path, to: Path, *overrides: str, plugins: Plugins | None = None, tell: Tell = lambda event: None
) -> Path:
    """Run a recipe in this process, as the command line does, and return the run folder."""
    from unlearnkit.run.seeds import start

    plugins = plugins or discover()
    found = load(recipe, plugins, overrides)
    return start(found.recipe, found.source.text, found.resolved, recipe.parent, to, plugins, tell)


def resumed(run: Path, *overrides: str, plugins: Plugins | None = None, tell: Tell = lambda event: None) -> Path:
    """Continue a run in this process, as the command line does, and return the run folder."""
    from unlearnkit.run.seeds import resume

    plugins = plugins or discover()
    base = Path(json.loads((run / "manifest.json").read_text())["base"])
    found = load(run / "recipe.resolved.json", plugins, overrides, base)
    return resume(found.recipe, found.resolved, run, overrides, plugins, tell)


def failing(real, at: int, error: BaseException):
    """Return a function that does as `real` but fails, before it has done anything, at the call of that number."""
    calls = iter(range(10**6))

    def call(*arguments, **options):
        if next(calls) == at:
            raise error
        return real(*arguments, **options)

    return call
