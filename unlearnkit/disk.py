"""Files that are whole or not there at all, and that show where they are no longer what was written."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from unlearnkit.errors import Exit, UserError

MIB = 2**20
PART = ".part"
"""How the name of a file or folder ends that is being written; it starts with a dot."""
RECORD = re.compile(rb'\{\n  "sha256": "([0-9a-f]{64})"')
"""How a record starts: with the SHA-256 of itself, where this one stands as zeros."""
BLANK = "0" * 64
CACHE = "UNLEARNKIT_CACHE"
"""Names another folder for the user's cache in the environment; where it is empty nothing is kept from run to run."""
UNWRITABLE = frozenset(getattr(errno, name) for name in (
    "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EFBIG", "ENOTDIR", "ENOENT", "ENAMETOOLONG", "EEXIST",
    "EISDIR", "ELOOP",
))  # fmt: skip
"""What a user can mend: no room, no right, a broken disk, a folder that has gone, a file in the place of one."""


def cached(name: str) -> str | None:
    """Return where something is kept in the user's cache, as text; None where nothing is to be kept."""
    if (named := os.environ.get(CACHE)) is not None:
        return os.path.join(named, name) if named else None
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "unlearnkit", name)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' names and hashes."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = "".join(f"{file.relative_to(path).as_posix()} {sha256(file)}\n" for file in files)
        return hashlib.sha256(listed.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def expanded(base: Path, written: str) -> Path:
    """Return a path of a recipe, which starts at `base`; raise `UserError` for one that no file can have."""
    try:
        place = base / Path(written).expanduser()
        place.exists()
    except RuntimeError:
        user = written.partition("/")[0]
        raise UserError(f"{written}: there is no user '{user[1:]}' here; write the whole path") from None
    except OSError as error:
        raise UserError(f"{written[:200]}: there can be no such path ({error.strerror}); mend it") from None
    if "\0" in written:
        raise UserError(f"{written}: a path has no NUL character; mend it")
    return place


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a disk that is full, read-only or broken, and a folder that has gone, into one message."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        saved = "What was whole is whole still: mend that, and give the command again (for a run: `unlearnkit resume`)"
        raise UserError(f"{path}: cannot be written ({error.strerror}). {saved}", Exit.FOLDER) from None


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file by `data`, whole or not at all; what is a link is replaced, not followed."""
    part = _part(path)
    with disk_errors(path):
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            with open(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(descriptor)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file, whole or not at all."""
    write_file(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file, whole or not at all; numbers that are not finite are a bug."""
    write_text(path, as_json(value))


def as_json(value: object) -> str:
    """Return JSON as it is written here; raise `ValueError` for a number that is not finite."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def record(value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a record: JSON that starts with its own SHA-256."""
    data = as_json({"sha256": BLANK, **value}).encode()
    return data.replace(BLANK.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a record, whole or not at all."""
    write_file(path, record(value))


def read_record(path: Path) -> dict[str, Any]:
    """Return what a record says; raise `UserError` naming the file where it is not there or not as it was written."""
    return parsed_record(read_plain(path), path)


def parsed_record(data: bytes, path: Path) -> dict[str, Any]:
    """Return what the bytes of a record say; raise `UserError` naming `path` where they are not as written."""
    if (head := RECORD.match(data)) is None or _blanked(data, head) != head[1].decode():
        damaged = "damaged: it is not as unlearnkit wrote it, for its SHA-256 is not the one that it starts with"
        raise UserError(f"{path}: {damaged}{_older(data)}", Exit.FOLDER)
    value: dict[str, Any] = json.loads(data)
    del value["sha256"]
    return value


def _blanked(data: bytes, head: re.Match[bytes]) -> str:
    return hashlib.sha256(data[: head.start(1)] + BLANK.encode() + data[head.end(1) :]).hexdigest()


def _older(data: bytes) -> str:
    """Tell which version wrote a file before files had a hash in them, empty where it does not say so."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict) or value.get("format") != 1 or "sha256" in value:
        return ""
    version = value.get("unlearnkit", "an earlier version")
    return f". It is of format 1, as unlearnkit {version} wrote it: use that version, or run the recipe again"


def read_plain(path: Path) -> bytes:
    """Return the bytes of a file that is no link; raise `UserError` naming it where that cannot be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"{path}: this is no plain file; put the one that was written here back", Exit.FOLDER)
            return stream.read()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file", Exit.FOLDER) from None
    except OSError as error:
        linked = error.errno in (errno.ELOOP, errno.ENXIO)
        reason = "it is a link or no file, which is not followed" if linked else error.strerror
        raise UserError(f"{path}: cannot be read ({reason})", Exit.FOLDER) from None


def refuse_links(folder: Path) -> None:
    """Raise `UserError` naming whatever in a folder is neither a file nor a folder: nothing in it is followed."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = os.lstat(Path(place) / name).st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                what = "a link" if stat.S_ISLNK(mode) else "no plain file"
                advice = "remove it, or put the file itself there: links are not followed here"
                raise UserError(f"{Path(place) / name}: this is {what}; {advice}", Exit.FOLDER)


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file of ours; raise `UserError` where it is a link, or one of several names of a file."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with disk_errors(path):
        try:
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise UserError(f"{path}: this is a link or no file; remove it", Exit.FOLDER) from None
        with open(descriptor, "ab", buffering=0) as stream:
            if os.fstat(descriptor).st_nlink > 1:
                raise UserError(f"{path}: this file has several names (hard links); put a copy there", Exit.FOLDER)
            before = os.fstat(descriptor).st_size
            try:
                left = memoryview(data)
                while left:  # a disk that is nearly full takes a part of it
                    left = left[stream.write(left) :]
            except OSError:
                os.ftruncate(descriptor, before)
                raise


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` that is renamed to it at the end: it is whole then, or nothing of it is.

    With `replace`, what stands in its way is removed at the last moment; without, `UserError` is raised unless that is
    an empty folder.
    """
    part = _part(path)
    with disk_errors(path):
        try:
            path.parent.mkdir(exist_ok=True)  # but not more, so that a run folder that has gone stays away
            part.mkdir()
            yield part
            for file in sorted(part.rglob("*")):
                flush(file)
            flush(part)
            if replace:
                remove_folder(path)
            part.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise UserError(f"{path} exists already; give another folder with --to", Exit.FOLDER) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
        flush(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder, where it is there: a process that is killed leaves all of it under its name or nothing."""
    part = _part(path)
    with suppress(FileNotFoundError):
        path.rename(part)
        shutil.rmtree(part, ignore_errors=True)


def _part(path: Path) -> Path:
    """Return a name beside `path` that nobody else has."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")


def remove_parts(folder: Path, pattern: str = f"**/.*{PART}") -> None:
    """Remove what a process that was killed had begun to write below a folder that this one holds."""
    for path in folder.glob(pattern):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
