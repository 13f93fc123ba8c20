"""Data sets as others publish them, where they lie on this machine: torchvision's, Hugging Face's and tar shards."""

import glob
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unlearnkit.builtin.data.folders import Folder
from unlearnkit.builtin.data.pictures import SUFFIXES, UNLABELLED, Files, Rows, halves, hidden, opened, text
from unlearnkit.contracts import Item
from unlearnkit.data import memo
from unlearnkit.data.lists import unused
from unlearnkit.disk import expanded
from unlearnkit.errors import Exit, UserError, first_line


def _opened(open_half: Callable[[str], Any], halves: tuple[str, str], root: Path, name: str, advice: str) -> list[Any]:
    """Return torchvision's data sets of both halves, or say what to put where."""
    try:
        return [open_half(half) for half in halves]
    except Exception as error:  # what torchvision stumbles over in lists and arrays that are not as published
        reason = first_line(error).split(" You can ")[0].rstrip(".") or type(error).__name__
        found = f"{root} has no complete {name} ({reason})"
        raise UserError(f"data.source.root: {found}; {advice}; nothing is downloaded", Exit.RECIPE) from None


class Cifar10Binary:
    """A half of CIFAR-10 in its binary layout, like torchvision's of the pickled one."""

    def __init__(self, folder: Path, train: bool) -> None:
        """Read it; raise `ValueError` for a file that is not whole or names an unknown class."""
        self.classes = (folder / "batches.meta.txt").read_text(encoding="utf-8").split()
        files = [f"data_batch_{number}.bin" for number in range(1, 6)] if train else ["test_batch.bin"]
        batches = list[NDArray[np.uint8]]()
        for file in files:
            found = np.fromfile(folder / file, np.uint8)
            if len(found) % (row := 1 + 3 * 32 * 32) or not len(found):
                raise ValueError(f"{file} has {len(found):,} bytes, which are no whole images of {row:,}")
            batches.append(found.reshape(-1, row))
            if (most := int(batches[-1][:, 0].max())) >= len(self.classes):
                raise ValueError(f"{file} has the label {most}, but batches.meta.txt {len(self.classes)} classes")
        rows = np.concatenate(batches)
        self.targets, self._planes = rows[:, 0].tolist(), rows[:, 1:].reshape(-1, 3, 32, 32)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self._planes[row].transpose(1, 2, 0)), self.targets[row]


class Arrays(Rows):
    """CIFAR-10 in either layout or STL-10: all images of a half in one array; test is validation."""

    def __init__(self, name: str, root: Path) -> None:
        from torchvision.datasets import CIFAR10, STL10

        self.root, halves = root, ("train", "test")
        if name == "CIFAR-10":
            advice = "put the unpacked folder cifar-10-batches-py or cifar-10-batches-bin of its archive there"
            binary = root / "cifar-10-batches-bin"
            one_of = partial(Cifar10Binary, binary) if binary.is_dir() else partial(CIFAR10, root)
            found = _opened(lambda half: one_of(train=half == "train"), halves, root, name, advice)
            labels = [one.targets for one in found]
            source = "https://www.cs.toronto.edu/~kriz/cifar.html"
            attribution = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
        else:
            advice = "put the unpacked folder stl10_binary of stl10_binary.tar.gz there"
            found = _opened(lambda half: STL10(root, split=half), halves, root, name, advice)
            labels = [one.labels.tolist() for one in found]
            source = "https://cs.stanford.edu/~acoates/stl10/"
            attribution = "A. Coates, H. Lee, A. Y. Ng, An Analysis of Single-Layer Networks, AISTATS 2011"
        self.facts = {"name": name, "source": source, "attribution": attribution}
        self.tables, classes = dict(zip(halves, found, strict=True)), found[0].classes
        rows = zip(halves, ("train", "validation"), labels, strict=True)
        items = (Item(f"{half}/{row:05}", classes[n], split) for half, split, of in rows for row, n in enumerate(of))
        self.take(items, classes)

    def open_image(self, item: Item) -> Image.Image:
        return self.row(item)[0]

    def contents(self, item: Item, target: bool) -> tuple[str, ...] | None:
        return (hashlib.sha256(self.open_image(item).tobytes()).hexdigest(),)


