"""Degradations T that make an image-to-image task."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unlearnkit import contracts, hookimpl
from unlearnkit.builtin import tasks
from unlearnkit.recipe.numbers import Count
from unlearnkit.recipe.sections import TaskSection

Part = Annotated[float, Field(gt=0, lt=1)]


class CenterCrop(TaskSection):
    """Hide the central square: centre-crop inpainting (Li et al. 2024, Feng et al. 2025)."""

    kind: Literal["center-crop"]
    """Central square."""
    ratio: Part | None = None
    """Side of the hidden square as a part of the image's side; 0.5 when neither this nor `pixels` is given."""
    pixels: Count | None = None
    """Side of the hidden square in pixels; give this or `ratio`. Li et al. hide 64 or 128 px of 256."""

    @model_validator(mode="before")
    @classmethod
    def _half(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("ratio") is None and data.get("pixels") is None:
            return data | {"ratio": 0.5}
        return data

    @model_validator(mode="after")
    def _one(self) -> CenterCrop:
        if self.ratio is not None and self.pixels is not None:
            raise ValueError("give ratio or pixels, not both; remove one, or set it to null")
        return self

    def build(self) -> contracts.Task:
        ratio = self.ratio or 0.5
        return tasks.Box((ratio, ratio), central=True, pixels=self.pixels)


class RandomBox(TaskSection):
    """Hide a square in a random place."""

    kind: Literal["random-box"]
    """Random square."""
    low: Part = 0.375
    """Smallest side of the hidden square as a part of the image's side."""
    high: Part = 0.625
    """Largest side of the hidden square as a part of the image's side."""

    @model_validator(mode="after")
    def _ordered(self) -> RandomBox:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        return self

    def build(self) -> contracts.Task:
        return tasks.Box((self.low, self.high), central=False)


class RandomTokens(TaskSection):
    """Hide random square tokens, as in the training of masked autoencoders (He et al. 2022)."""

    kind: Literal["random-tokens"]
    """Random tokens."""
    ratio: Part = 0.75
    """Part of the tokens that is hidden."""
    token: Count = 8
    """Side of a token in pixels; it must divide the image's side."""

    def build(self) -> contracts.Task:
        return tasks.Masked(partial(tasks.tokens, self.ratio, self.token), fixed=False)


class Brush(TaskSection):
    """Hide free-form brush strokes, other ones in each image (Yu et al. 2019), and a random square where asked."""

    kind: Literal["brush"]
    """Brush strokes."""
    strokes: tuple[Count, Count] = (1, 3)
    """Fewest and most strokes of an image."""
    vertices: tuple[Count, Count] = (4, 11)
    """Fewest and most places where a stroke turns; the last one is its end."""
    width: tuple[Part, Part] = (0.05, 0.15)
    """Smallest and largest width of a stroke as a part of the image's side; each stroke has one."""
    box: tuple[Part, Part] | None = None
    """Hide a square in a random place as well: its smallest and largest side as parts of the image's side, such as
    [0.42, 0.5] (Palette's mixed masks); no square when left out."""

    @model_validator(mode="after")
    def _ordered(self) -> Brush:
        for name in ("strokes", "vertices", "width", "box"):
            if (ends := getattr(self, name)) is not None and ends[0] > ends[1]:
                raise ValueError(f"{name}: the first end ({ends[0]}) must not exceed the second ({ends[1]})")
        return self

    def build(self) -> contracts.Task:
        return tasks.Strokes(self.strokes, self.vertices, self.width, self.box)


class Outpainting(TaskSection):
    """Hide a frame around the visible centre: outpainting (Li et al. 2024, Feng et al. 2025)."""

    kind: Literal["outpainting"]
    """Hidden frame."""
    border: Part = 0.5
    """What the frame takes of the image's side, both ends together: half of it at each end. With 13/16 the visible
    centre has 3/16 of the side; Li et al. go from 1/16 to 13/16."""

    def build(self) -> contracts.Task:
        return tasks.Masked(partial(tasks.frame, self.border), fixed=True)


class Half(TaskSection):
    """Hide one half of the image (Li et al. 2024)."""

    kind: Literal["half"]
    """Hidden half."""
    side: Literal["left", "right", "up", "down"] = "right"
    """Which half is hidden; of an odd number of pixels, the smaller one."""

    def build(self) -> contracts.Task:
        return tasks.Masked(partial(tasks.half, self.side), fixed=True)


class Downscaling(TaskSection):
    """Reduce the image and enlarge it again, bicubic, with antialias on the way down: super-resolution."""

    kind: Literal["downscaling"]
    """Lower resolution."""
    factor: Annotated[int, Field(ge=2)] = 4
    """By what the image's side is divided; it must divide it evenly."""

    def build(self) -> contracts.Task:
        return tasks.Whole(partial(tasks.downscaled, self.factor))


class LowResolution(TaskSection):
    """Reduce the image as `downscaling` does, and leave it to the model to enlarge it: super-resolution."""

    kind: Literal["low-resolution"]
    """Lower resolution, for models whose outputs are larger than their inputs."""
    factor: Annotated[int, Field(ge=2)] = 4
    """By what the image's side is divided, evenly: how many times larger than its inputs the model's outputs are."""

    def build(self) -> contracts.Task:
        return tasks.Whole(lambda images: tasks.reduced(self.factor, self.kind, images).clamp(0, 1))


class Grayscale(TaskSection):
    """Keep the luminance alone (Rec. 601), in all three channels: colorisation."""

    kind: Literal["grayscale"]
    """No colour."""

    def build(self) -> contracts.Task:
        return tasks.Whole(tasks.gray)


class Reconstruction(TaskSection):
    """Show the whole image as it is: T is the identity (Feng et al. 2025)."""

    kind: Literal["reconstruction"]
    """Nothing degraded."""

    def build(self) -> contracts.Task:
        return tasks.Whole(lambda images: images)


class Translation(TaskSection):
    """Show the whole image to a model that makes another picture of it, which nobody has: unpaired translation.

    Outputs are compared with those of the original model alone; figures that need the truth say why there are none.
    """

    kind: Literal["translation"]
    """Nothing degraded, and no right output known."""

    def build(self) -> contracts.Task:
        task = tasks.Whole(lambda images: images)
        task.untold = "the right output is not known, as the task is `translation`; look at those against the original"
        return task


@hookimpl
def register_tasks() -> list[type[TaskSection]]:
    """Return the built-in tasks."""
    return [
        CenterCrop,
        RandomBox,
        RandomTokens,
        Brush,
        Outpainting,
        Half,
        Downscaling,
        LowResolution,
        Grayscale,
        Reconstruction,
        Translation,
    ]
