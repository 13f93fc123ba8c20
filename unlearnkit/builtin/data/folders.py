"""Images that are files: in archives and folders, one folder a class, or listed."""

import csv
import hashlib
import io
import json
import os
import zipfile
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from unlearnkit.builtin.data import imagenet
from unlearnkit.builtin.data.pictures import SPLITS, SUFFIXES, UNLABELLED, Files, halves, hidden, in_split, opened, text
from unlearnkit.contracts import Item
from unlearnkit.data import memo
from unlearnkit.data.lists import nfc, read_text, refuse, refuse_lines, unused
from unlearnkit.errors import Exit, UserError


class Archive(Files):
    """A shipped zip of `split/class/file`, with its licence in `source.json` beside it."""

    def __init__(self, path: Path) -> None:
        self.root = path.parent
        # All at once, because a zip handle is not safe to share between the decoding threads.
        with zipfile.ZipFile(path) as archive:
            self._bytes = {name: archive.read(name) for name in archive.namelist()}
        paths = map(PurePosixPath, self._bytes)
        self.take(in_split(path) for path in paths if not any(map(hidden, path.parts)))
        facts = json.loads((path.parent / "source.json").read_text(encoding="utf-8"))
        self.facts, self.side_by_side, self.paired = facts, facts.get("side_by_side"), "side_by_side" in facts

    def bytes_of(self, item: Item) -> bytes:
        return self._bytes[item.key]

    def size_of(self, item: Item) -> int:
        return len(self._bytes[item.key])

    def hash_of(self, item: Item) -> str:
        return hashlib.sha256(self._bytes[item.key]).hexdigest()

    def place(self, item: Item) -> str:
        return f"{self.root.name}:{item.key}"


class Twins(Files):
    """Files that may have targets in files of their own, by the keys of both."""

    targets: Mapping[str, Path] | None = None

    def open_target(self, item: Item) -> Image.Image:
        assert self.targets is not None
        return opened(self.targets[item.key])

    def contents(self, item: Item, target: bool) -> tuple[str, ...] | None:
        held, apart = super().contents(item, target), (self.targets or {}).get(item.key) if target else None
        try:  # the proportions of a target are held against those of its input
            return held if held is None or apart is None else (*held, memo.content(apart, apart.read_bytes))
        except OSError:
            return None


class Folder(Twins):
    """Folders of images below `root`, one a class; or folders of the usual names of splits, which hold these.

    With `pairs` they may also lie loose there and are of one class.
    """

    def __init__(self, root: Path, *, pairs: bool = False) -> None:
        self.root, self.facts = root, {"name": root.name}
        if not root.is_dir():
            advice = "give one with a folder of images for each class; a relative path starts at the recipe's folder"
            raise UserError(f"data.source.root: there is no folder {root}; {advice}", Exit.RECIPE)
        keys = [PurePosixPath(key) for key in _below(root)]
        self.take(*self._sorted(root, keys, pairs))
        if len(self.items) < len(keys):
            left = set(map(str, keys)) - {item.key for item in self.items}
            self.notes = unused(left, "lie outside the folders of classes and splits")

    @staticmethod
    def _sorted(root: Path, keys: Sequence[PurePosixPath], pairs: bool) -> tuple[Iterable[Item], Set[str] | None]:
        """Return the images, and all classes where they are not those of the images."""
        if pairs and keys and all(len(key.parts) == 1 for key in keys):
            return (Item(str(key), UNLABELLED) for key in keys), None
        if not (tops := _folders(root)):
            raise UserError(f"data.source.root: {root} has no folders; it needs one a class", Exit.RECIPE)
        if (splits := _splits(root, keys)) is None:
            return (Item(str(key), key.parts[0]) for key in keys if len(key.parts) > 1), tops
        if pairs and all(len(key.parts) == 2 for key in keys if key.parts[0] in splits):
            half_of = ((key, key.parts[0]) for key in keys if key.parts[0] in splits)
            return (Item(str(key), UNLABELLED, splits[half]) for key, half in half_of), None
        items, labels = list[Item](), {label for half in splits for label in _folders(root / half)}
        for half, split in splits.items():
            mine = [key for key in keys if key.parts[0] == half]
            deep = [key for key in mine if len(key.parts) > 2]
            known = {} if deep else imagenet.validation_classes(root, (key.stem for key in mine))
            if not deep and (loose := [key.name for key in mine if key.stem not in known]):
                found = f"{root / half} has {len(loose)} loose images, such as {loose[0]}, and no class folders"
                lists = f"put {imagenet.SOLUTION} beside {half} or ImageNet's devkit there"
                advice = f"sort them by class, {lists}, or give as root a folder of class folders alone"
                raise UserError(f"data.source.root: {found}; {advice}", Exit.RECIPE)
            items += [Item(str(key), key.parts[1] if deep else known[key.stem], split) for key in deep or mine]
        return items, labels | {item.label for item in items}

    def twinned(self, root: Path) -> None:
        """Take as targets the images at the same paths below another folder, whatever their names end in.

        Raise one `UserError` of all that are not there, or there twice.
        """
        if not root.is_dir():
            raise UserError(f"data.source.targets: there is no folder {root}; give that of the targets", Exit.RECIPE)
        by_stem, targets, problems = defaultdict[str, list[str]](list), dict[str, Path](), list[UserError]()
        for key in _below(root):
            by_stem[_stem(key)].append(key)
        ours = Counter(_stem(item.key) for item in self.items)
        for item in self.items:
            found = by_stem[_stem(item.key)]
            alone = len(found) == 1 == ours[_stem(item.key)]
            if len(same := found if alone else [key for key in found if nfc(key) == nfc(item.key)]) == 1:
                targets[item.key] = root / same[0]
                continue
            why = f"{' and '.join(found)} may be that of another image" if found else f"there is none in {root}"
            raised = UserError(f"{self.place(item)}: no target, for {why}; mend it or leave the image out", Exit.RECIPE)
            problems.append(raised)
        refuse(problems)
        self.targets, self.paired = targets, True

    @cached_property
    def _synsets(self) -> Mapping[str, Set[str]]:
        return imagenet.names(self.root)

    def called(self, name: str) -> Sequence[str]:
        return sorted(self._synsets.get(imagenet.spelt(name), set()) & self.labels)


