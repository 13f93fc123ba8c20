"""A tiny task that runs in a second: random-looking pictures of three colours and an untrained model."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Processes that the tests start share the machine; one thread each keeps them from fighting over it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = """\
name: tiny
seed: 3
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
data:
  source: {kind: image-folder, root: pictures}
  forget: {classes: [red]}
  retain: {classes: [green, blue]}
  per_class: {train: 8, validation: 4}
epsilons: {fractions: [0, 0.5, 1]}
training:
  optimizer: {kind: adamw, lr: 3.0e-3}
  batch_size: 4
  steps: 24
  checks: 3
  checkpoint_every: 5
  device: cpu
evaluate:
  metrics: [{kind: hidden-psnr}]
  images: 3
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a recipe beside the pictures that it names."""
    return write_tiny(tmp_path)


@pytest.fixture(scope="module")
def shared_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same for all tests of a module, which must not change it."""
    return write_tiny(tmp_path_factory.mktemp("shared"))


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
    recipe.write_text(TINY)
    return recipe
