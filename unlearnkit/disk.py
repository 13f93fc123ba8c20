"""Files that are whole or not there at all, and their hashes."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unlearnkit.errors import Exit, UserError

MIB = 2**20


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' names and hashes."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = "".join(f"{file.relative_to(path).as_posix()} {sha256(file)}\n" for file in files)
        return hashlib.sha256(listed.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one message."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
            raise
        saved = "What was saved before is whole: free some space, or mend the disk, and `unlearnkit resume` the run"
        raise UserError(f"{path}: cannot be written ({error.strerror}). {saved}", Exit.FOLDER) from None


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file by `data`, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with disk_errors(path):
        try:
            part.write_bytes(data)
            flush(part)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        flush(path.parent)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file, whole or not at all; numbers that are not finite are a bug."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_file(path, (text + "\n").encode())
