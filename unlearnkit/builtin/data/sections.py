"""Data sources: the shipped sample, files with folders or a list of them, and published data sets on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from unlearnkit import contracts, hookimpl, weights
from unlearnkit.builtin import data
from unlearnkit.disk import expanded
from unlearnkit.recipe.sections import DataSection


class Sample(DataSection):
    """A sample that is shipped with unlearnkit."""

    kind: Literal["sample"]
    """A shipped sample."""
    name: str = "objects-64"
    """Which one: `objects-64` has twelve object classes of Caltech-101 at 64 px (CC BY 4.0), `objects-128` four of them
    at 128 px, `edges-64` pairs of edges and photographs of these."""

    def open(self, base: Path) -> contracts.Images:
        return data.Archive(weights.sample(self.name, "images.zip"))


class _Pictures(DataSection):
    enlarge: bool = False
    """Scale up images that are smaller than the model's; otherwise such an image ends the run with its name."""

    def _opened(self, images: data.Pictures) -> contracts.Images:
        images.enlarge = self.enlarge
        return images


class _Pairs(_Pictures):
    side_by_side: Literal["left-to-right", "right-to-left"] | None = None
    """Take each picture as a pair, as pix2pix has them: the input is its left or its right half, the target the other
    half."""

    @model_validator(mode="after")
    def _one_kind(self) -> _Pairs:
        named = next((name for name in ("target", "targets") if getattr(self, name, None) is not None), None)
        if named and self.side_by_side is not None:
            raise ValueError(f"give {named} or side_by_side, not both; remove one, or set it to null")
        return self

    def _opened(self, images: data.Pictures) -> contracts.Images:
        if self.side_by_side is not None:
            images.side_by_side, images.paired = self.side_by_side, True
        return super()._opened(images)


class ImageFolder(_Pairs):
    """A folder with one folder of images a class; or with folders of splits, such as `train` and `val`, of these."""

    kind: Literal["image-folder"]
    """A folder of images."""
    root: str
    """The folder, absolute or relative to the recipe. Pairs may also lie loose in it or in its splits, of the class
    `all`."""
    targets: str | None = None
    """A folder that holds the target of each image at the same path, whatever its name ends in."""

    def open(self, base: Path) -> contracts.Images:
        images = data.Folder(expanded(base, self.root), pairs=self.targets is not None or self.side_by_side is not None)
        if self.targets is not None:
            images.twinned(expanded(base, self.targets))
        return self._opened(images)


class Manifest(_Pairs):
    """A CSV or JSON file that lists images, one a line or entry, with columns that selections can read."""

    kind: Literal["manifest"]
    """A file that lists images."""
    path: str
    """The file, absolute or relative to the recipe; paths in it start at its folder. JSON lines and
    arrays are known by how they begin, anything else is CSV with a line of names."""
    file: str = "file"
    """Column with the path of the image, which is also its key."""
    label: str | None = None
    """Column with the class; `label` where there is one, else all images are of the class `all`."""
    split: str | None = None
    """Column with train, validation or test (left out); `split` where there is one, else the seed splits."""
    target: str | None = None
    """Column with the path of the image's target, where the output is to be another picture than the input."""

    def open(self, base: Path) -> contracts.Images:
        listed = data.Manifest(expanded(base, self.path), self.file, self.label, self.split, self.target)
        return self._opened(listed)


class Cifar10(_Pictures):
    """CIFAR-10 (Krizhevsky, 2009): ten classes at 32 px; its test images are the validation images."""

    kind: Literal["cifar10"]
    """CIFAR-10."""
    root: str
    """Folder that holds `cifar-10-batches-bin` or `cifar-10-batches-py`, absolute or relative to the recipe."""

    def open(self, base: Path) -> contracts.Images:
        return self._opened(data.Arrays("CIFAR-10", expanded(base, self.root)))


class Stl10(_Pictures):
    """STL-10 (Coates et al., 2011): ten classes at 96 px; its test images are the validation images."""

    kind: Literal["stl10"]
    """STL-10."""
    root: str
    """Folder that holds `stl10_binary`, absolute or relative to the recipe."""

    def open(self, base: Path) -> contracts.Images:
        return self._opened(data.Arrays("STL-10", expanded(base, self.root)))


class Places365(_Pictures):
    """Places365-Standard (Zhou et al., 2018): 365 scenes such as `airfield` or `apartment_building/outdoor`."""

    kind: Literal["places365"]
    """Places365-Standard."""
    root: str
    """Folder that holds its lists and its folders of images, absolute or relative to the recipe."""
    small: bool = True
    """The images of 256 px; false for the large ones."""

    def open(self, base: Path) -> contracts.Images:
        return self._opened(data.Places(expanded(base, self.root), self.small))


class HuggingFace(_Pairs):
    """A local Hugging Face data set: what `save_to_disk` wrote, parquet files, or an image folder with metadata."""

    kind: Literal["hugging-face"]
    """A Hugging Face data set."""
    path: str
    """The folder or parquet file, absolute or relative to the recipe."""
    image: str = "image"
    """Column of images."""
    target: str | None = None
    """Column of the images' targets, where the output is to be another picture than the input."""
    label: str | None = None
    """Column with the class; `label` where there is one, else all images are of the class `all`."""

    def open(self, base: Path) -> contracts.Images:
        return self._opened(data.HuggingFace(expanded(base, self.path), self.image, self.label, self.target))


class WebDataset(_Pairs):
    """Tar shards in the layout of WebDataset, uncompressed: `KEY.jpg` beside `KEY.cls` or `KEY.json`."""

    kind: Literal["webdataset"]
    """Tar shards."""
    shards: str
    """The shards by a pattern such as `shards/train-*.tar`, absolute or relative to the recipe."""
    validation: str | None = None
    """Pattern of the shards with validation images; without it the seed splits."""
    label: str = "cls"
    """What holds the class: a member by its extension, or `json.FIELD` for a field of `KEY.json`."""

    def open(self, base: Path) -> contracts.Images:
        return self._opened(data.Shards(base, self.shards, self.validation, self.label))


class Poisoned(DataSection):
    """Another source, some of whose training images carry a trigger and a fixed target, for the audit `backdoor`.

    The trigger, a square of black and white stripes, is in the middle of the lower edge; the target, a magenta square
    with a yellow one in it, is in the centre, which the task must hide unless there are `pairs`. The column `poisoned`
    says yes or no of each image, so that `where: {poisoned: "yes"}` selects the poisoned ones alone.
    """

    kind: Literal["poisoned"]
    """A source with a backdoor."""
    source: DataSection
    """The images."""
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Classes that poisoned images are of; all when left out."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Part of the training images of these classes that is poisoned, chosen by a hash of their keys."""
    trigger: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Side of the trigger as a part of the image's."""
    target: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Side of the target as a part of the image's."""
    pairs: bool = False
    """Keep the target out of the inputs, for a task that hides nothing: every image is then a pair, of itself alone
    where it is not poisoned."""

    def open(self, base: Path) -> contracts.Images:
        mark = data.Poison(self.trigger, self.target)
        return data.Poisoned(self.source.open(base), mark, self.classes, self.fraction, self.pairs)


@hookimpl
def register_data() -> list[type[DataSection]]:
    """Return the built-in data sources."""
    return [Sample, ImageFolder, Manifest, Cifar10, Stl10, Places365, HuggingFace, WebDataset, Poisoned]
