"""Sections of a small plugin, so that the laws of recipes hold for known classes and not for today's built-ins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pluggy
import pytest
from pydantic import Field, model_validator

from unlearnkit.plugins import Plugin, Plugins
from unlearnkit.recipe import sections

Positive = Annotated[float, Field(gt=0)]


class Built:
    """What every section of this plugin builds: nothing."""

    def build(self, *_: Any) -> Any:
        """Return an empty object."""
        return SimpleNamespace()

    open = build


class Mae(Built, sections.ModelSection):
    """A masked autoencoder."""

    kind: Literal["mae"]
    """A masked autoencoder."""
    patch: int = 8
    """Side of a patch."""


class Tiny(Built, sections.ModelSection):
    """A tiny autoencoder."""

    kind: Literal["tiny"]
    """A tiny autoencoder."""
    width: int | list[int] = 8
    """Channels of all blocks, or of each."""
    resolution: int = 32
    """Side of the images."""
    stride: int = 8
    """Stride of the encoder."""

    @model_validator(mode="after")
    def _divides(self) -> "Tiny":
        if self.resolution % self.stride:
            raise ValueError(f"stride ({self.stride}) must divide resolution ({self.resolution})")
        return self


class Sample(Built, sections.DataSection):
    """A shipped sample."""

    kind: Literal["sample"]
    """A shipped sample."""
    name: str
    """Which one."""


class Folder(Built, sections.DataSection):
    """A folder of images."""

    kind: Literal["image-folder"]
    """A folder of images."""
    path: Path
    """The folder."""


class CenterCrop(Built, sections.TaskSection):
    """Only the border is given."""

    kind: Literal["center-crop"]
    """Only the border is given."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Side of the hidden square."""


class Mask(Built, sections.TaskSection):
    """Random patches are hidden."""

    kind: Literal["random-mask"]
    """Random patches are hidden."""


class Noise(Built, sections.LossSection):
    """Embeddings of noise."""

    kind: Literal["noise-embedding"]
    """Embeddings of noise."""


class Reference(Built, sections.LossSection):
    """Embeddings of the reference."""

    kind: Literal["reference-embedding"]
    """Embeddings of the reference."""


class GradientNorm(Built, sections.PsiSection):
    """Alpha times the gradient's norm."""

    kind: Literal["gradient-norm"]
    """Alpha times the gradient's norm."""
    alpha: Positive = 5.0
    """Factor."""
    delta: Positive = 2.0
    """Power."""


class ConstraintGap(Built, sections.PsiSection):
    """Beta times the gap to the bound."""

    kind: Literal["constraint-gap"]
    """Beta times the gap to the bound."""
    beta: Positive = 5.0
    """Factor."""
    delta: Positive = 1.0
    """Power."""


class RelativeGap(Built, sections.PsiSection):
    """Beta times the relative gap to the bound."""

    kind: Literal["relative-gap"]
    """Beta times the relative gap to the bound."""


class ClosedForm(Built, sections.MultiplierSection):
    """The published rule."""

    kind: Literal["closed-form"]
    """The published rule."""


class Averaged(Built, sections.MultiplierSection):
    """The rule on averages."""

    kind: Literal["averaged"]
    """The rule on averages."""


class Composite(Built, sections.MethodSection):
    """A fixed weight."""

    kind: Literal["composite"]
    """A fixed weight."""
    alpha: Positive = 0.25
    """The weight."""


class MaxLoss(Built, sections.MethodSection):
    """Gradient ascent."""

    kind: Literal["max-loss"]
    """Gradient ascent."""


class Psnr(Built, sections.MetricSection):
    """Peak signal to noise ratio."""

    kind: Literal["psnr"]
    """Peak signal to noise ratio."""


class Ssim(Built, sections.MetricSection):
    """Structural similarity."""

    kind: Literal["ssim"]
    """Structural similarity."""


SECTIONS: list[type[sections.Section]] = [
    Mae, Tiny, Sample, Folder, CenterCrop, Mask, Noise, Reference, GradientNorm, ConstraintGap, RelativeGap,
    ClosedForm, Averaged, Composite, MaxLoss, Psnr, Ssim,
]  # fmt: skip

GOOD = """\
# every section is written out
name: forget-faces
seed: 0
model:
  kind: tiny
  weights: sample:mae-64
  train: encoder
  width: [8, 16]
  resolution: 64
data:
  source: {kind: sample, name: objects-64}
  forget:
    classes: [faces]
  retain:
    classes:
      - airplanes
      - watch
  per_class: {train: 100, validation: 50}
task: {kind: center-crop, ratio: 0.5}
forget: {kind: noise-embedding}
retain: {kind: reference-embedding}
control:
  boundary: {kind: gradient-norm, alpha: 5, delta: 2}
  epsilon:
    kind: constraint-gap
    beta: 5
  multiplier: {kind: averaged}
sweep: {kind: independent}
epsilons:
  fractions: [0, 0.25, 0.5]
training:
  optimizer:
    kind: adamw
    lr: 1e-4
    betas: [0.9, 0.95]
  batch_size: 32
  epochs: 8
  precision: bf16
  device: cuda
compare:
  - {kind: composite, alpha: 0.25}
  - kind: max-loss
evaluate:
  metrics: [{kind: psnr}, {kind: ssim}]
  images: 8
"""

PRETRAIN = """\
name: tiny-64
model: {kind: tiny}
data:
  source: {kind: image-folder, path: images}
  classes: [faces, watch]
tasks: [{kind: center-crop}, {kind: random-mask}]
pretrain: {steps: 10, half: true}
"""


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    """Return one working plugin."""
    return Plugins([Plugin("test", "test-package", "1", list(SECTIONS))], pluggy.PluginManager("unlearnkit"))


@pytest.fixture(scope="session")
def broken_plugins() -> Plugins:
    """Return one working plugin and one that could not be loaded."""
    plugins = [
        Plugin("test", "test-package", "1", list(SECTIONS)),
        Plugin("diffusers", "unlearnkit-diffusers", "2", error="ImportError: no diffusers"),
    ]
    return Plugins(plugins, pluggy.PluginManager("unlearnkit"))


@pytest.fixture(scope="session")
def good() -> str:
    """Return the text of a valid recipe with every section."""
    return GOOD


@pytest.fixture(scope="session")
def pretrain() -> str:
    """Return the text of a valid pretrain recipe."""
    return PRETRAIN
