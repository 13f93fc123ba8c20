"""Degradations T that make an image-to-image task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from unlearnkit import hookimpl
from unlearnkit.recipe.sections import TaskSection

if TYPE_CHECKING:
    from unlearnkit.contracts import Task

Part = Annotated[float, Field(gt=0, lt=1)]


class CenterCrop(TaskSection):
    """Hide the central square: centre-crop inpainting (Li et al. 2024, Feng et al. 2025)."""

    kind: Literal["center-crop"]
    """Central square."""
    ratio: Part = 0.5
    """Side of the hidden square as a part of the image's side."""

    def build(self) -> Task:
        """Return the degradation."""
        from unlearnkit.builtin.degradations import Box

        return Box((self.ratio, self.ratio), central=True)


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

    def build(self) -> Task:
        """Return the degradation."""
        from unlearnkit.builtin.degradations import Box

        return Box((self.low, self.high), central=False)


class RandomTokens(TaskSection):
    """Hide random square tokens, as in the training of masked autoencoders (He et al. 2022)."""

    kind: Literal["random-tokens"]
    """Random tokens."""
    ratio: Part = 0.75
    """Part of the tokens that is hidden."""
    token: Annotated[int, Field(ge=1)] = 8
    """Side of a token in pixels; it must divide the image's side."""

    def build(self) -> Task:
        """Return the degradation."""
        from unlearnkit.builtin.degradations import Tokens

        return Tokens(self.ratio, self.token)


@hookimpl
def register_tasks() -> list[type[TaskSection]]:
    """Return the built-in tasks."""
    return [CenterCrop, RandomBox, RandomTokens]