class Places(Files):
    """Places365-Standard in torchvision's layout, or with a folder a class as its "easy format" has it."""

    def __init__(self, root: Path, small: bool) -> None:
        from torchvision.datasets import Places365

        self.root = root
        self.facts = {
            "name": "Places365-Standard",
            "source": "http://places2.csail.mit.edu/",
            "attribution": "B. Zhou, A. Lapedriza, A. Khosla, A. Oliva, A. Torralba, Places, TPAMI 2018",
        }
        for easy in (root, root / "places365_standard"):
            if all((easy / half).is_dir() for half in ("train", "val")):
                folder = Folder(easy)
                self.root = easy
                self.take(folder.items, folder.labels)
                return
        advice = (
            "put categories_places365.txt, places365_train_standard.txt, places365_val.txt and the unpacked folders "
            + ("data_256_standard and val_256 there" if small else "data_large_standard and val_large there")
        )
        halves = ("train-standard", "val")
        found = _opened(lambda half: Places365(str(root), half, small), halves, root, "Places365", advice)
        items: list[Item] = []
        for split, half in zip(("train", "validation"), found, strict=True):
            if not Path(half.images_dir).is_dir():
                reason = f"there is no folder {Path(half.images_dir).name}"
                raise UserError(f"data.source.root: {root} has no complete Places365 ({reason}); {advice}", Exit.RECIPE)
            # `/a/airfield` is written `airfield`: the first folder is the first letter and says nothing more.
            names = {number: name.split("/", 2)[-1] for name, number in half.class_to_idx.items()}
            prefix = len(str(root)) + 1
            items += [Item(Path(file[prefix:]).as_posix(), names[label], split) for file, label in half.imgs]
        self.take(items, names.values())

    def called(self, name: str) -> Sequence[str]:
        # `apartment_building/outdoor` is one folder in the easy format.
        return [label for label in (name.replace("/", "-"),) if label in self.labels]


class Shards(Files):
    """Tar shards in the layout of WebDataset: `KEY.jpg` beside `KEY.cls` or `KEY.json`.

    They are indexed once a machine, by reading their headers, and images are then read by offset.
    """

    def __init__(self, base: Path, train: str, validation: str | None, label: str) -> None:
        shards = [(path, None if validation is None else "train") for path in _matching(base, train, "shards")]
        if validation is not None:
            others = _matching(base, validation, "validation")
            if both := {path.resolve() for path, _ in shards} & {path.resolve() for path in others}:
                found = f"{len(both)} of its files are among `shards` too, such as {min(both)}"
                raise UserError(f"data.source.validation: {found}; give patterns that share none", Exit.RECIPE)
            shards += [(path, "validation") for path in others]
        self.root = Path(os.path.commonpath([path.parent for path, _ in shards]))
        self.facts = {"name": train}
        self._spans: dict[str, tuple[Path, int, int]] = {}
        self._without = list[str]()
        items = [item for path, split in shards for item in self._index(path, split, label)]
        self.take(items, empty=f"data.source.shards: the files that match {train} have no images")
        self.notes = unused(self._without, "have a class but no image, whose name ends behind its first dot")

    def _index(self, path: Path, split: str | None, label: str) -> Iterator[Item]:
        column = label.removeprefix("json.") if label.startswith("json.") else None
        for name, members in _samples(path, {"json", label}).items():
            image = next((found for ext, found in members.items() if f".{ext.lower()}" in SUFFIXES), None)
            if image is None:
                self._without += [f"{path.name}/{name}"] * bool(members.keys() & {"json", label})
                continue
            columns = _fields(path, name, members["json"][2].encode("latin-1")) if "json" in members else {}
            content = members[label][2].encode("latin-1").decode("utf-8", "replace").strip() if label in members else ""
            named = content if column is None else columns.get(column, "")
            if not named:
                what = f"field '{column}' in {name}.json" if column else f"{name}.{label}"
                advice = "say in data.source.label what holds the class"
                raise UserError(f"{path}: there is no {what}; {advice}", Exit.RECIPE)
            key = f"{path.relative_to(self.root).as_posix()}/{name}"
            self._spans[key] = path, image[0], image[1]
            yield Item(key, named, split, columns)

    def bytes_of(self, item: Item) -> bytes:
        path, offset, size = self._spans[item.key]
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def size_of(self, item: Item) -> int:
        return self._spans[item.key][2]

    def hash_of(self, item: Item) -> str:
        path, *span = self._spans[item.key]
        return memo.content(path, lambda: self.bytes_of(item), *span)