def _stem(key: str) -> str:
    return nfc(str(PurePosixPath(key).with_suffix("")))


def _folders(path: Path) -> set[str]:
    return {found.name for found in path.iterdir() if found.is_dir() and not hidden(found.name)}


def _below(root: Path) -> Iterator[str]:
    """Yield the paths of the images below a folder that are not hidden; each folder is read once, links come last."""
    waiting, links, seen = deque([""]), deque[str](), set[tuple[int, int]]()
    while waiting or links:
        place = (waiting or links).popleft()
        try:
            status, entries = (root / place).stat(), sorted(os.scandir(root / place), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{root / place}: cannot be read ({error.strerror}); mend or remove it") from None
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if hidden(entry.name):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else waiting).append(f"{place}{entry.name}/")
            elif PurePosixPath(entry.name).suffix.lower() in SUFFIXES:
                yield f"{place}{entry.name}"


def _splits(root: Path, keys: Sequence[PurePosixPath]) -> dict[str, str | None] | None:
    """Return which folders are splits, as what, or None for classes; raise `UserError` where nobody can tell."""
    full = {key.parts[0] for key in keys if len(key.parts) > 1}
    named = {top for top in full if top.lower() in SPLITS}
    train = {top for top in named if SPLITS[top.lower()] == "train"}
    others, deep = sorted(full - named), {key.parts[0] for key in keys if len(key.parts) > 2}
    if not named or (others and named == train and len(train) == 1 and not train & deep):
        return None
    if others and (not train or named == train):
        found = f"{root} has {', '.join(sorted(named))}, which is a name of a split, beside {', '.join(others[:3])}"
        advice = "take them apart, or give as root the folder whose folders are the classes"
        raise UserError(f"data.source.root: {found}; {advice}", Exit.RECIPE)
    return halves(f"data.source.root: {root}", named)


