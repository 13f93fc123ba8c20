"""The recipe of `unlearnkit pretrain`."""

from typing import Annotated

from pydantic import Field

from unlearnkit.recipe.data import PerClass
from unlearnkit.recipe.numbers import Count, Fraction, Name, Positive, Seed
from unlearnkit.recipe.sections import DataSection, ModelSection, Section, TaskSection
from unlearnkit.recipe.training import SGD, AdamW

STATE = "pretraining.json"
"""What a folder has while a model is trained into it: the recipe, and what the training began with."""


class Source(Section):
    """Images to train on, without a split into forget and retain."""

    source: DataSection
    """Where the images come from."""
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Classes to use; all when left out."""
    per_class: PerClass = PerClass()
    """How many images of each class are used."""


class PatchGAN(Section):
    """A discriminator of patches, trained along by the same optimiser settings (Isola et al. 2017)."""

    weight: Positive = 0.01
    """Weight of its loss beside the model's own, 1; pix2pix weighs the absolute error with 100."""
    width: Count = 64
    """Channels of its first layer."""
    depth: Count = 3
    """Layers that halve the side: with 3 it judges patches of 70 pixels, with 1 of 16."""


class PretrainTraining(Section):
    """How a model is trained with its own loss."""

    optimizer: Annotated[AdamW | SGD, Field(discriminator="kind")] = AdamW()
    """The optimiser."""
    batch_size: Count = 64
    """Images a step."""
    steps: Count = 1000
    """Steps."""
    warmup: Fraction = 0.05
    """First part of the steps over which the learning rate rises; then it falls along a half cosine."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Smallest part of an image's area that a random crop keeps; images are also flipped."""
    adversary: PatchGAN | None = None
    """What outputs are judged by beside the model's own loss; it is not stored."""
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0
    """Decay of the moving average of the weights, which is what is validated and stored; 0 stores the last weights."""
    half: bool = False
    """Store the weights in half precision."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`cpu`, `cuda`, or `auto`."""


class PretrainRecipe(Section):
    """Train a model with its own loss: what `unlearnkit pretrain` runs."""

    name: Name
    """Name of the trained model."""
    seed: Seed = 0
    """Seed of everything random."""
    model: ModelSection
    """The model; untrained unless it names weights."""
    data: Source
    """Training and validation images."""
    tasks: Annotated[list[TaskSection], Field(min_length=1)]
    """Degradations, used in turn from step to step; validation uses the first."""
    pretrain: PretrainTraining
    """Optimiser and budget."""
