"""What data sections open: the images of a source."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from unlearnkit.contracts.sizes import Size


@dataclass(frozen=True)
class Item:
    """One image of a source."""

    key: str
    """Unique in its source and stable between runs: what the split is drawn by."""
    label: str
    """Its class."""
    split: str | None = None
    """`train` or `validation` where the source fixes it."""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What else the source knows of it, by column: what `where` of a selection reads."""


class Images(ABC):
    """The images of a source."""

    items: Sequence[Item]
    labels: frozenset[str]
    """All classes, those without images too."""
    paired: bool = False
    """Whether each image has another one as its target."""
    notes: Sequence[str] = ()
    """What a reader of the figures must know, such as images that are not used; a run and `plan` say it."""

    @abstractmethod
    def read(self, item: Item, size: Size) -> Tensor:
        """Return the image as uint8 [3, size, size]; raise `UserError` naming an image that cannot be read.

        Of a model whose images are not square, `size` is their height and width.
        """

    @abstractmethod
    def describe(self) -> Mapping[str, object]:
        """Return facts for the report: name, licence, attribution where there is one."""

    def target(self, item: Item, size: Size) -> Tensor:
        """Return what the output is compared with, as uint8 [3, size, size]: the image itself unless `paired`."""
        return self.read(item, size)

    def side(self, item: Item) -> int | None:
        """Return the shorter side of an image in pixels where it is known without decoding the image, else None."""
        return None

    def fingerprint(self, item: Item, *, whole: bool) -> str | int | None:
        """Return the length of an image's file, or its SHA-256 if `whole`; None where the image is no file."""
        return None

    def origin(self, item: Item, *, target: bool = False) -> object:
        """Return plain data that is another one wherever the pixels of `read`, or of `target`, are others.

        Such are the SHA-256 of the image's file and what else its pixels depend on, but for the code. Images whose
        origin is known are decoded where they are used; None, where nobody knows, has every command decode them.
        """
        return None

    def called(self, name: str) -> Sequence[str]:
        """Return the classes that have this name too, such as `n01440764` for `tench`, where the source knows any."""
        return ()