class Manifest(Twins):
    """The images that a CSV or JSON file lists, one a line or entry, with columns; paths start at its folder."""

    def __init__(self, path: Path, file: str, label: str | None, split: str | None, target: str | None = None) -> None:
        self.root, self.facts = path.parent, {"name": path.name}
        targets = dict[str, Path]()
        self._names = cache(_names)  # a look at a folder is faster than one at each of its files
        written = read_text(path, "data.source.path")
        as_json = path.suffix.lower() in (".json", ".jsonl", ".ndjson") or written.lstrip().startswith(("[", "{"))
        rows = list(_json(written, file) if as_json else _csv(written, file))
        columns = {name for _, row in rows if not isinstance(row, str) for name in row}
        label = label or ("label" if "label" in columns else None)
        split = split or ("split" if "split" in columns else None)
        lines, items, problems = dict[str, str](), list[Item](), list[tuple[str, str]]()
        for where, row in rows:
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                key = self._found(_column(row, file))
                if any(map(hidden, PurePosixPath(key.removeprefix(f"{self.root}/")).parts)):
                    continue
                if (spelt := os.path.normpath(self.root / key)) in lines:
                    raise ValueError(f"'{key}' is on {lines[spelt]} already; remove one of them")
                lines[spelt] = where
                if target:
                    targets[key] = self.root / self._found(_column(row, target))
                named = _column(row, label) if label else UNLABELLED
                part = _column(row, split) if split else None
                if part and part.lower() not in SPLITS:
                    raise ValueError(f"'{part}' is no split; write train, validation or test")
                half = SPLITS[part.lower()] if part else None
                if half or not part:
                    items.append(Item(key, named, half, {name: value for name, value in row.items() if name != file}))
            except (OSError, ValueError) as error:
                problems.append((where, str(error)))
        refuse_lines(path, problems)
        self.take(items, empty=f"data.source.path: {path} lists no images")
        if target:
            self.targets, self.paired = targets, True

    def _found(self, written: str) -> str:
        """Return the key of a file that is there, by its path as it stands or with blanks and backslashes of lists."""
        place, problem = self.root / written, ValueError()
        if self._names(place.parent).get(place.name) == place.name:
            return written
        for path in dict.fromkeys((written, written.strip(), written.strip().replace("\\", "/"))):
            try:
                return self._walked(path)
            except ValueError as error:
                problem = error
        raise problem

    def _walked(self, path: str) -> str:
        """Return the key of a file that is there, its letters as its file system composes them."""
        found = PurePosixPath()
        for part in PurePosixPath(path).parts:
            names = self._names(self.root / found)
            if part not in ("/", "..") and nfc(part) not in names:
                close = [name for name in names.values() if nfc(name).casefold() == nfc(part).casefold()]
                hint = f"; did you mean '{found / close[0]}'?" if close else ""
                raise ValueError(f"there is no file {self.root / path}{hint}")
            found /= part if part in ("/", "..") else names.get(part, names[nfc(part)])
        return str(found)


def _names(folder: Path) -> Mapping[str, str]:
    """Return the names in a folder by themselves and as they are compared."""
    there = os.listdir(folder) if folder.is_dir() else ()
    return {nfc(name): name for name in there} | {name: name for name in there}


Row = tuple[str, Mapping[str, str] | str]
"""Where a line or entry is: its values by their columns, or what is wrong with it."""


def _csv(written: str, file: str) -> Iterator[Row]:
    """Yield the lines of a CSV whose delimiter gives the column `file`, or else the most columns."""
    rows: Any = csv.reader(())
    try:
        heads = ((one, csv.reader(io.StringIO(written), delimiter=one, skipinitialspace=True)) for one in ",;\t")
        names = {one: [name.strip() for name in next(head, [])] for one, head in heads}
        best = max(names, key=lambda one: (file in names[one], len(names[one])))
        rows = csv.reader(io.StringIO(written, newline=""), delimiter=best, strict=True, skipinitialspace=True)
        next(rows, None)
        for values in filter(None, rows):
            row, count = _row(zip(names[best], values, strict=False), file), len(names[best])
            yield f"line {rows.line_num}", row if len(values) == count else f"expected {count} columns, as line 1 has"
    except csv.Error as error:
        yield f"line {max(1, rows.line_num)}", f"no CSV ({error})"


def _json(written: str, file: str) -> Iterator[Row]:
    """Yield the objects of a JSON array or of JSON lines."""
    whole = written.lstrip().startswith("[")
    for number, line in enumerate([written] if whole else written.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", f"no JSON ({error})"
            continue
        for entry, row in enumerate(found if whole else [found], 1):
            where = f"entry {entry}" if whole else f"line {number}"
            if isinstance(row, dict):
                yield where, _row(((name, text(value)) for name, value in row.items() if value is not None), file)
            else:
                yield where, 'expected an object, such as {"file": "a.png", "label": "cats"}'


def _row(cells: Iterable[tuple[str, str]], file: str) -> Mapping[str, str]:
    """Return values by their columns without blanks around them, but for the path, whose names may have some."""
    named = ((name.strip(), value) for name, value in cells if value.strip())
    return {name: value if name == file else value.strip() for name, value in named}


def _column(row: Mapping[str, str], name: str) -> str:
    if name not in row:
        close = get_close_matches(name, list(row), 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"nothing in the column '{name}'; {hint}The line has: {', '.join(row)}")
    return row[name]
