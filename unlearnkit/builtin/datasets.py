"""The code of the data sources that are published data sets, and of tar shards and Hugging Face data sets."""

import glob
import io
import json
import os
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from unlearnkit.builtin.images import SPLITS, SUFFIXES, UNLABELLED, Files, Pictures, text
from unlearnkit.contracts import Item
from unlearnkit.errors import Exit, UserError, first_line


def _opened(open_half: Callable[[str], Any], halves: Sequence[str], root: Path, name: str, advice: str) -> list[Any]:
    """Return torchvision's data sets of both halves, or say what to put where."""
    try:
        return [open_half(half) for half in halves]
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).split(" You can ")[0].rstrip(".")
        raise UserError(
            f"data.source.root: {root} has no complete {name} ({reason}); {advice}; nothing is downloaded", Exit.RECIPE
        ) from None


class Arrays(Pictures):
    """CIFAR-10 or STL-10 as torchvision reads them: all images of a half in one array; test is validation."""

    def __init__(self, name: str, root: Path) -> None:
        from torchvision.datasets import CIFAR10, STL10

        self.name, self.root = name, root
        if name == "CIFAR-10":
            advice = "put the unpacked folder cifar-10-batches-py of cifar-10-python.tar.gz there"
            halves = _opened(lambda half: CIFAR10(root, train=half == "train"), ("train", "test"), root, name, advice)
        else:
            advice = "put the unpacked folder stl10_binary of stl10_binary.tar.gz there"
            halves = _opened(lambda half: STL10(root, split=half), ("train", "test"), root, name, advice)
        self._halves = dict(zip(("train", "test"), halves, strict=True))
        self._places: dict[str, tuple[str, int]] = {}
        self.items: list[Item] = []
        self.labels = frozenset(halves[0].classes)
        for half, split in (("train", "train"), ("test", "validation")):
            found = self._halves[half]
            labels = found.targets if name == "CIFAR-10" else found.labels.tolist()
            for row, label in enumerate(labels):
                key = f"{half}/{row:05}"
                self._places[key] = half, row
                self.items.append(Item(key, found.classes[label], split))
        self.items.sort(key=lambda one: one.key)

    def open_image(self, item: Item) -> Image.Image:
        """Return an image as it is stored."""
        half, row = self._places[item.key]
        image: Image.Image = self._halves[half][row][0]
        return image

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return f"{self.root}: {item.key}"

    def describe(self) -> Mapping[str, object]:
        """Return name, source and attribution."""
        if self.name == "CIFAR-10":
            return {
                "name": self.name,
                "source": "https://www.cs.toronto.edu/~kriz/cifar.html",
                "attribution": "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            }
        return {
            "name": self.name,
            "source": "https://cs.stanford.edu/~acoates/stl10/",
            "attribution": "A. Coates, H. Lee, A. Y. Ng, An Analysis of Single-Layer Networks, AISTATS 2011",
        }


class Places(Files):
    """Places365-Standard in torchvision's layout."""

    def __init__(self, root: Path, small: bool) -> None:
        from torchvision.datasets import Places365

        self.root = root
        advice = (
            "put categories_places365.txt, places365_train_standard.txt, places365_val.txt and the unpacked folders "
            + ("data_256_standard and val_256 there" if small else "data_large_standard and val_large there")
        )
        halves = _opened(
            lambda half: Places365(str(root), half, small), ("train-standard", "val"), root, "Places365", advice
        )
        self.items: list[Item] = []
        for split, half in zip(("train", "validation"), halves, strict=True):
            if not Path(half.images_dir).is_dir():
                reason = f"there is no folder {Path(half.images_dir).name}"
                raise UserError(f"data.source.root: {root} has no complete Places365 ({reason}); {advice}", Exit.RECIPE)
            # `/a/airfield` is written `airfield`: the first folder is the first letter and says nothing more.
            names = {number: name.split("/", 2)[-1] for name, number in half.class_to_idx.items()}
            prefix = len(str(root)) + 1
            self.items += [Item(Path(file[prefix:]).as_posix(), names[label], split) for file, label in half.imgs]
        self.labels = frozenset(names.values())
        self.items.sort(key=lambda one: one.key)

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""
        return (self.root / item.key).read_bytes()

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return str(self.root / item.key)

    def describe(self) -> Mapping[str, object]:
        """Return name, source and attribution."""
        return {
            "name": "Places365-Standard",
            "source": "http://places2.csail.mit.edu/",
            "attribution": "B. Zhou, A. Lapedriza, A. Khosla, A. Oliva, A. Torralba, Places, TPAMI 2018",
        }


class Shards(Files):
    """Tar shards in the layout of WebDataset: `KEY.jpg` beside `KEY.cls` or `KEY.json`.

    They are indexed once, by reading their headers, and images are then read by offset.
    """

    def __init__(self, base: Path, train: str, validation: str | None, label: str) -> None:
        found: dict[str | None, list[Path]] = {
            None if validation is None else "train": _matching(base, train, "shards")
        }
        if validation is not None:
            found["validation"] = _matching(base, validation, "validation")
        self.root = Path(os.path.commonpath([path.parent for paths in found.values() for path in paths]))
        self.name = train
        self._spans: dict[str, tuple[str, int, int]] = {}
        self.items: list[Item] = []
        for split, paths in found.items():
            for path in paths:
                self._index(path, split, label)
        self.items.sort(key=lambda one: one.key)
        self.labels = frozenset(one.label for one in self.items)
        if not self.items:
            raise UserError(f"data.source.shards: the files that match {train} have no images", Exit.RECIPE)

    def _index(self, path: Path, split: str | None, label: str) -> None:
        shard = path.relative_to(self.root).as_posix()
        column = label.removeprefix("json.") if label.startswith("json.") else None
        for name, members in _samples(path, {"json", label}):
            image = next((found for ext, found in members.items() if f".{ext.lower()}" in SUFFIXES), None)
            if image is None:
                continue
            columns = _fields(path, name, members["json"][2]) if "json" in members else {}
            if column is not None:
                named = columns.get(column, "")
            else:
                named = members[label][2].decode("utf-8", "replace").strip() if label in members else ""
            if not named:
                what = f"field '{column}' in {name}.json" if column else f"{name}.{label}"
                raise UserError(
                    f"{path}: there is no {what}; say in data.source.label what holds the class", Exit.RECIPE
                )
            key = f"{shard}/{name}"
            self._spans[key] = shard, *image[:2]
            self.items.append(Item(key, named, split, columns))

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's member."""
        shard, offset, size = self._spans[item.key]
        with (self.root / shard).open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return str(self.root / item.key)

    def describe(self) -> Mapping[str, object]:
        """Return the pattern of the shards."""
        return {"name": self.name}


def _matching(base: Path, pattern: str, field: str) -> list[Path]:
    place = base / Path(pattern).expanduser()
    if found := sorted(map(Path, glob.glob(str(place), recursive=True))):
        return found
    raise UserError(f"data.source.{field}: no file matches {place}", Exit.RECIPE)


Member = tuple[int, int, bytes]
"""Offset and size of a member, and its bytes where they were asked for."""


def _samples(path: Path, read: Collection[str]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield the samples of a shard: the name before the first dot, and members by what comes after it."""
    samples: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.removeprefix("./").rpartition("/")
                name, dot, ext = file.partition(".")
                if not member.isfile() or not name or not dot:
                    continue
                stream = archive.extractfile(member) if ext in read else None
                content = stream.read() if stream else b""
                sample = samples.setdefault(f"{folder}/{name}".removeprefix("/"), {})
                if ext in sample:
                    raise UserError(f"{path}: {member.name} is there twice; write the shard again", Exit.RECIPE)
                sample[ext] = member.offset_data, member.size, content
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{path}: no complete, uncompressed tar ({error}); unpack or replace it", Exit.RECIPE) from None
    yield from samples.items()


def _fields(path: Path, name: str, found: bytes) -> dict[str, str]:
    try:
        fields = json.loads(found)
    except ValueError as error:
        raise UserError(f"{path}: {name}.json is no JSON ({error})", Exit.RECIPE) from None
    if not isinstance(fields, dict):
        return {}
    return {
        key: text(value) for key, value in fields.items() if value is not None and not isinstance(value, dict | list)
    }


def _package() -> Any:
    try:
        return import_module("datasets")
    except ImportError:
        raise UserError(
            "data.source: a hugging-face source needs `pip install 'unlearnkit[datasets]'`", Exit.PLUGIN
        ) from None


class HuggingFace(Pictures):
    """A data set of the `datasets` package on this machine; its images are decoded here, not by that package."""

    def __init__(self, path: Path, image: str, label: str | None) -> None:
        datasets = _package()
        self.path, self.image = path, image
        found = _load(datasets, path)
        halves = {"": found} if isinstance(found, datasets.Dataset) else dict(found)
        self._halves: dict[str, Any] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self.items: list[Item] = []
        labels = set[str]()
        for half, split in _splits(path, halves):
            rows = halves[half]
            if not isinstance(rows.features.get(image), datasets.Image):
                raise UserError(
                    f"data.source.image: {path} has no column '{image}' of images; there is: "
                    f"{', '.join(rows.column_names)}",
                    Exit.RECIPE,
                )
            named, known = _classes(datasets, path, rows, label)
            labels |= known
            self._halves[half] = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
            columns = _columns(datasets, rows)
            for row, name in enumerate(named):
                key = f"{half}/{row:07}".removeprefix("/")
                self._places[key] = half, row
                values = {column: text(found[row]) for column, found in columns.items() if found[row] is not None}
                self.items.append(Item(key, name, split, values))
        self.items.sort(key=lambda one: one.key)
        self.labels = frozenset(labels)
        if not self.items:
            raise UserError(f"data.source.path: {path} has no images", Exit.RECIPE)

    def open_image(self, item: Item) -> Image.Image:
        """Return an image as it is stored."""
        half, row = self._places[item.key]
        found = self._halves[half][row][self.image]
        return Image.open(io.BytesIO(found["bytes"]) if found["bytes"] is not None else found["path"])

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return f"{self.path}: {item.key}"

    def describe(self) -> Mapping[str, object]:
        """Return the data set's name, and licence and attribution where it states them."""
        info = next(iter(self._halves.values())).info
        stated = {"licence": info.license, "source": info.homepage, "attribution": info.citation}
        return {"name": self.path.name, **{fact: value for fact, value in stated.items() if value}}


def _load(datasets: Any, path: Path) -> Any:
    if not path.exists():
        raise UserError(f"data.source.path: there is no file or folder {path}; nothing is downloaded", Exit.RECIPE)
    datasets.disable_progress_bars()
    try:
        if path.is_file():
            return datasets.load_dataset("parquet", data_files=str(path))
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(str(path))
        if any(path.rglob("*.parquet")):
            return datasets.load_dataset("parquet", data_dir=str(path))
        return datasets.load_dataset("imagefolder", data_dir=str(path))
    except Exception as error:  # the package raises many kinds, its own and those of pyarrow
        reason = first_line(error)
        raise UserError(
            f"data.source.path: {path} is no data set that `datasets` can read ({reason}); give a folder that "
            f"`save_to_disk` wrote, or parquet files",
            Exit.RECIPE,
        ) from None


def _classes(datasets: Any, path: Path, rows: Any, label: str | None) -> tuple[list[str], set[str]]:
    """Return the class of each row, and all classes."""
    column = label or ("label" if "label" in rows.column_names else None)
    if column is None:
        return [UNLABELLED] * len(rows), {UNLABELLED}
    if column not in rows.column_names:
        listed = ", ".join(rows.column_names)
        raise UserError(f"data.source.label: {path} has no column '{column}'; there is: {listed}", Exit.RECIPE)
    values = list(rows[column])
    if None in values:
        raise UserError(f"{path}: row {values.index(None)} has no '{column}'; give it one", Exit.RECIPE)
    feature = rows.features[column]
    if isinstance(feature, datasets.ClassLabel):
        if any(value < 0 for value in values):
            raise UserError(f"{path}: row {values.index(-1)} has no '{column}' (-1)", Exit.RECIPE)
        return [feature.names[value] for value in values], set(feature.names)
    return [text(value) for value in values], {text(value) for value in values}


def _splits(path: Path, halves: Collection[str]) -> list[tuple[str, str | None]]:
    """Return which halves are used, as what: one alone is split by the seed; test stands in for a validation half."""
    if len(halves) == 1:
        return [(next(iter(halves)), None)]
    validation = [half for half in halves if SPLITS.get(half) == "validation"] or [h for h in halves if h == "test"]
    train = [half for half in halves if SPLITS.get(half) == "train"]
    if len(train) != 1 or len(validation) != 1:
        raise UserError(
            f"data.source.path: {path} has the splits {', '.join(halves)}; expected train and validation (or test)",
            Exit.RECIPE,
        )
    return [(train[0], "train"), (validation[0], "validation")]


def _columns(datasets: Any, rows: Any) -> dict[str, list[Any]]:
    """Return the columns that a selection can read: texts, numbers, truth values, and classes by their names."""
    found: dict[str, list[Any]] = {}
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.ClassLabel):
            found[name] = [feature.names[value] if value is not None and value >= 0 else None for value in rows[name]]
        elif isinstance(feature, datasets.Value) and feature.dtype.startswith(
            ("string", "large_string", "int", "uint", "bool")
        ):
            found[name] = list(rows[name])
    return found