def _matching(base: Path, pattern: str, field: str) -> list[Path]:
    place = expanded(base, pattern)
    if found := [Path(name) for name in sorted(glob.glob(str(place), recursive=True)) if "__MACOSX" not in name]:
        return found
    raise UserError(f"data.source.{field}: no file matches {place}", Exit.RECIPE)


Member = tuple[int, int, str]
"""Offset and size of a member, and its bytes where they were asked for, as Latin-1."""

Samples = dict[str, dict[str, Member]]
"""The samples of a shard: by the name before the first dot, members by what comes after it."""


def _samples(path: Path, read: Collection[str]) -> Samples:
    """Return the samples of a shard, remembered as long as it is as it was."""
    found = memo.found_in(path, lambda: json.dumps(_indexed(path, read)).encode(), "shard", *sorted(read))
    memo.flush()  # they are long
    samples: Samples = json.loads(found)
    return samples


def _indexed(path: Path, read: Collection[str]) -> Samples:
    samples: Samples = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.removeprefix("./").rpartition("/")
                name, dot, ext = file.partition(".")
                if not member.isfile() or not dot or any(map(hidden, f"{folder}/{file}".split("/"))):
                    continue
                if member.issparse():  # it would be read as long as it says
                    raise UserError(f"{path}: {member.name} is a sparse file; write the shard again", Exit.RECIPE)
                stream = archive.extractfile(member) if ext in read else None
                content = stream.read().decode("latin-1") if stream else ""
                sample = samples.setdefault(f"{folder}/{name}".removeprefix("/"), {})
                if ext in sample:
                    raise UserError(f"{path}: {member.name} is there twice; write the shard again", Exit.RECIPE)
                sample[ext] = member.offset_data, member.size, content
    except (UserError, MemoryError):
        raise
    except Exception as error:  # tarfile raises many kinds for headers that are no numbers or no text
        found = f"no complete, uncompressed tar ({first_line(error)})"
        raise UserError(f"{path}: {found}; unpack or replace it", Exit.RECIPE) from None
    return samples


def _fields(path: Path, name: str, content: bytes) -> dict[str, str]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {name}.json is no JSON ({error})", Exit.RECIPE) from None
    found = fields.items() if isinstance(fields, dict) else ()
    return {key: text(value) for key, value in found if value is not None and not isinstance(value, dict | list)}


