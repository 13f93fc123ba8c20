"""Images that are files: in archives and folders, one folder a class, or listed."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePosixPath

from unlearnkit.builtin.data.pictures import SPLITS, SUFFIXES, UNLABELLED, Files, in_split, text
from unlearnkit.contracts import Item
from unlearnkit.errors import Exit, UserError


class Archive(Files):
    """A shipped zip of `split/class/file`, with its licence in `source.json` beside it."""

    def __init__(self, path: Path) -> None:
        self.root = path.parent
        # All at once, because a zip handle is not safe to share between the decoding threads.
        with zipfile.ZipFile(path) as archive:
            self._bytes = {name: archive.read(name) for name in archive.namelist()}
        self.take(in_split(PurePosixPath(name)) for name in self._bytes)
        self.facts = json.loads((path.parent / "source.json").read_text(encoding="utf-8"))

    def bytes_of(self, item: Item) -> bytes:
        return self._bytes[item.key]

    def place(self, item: Item) -> str:
        return f"{self.root.name}:{item.key}"


class Folder(Files):
    """Folders of images below `root`, one a class; or `train` and `validation` (or `val`), which hold these."""

    def __init__(self, root: Path) -> None:
        self.root, self.facts = root, {"name": root.name}
        if not root.is_dir():
            raise UserError(f"data.source.root: there is no folder {root}", Exit.RECIPE)
        classes = _folders(root)
        splits = {path.name for path in classes}
        fixed = "train" in splits and not splits.isdisjoint(("validation", "val"))
        if fixed:
            halves = [path for path in classes if path.name in ("train", "validation", "val")]
            classes = [path for half in halves for path in _folders(half)]
        if not classes:
            raise UserError(f"data.source.root: {root} has no folders; it needs one a class", Exit.RECIPE)
        files = [path for folder in classes for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
        keys = (PurePosixPath(path.relative_to(root)) for path in files)
        items = (in_split(key) if fixed else Item(str(key), key.parts[0]) for key in keys)
        self.take(items, {path.name for path in classes})


def _folders(path: Path) -> list[Path]:
    return [found for found in path.iterdir() if found.is_dir() and not found.name.startswith(".")]


class Manifest(Files):
    """The images that a CSV or JSONL file lists, one a line, with columns; paths start at its folder."""

    def __init__(self, path: Path, file: str, label: str | None, split: str | None) -> None:
        self.path, self.root, self.facts = path, path.parent, {"name": path.name}
        rows = list(self._jsonl() if path.suffix.lower() in (".jsonl", ".ndjson") else self._csv())
        label = label or ("label" if any("label" in row for _, row in rows) else None)
        split = split or ("split" if any("split" in row for _, row in rows) else None)
        # A look at a folder is faster than one at each of its files.
        names = cache(lambda folder: frozenset(os.listdir(folder) if folder.is_dir() else ()))
        lines: dict[str, int] = {}
        items: list[Item] = []
        for line, row in rows:
            key = self._column(line, row, file)
            if key in lines:
                raise self._wrong(line, f"'{key}' is on line {lines[key]} already; remove one of them")
            lines[key] = line
            where = self.root / key
            if where.name not in names(where.parent):
                raise self._wrong(line, f"there is no file {where}")
            named = self._column(line, row, label) if label else UNLABELLED
            part = self._column(line, row, split) if split else None
            if part is not None and part not in SPLITS:
                raise self._wrong(line, f"'{part}' is no split; write train, validation or test")
            if part is None or SPLITS[part] is not None:
                columns = {name: value for name, value in row.items() if name != file}
                items.append(Item(key, named, None if part is None else SPLITS[part], columns))
        self.take(items, empty=f"data.source.path: {path} lists no images")

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8-sig")
        except (FileNotFoundError, IsADirectoryError):
            raise UserError(f"data.source.path: there is no file {self.path}", Exit.RECIPE) from None
        except UnicodeDecodeError:
            raise UserError(f"{self.path}: no UTF-8 text; save it as UTF-8", Exit.RECIPE) from None
        except OSError as error:
            raise UserError(f"data.source.path: {self.path} cannot be read ({error.strerror})", Exit.RECIPE) from None

    def _csv(self) -> Iterator[tuple[int, dict[str, str]]]:
        reader = csv.DictReader(io.StringIO(self._read(), newline=""), strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    columns = len(reader.fieldnames or ())
                    raise self._wrong(reader.line_num, f"expected {columns} columns, as line 1 has")
                yield reader.line_num, {name: value for name, value in row.items() if value != ""}
        except csv.Error as error:
            raise self._wrong(reader.line_num, f"no CSV ({error})") from None

    def _jsonl(self) -> Iterator[tuple[int, dict[str, str]]]:
        for number, line in enumerate(self._read().split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self._wrong(number, f"no JSON ({error})") from None
            if not isinstance(row, dict):
                raise self._wrong(number, 'expected an object, such as {"file": "a.png", "label": "cats"}')
            yield number, {name: text(value) for name, value in row.items() if value is not None}

    def _column(self, line: int, row: Mapping[str, str], name: str) -> str:
        if name not in row:
            close = get_close_matches(name, list(row), 1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise self._wrong(line, f"nothing in the column '{name}'; {hint}The line has: {', '.join(row)}")
        return row[name]

    def _wrong(self, line: int, message: str) -> UserError:
        return UserError(f"{self.path} line {line}: {message}", Exit.RECIPE)
