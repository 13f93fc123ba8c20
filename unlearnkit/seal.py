"""The seal of a finished run folder: the hash of each of its files, without which none of them is read again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unlearnkit.disk import PART, read_plain, read_record, refuse_links, sha256, write_record
from unlearnkit.errors import Exit, UserError

SEAL = "seal.json"
UNSEALED = frozenset({"lock", SEAL})


class Sealed:
    """A finished run folder, of which nothing is read that is not as it was when the run finished."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder, self.files = folder, dict(files)

    @classmethod
    def of(cls, folder: Path) -> "Sealed":
        """Return a sealed folder; raise `UserError` for one with a link in it or without a seal as it was written."""
        if folder.is_dir():
            refuse_links(folder)
        if not (folder / SEAL).is_file():
            if (folder / "manifest.json").is_file():
                read_record(folder / "manifest.json")  # which tells a folder of an older version
                unfinished = f"the run has not finished; try `unlearnkit resume {folder}`"
                raise UserError(f"{folder / SEAL}: not there, so {unfinished}", Exit.FOLDER)
            raise UserError(f"{folder}: this is no run folder; give one that `unlearnkit run` wrote", Exit.FOLDER)
        return cls(folder, read_record(folder / SEAL)["files"])

    @classmethod
    def measured(cls, folder: Path) -> "Sealed":
        """Return a folder as it is now, to be sealed; folders in it with a seal of their own are left to that."""
        inner = {path.parent for path in folder.rglob(SEAL)} - {folder}
        files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not inner.intersection(path.parents))
        named = {path.relative_to(folder).as_posix(): path for path in files if not path.name.endswith(PART)}
        return cls(folder, {name: sha256(path) for name, path in named.items() if name not in UNSEALED})

    def read(self, name: str) -> bytes:
        """Return a file of the folder; raise `UserError` naming it where it is not part of the run, or has changed."""
        path = self.folder / name
        if name not in self.files or ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(f"{path}: not part of the finished run, so it is not read", Exit.FOLDER)
        data = read_plain(path)
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            changed = "changed since the run finished: its SHA-256 is not the one in the seal"
            raise UserError(f"{path}: {changed}; put the file of the run back", Exit.FOLDER)
        return data

    def json(self, name: str) -> Any:
        """Return what a JSON file of the folder says, without its hash where it is a record."""
        value = json.loads(self.read(name))
        return {key: part for key, part in value.items() if key != "sha256"} if isinstance(value, dict) else value

    def verify(self) -> None:
        """Read every file; raise `UserError` for the first that is not as it was."""
        for name in self.files:
            self.read(name)

    def write(self, written: Iterable[Path] = ()) -> None:
        """Seal the folder, with files that were `written` into it since."""
        self.files |= {path.relative_to(self.folder).as_posix(): sha256(path) for path in written}
        write_record(self.folder / SEAL, {"files": dict(sorted(self.files.items()))})