class HuggingFace(Rows):
    """A data set of the `datasets` package on this machine; its images are decoded here, not by that package."""

    def __init__(self, path: Path, image: str, label: str | None, target: str | None = None) -> None:
        try:
            datasets: Any = import_module("datasets")
        except ImportError:
            advice = "`pip install 'unlearnkit[datasets]'`"
            raise UserError(f"data.source: a hugging-face source needs {advice}", Exit.PLUGIN) from None
        self.root, self.image, self.tables = path, image, {}
        self.aim, self.paired = target, target is not None
        wanted = [image] if target is None else [image, target]
        found = _load(datasets, path)
        splits = {"": found} if isinstance(found, datasets.Dataset) else dict(found)
        items: list[Item] = []
        labels = set[str]()
        for half, split in halves(f"data.source.path: {path}", splits).items():
            rows = splits[half]
            for field, column in zip(("image", "target"), wanted, strict=False):
                if not isinstance(rows.features.get(column), datasets.Image):
                    found_none = f"{path} has no column '{column}' of images; there is: {', '.join(rows.column_names)}"
                    raise UserError(f"data.source.{field}: {found_none}", Exit.RECIPE)
            with _readable(path):
                named, known = _classes(datasets, path, rows, label)
                self.tables[half] = rows.select_columns(wanted)
                for column in wanted:
                    self.tables[half] = self.tables[half].cast_column(column, datasets.Image(decode=False))
                columns = _columns(datasets, rows)
            labels |= known
            for row, name in enumerate(named):
                values = {column: text(found[row]) for column, found in columns.items() if found[row] is not None}
                items.append(Item(f"{half}/{row:07}".removeprefix("/"), name, split, values))
        self.take(items, labels, empty=f"data.source.path: {path} has no images")
        info = next(iter(self.tables.values())).info
        stated = {"licence": info.license, "source": info.homepage, "attribution": info.citation}
        self.facts = {"name": path.name} | {fact: value for fact, value in stated.items() if value}

    def open_image(self, item: Item) -> Image.Image:
        return self._opened(item, self.image)

    def open_target(self, item: Item) -> Image.Image:
        assert self.aim is not None
        return self._opened(item, self.aim)

    def contents(self, item: Item, target: bool) -> tuple[str, ...] | None:
        row = self.row(item)
        try:
            return tuple(_hash(row[column]) for column in (self.image, self.aim if target else None) if column)
        except OSError:
            return None

    def _opened(self, item: Item, column: str) -> Image.Image:
        found = self.row(item)[column]
        return opened(io.BytesIO(found["bytes"]) if found["bytes"] is not None else found["path"])


def _hash(cell: Any) -> str:
    """Return the SHA-256 of an image's file, which stands in the table or beside it."""
    if cell["bytes"] is not None:
        return hashlib.sha256(cell["bytes"]).hexdigest()
    return memo.content(Path(cell["path"]), Path(cell["path"]).read_bytes)


def _load(datasets: Any, path: Path) -> Any:
    if not path.exists():
        raise UserError(f"data.source.path: there is no file or folder {path}; nothing is downloaded", Exit.RECIPE)
    datasets.disable_progress_bars()
    with _readable(path):
        if path.is_file():
            return datasets.load_dataset("parquet", data_files=str(path))
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(str(path))
        if any(not any(map(hidden, file.relative_to(path).parts)) for file in path.rglob("*.parquet")):
            return datasets.load_dataset("parquet", data_dir=str(path))
        return datasets.load_dataset("imagefolder", data_dir=str(path))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what `datasets` raises, its own kinds and those of pyarrow, into one message."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        found = f"{path} is no data set that `datasets` can read ({first_line(error)})"
        advice = "give a folder that `save_to_disk` wrote, or parquet files"
        raise UserError(f"data.source.path: {found}; {advice}", Exit.RECIPE) from None


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


def _columns(datasets: Any, rows: Any) -> dict[str, list[Any]]:
    """Return the columns that a selection can read: texts, numbers, truth values, and classes by their names."""
    found: dict[str, list[Any]] = {}
    types = ("string", "large_string", "int", "uint", "bool")
    for name, feature in rows.features.items():
        if isinstance(feature, datasets.ClassLabel):
            found[name] = [feature.names[value] if value is not None and value >= 0 else None for value in rows[name]]
        elif isinstance(feature, datasets.Value) and feature.dtype.startswith(types):
            found[name] = list(rows[name])
    return found
