"""Data sources: the shipped sample and a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unlearnkit import hookimpl
from unlearnkit.recipe.sections import DataSection

if TYPE_CHECKING:
    from unlearnkit.contracts import Images


class Sample(DataSection):
    """A sample that is shipped with unlearnkit."""

    kind: Literal["sample"]
    """A shipped sample."""
    name: str = "objects-64"
    """Which one: `objects-64` has twelve object classes of Caltech-101 at 64 px (CC BY 4.0)."""

    def open(self, base: Path) -> Images:
        """List the images of the sample."""
        from unlearnkit.builtin.images import Archive
        from unlearnkit.weights import sample

        return Archive(sample(self.name, "images.zip"))


class ImageFolder(DataSection):
    """A folder with one folder of images a class; or with folders `train` and `validation` that hold these."""

    kind: Literal["image-folder"]
    """A folder of images."""
    root: str
    """The folder, absolute or relative to the recipe."""

    def open(self, base: Path) -> Images:
        """List the images below the folder."""
        from unlearnkit.builtin.images import Folder

        return Folder(base / Path(self.root).expanduser())


@hookimpl
def register_data() -> list[type[DataSection]]:
    """Return the built-in data sources."""
    return [Sample, ImageFolder]
