"""Networks of restoration, super-resolution and inpainting that spandrel detects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import Field, model_validator

from unlearnkit import contracts, hookimpl
from unlearnkit.recipe.sections import ModelSection

Side = Annotated[int, Field(ge=1)]


class Spandrel(ModelSection):
    """What spandrel detects in a file of weights: ESRGAN, SwinIR, NAFNet, LaMa and more, with their own keys.

    `weights` is a file that spandrel reads, or a folder that `unlearnkit pretrain` or `unlearnkit export` wrote. Give
    `architecture` and `arguments` to train one from nothing.
    """

    kind: Literal["spandrel"]
    """A network that spandrel detects."""
    image_size: Side | tuple[Side, Side] = 128
    """Side of the output images in pixels, or their height and width; any that the network takes."""
    cut: str | None = None
    """The last module of the encoder by its path in the network, such as `body.11` or `layers`, a list standing for its
    last module and a negative number counting from the end; the architecture's usual one when left out."""
    architecture: str | None = None
    """spandrel's name of an architecture to make without weights, such as `Compact`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What the class of that architecture takes, such as {num_feat: 16, num_conv: 4, upscale: 2}; its defaults else."""

    @model_validator(mode="after")
    def _named(self) -> Spandrel:
        if self.arguments and self.architecture is None:
            raise ValueError("arguments are those of an architecture; give its name in `architecture`")
        return self

    def build(self, weights: Path | None) -> contracts.ModelAdapter:
        from unlearnkit_spandrel.network import build

        return build(self, weights)


@hookimpl
def register_models() -> list[type[ModelSection]]:
    """Return the models of this package."""
    return [Spandrel]


Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Such as mi-gan-512; all are listed without one.")]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add the command that fetches published weights."""

    @app.command(epilog="Example: unlearnkit download mi-gan-512")
    def download(name: Name = None) -> None:
        """Fetch published weights into ~/.cache/unlearnkit, and print the file and the licence."""
        from unlearnkit_spandrel import published

        if name is None:
            print("\n".join(f"{known}  {one.licence}" for known, one in published.PUBLISHED.items()))
        else:
            print(f"{published.cached(name)}  {published.PUBLISHED[name].licence}")
