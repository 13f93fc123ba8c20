"""What this machine has seen of images, so that no run looks twice: hashes alone, in a file of the user's cache.

Everything is kept under the hash of all that it was computed from, with a check of its own, so that nothing in it is
out of date, and what is damaged is computed again. Whoever removes the file loses time and nothing else.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import get_ident

from unlearnkit.disk import cached

FILE = "images-1.sqlite"
CHECK = 8
"""Bytes of the check that stands before each value."""
WAIT = 10.0
"""Seconds to wait for another process that is writing."""
MOST = 4096
"""Values that wait to be written together."""
SETTLED = 2 * 10**9
"""Nanoseconds after which a file that is changed again has another time: the coarsest step of file systems' clocks."""

_waiting: dict[bytes, bytes] = {}


def recall(*key: object) -> bytes | None:
    """Return what was remembered under a key of plain data; None where nothing was, or it is damaged."""
    hashed = _hash(*key)
    if (kept := _waiting.get(hashed)) is None and (connection := _connection()) is not None:
        try:
            found = connection.execute("SELECT value FROM kept WHERE key = ?", (hashed,)).fetchone()
        except sqlite3.Error as error:
            _give_up(error)
        else:
            kept = found and found[0]
    if kept is None or kept[:CHECK] != _check(hashed, kept[CHECK:]):
        return None
    return kept[CHECK:]


def remember(value: bytes, *key: object) -> None:
    """Remember a value under a key of plain data, for this process at once and for others from `flush` on."""
    hashed = _hash(*key)
    _waiting[hashed] = _check(hashed, value) + value
    if len(_waiting) >= MOST:
        flush()


def flush() -> None:
    """Write what waits; where that cannot be, it is not remembered."""
    if _waiting and (connection := _connection()) is not None:
        try:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", _waiting.items())
        except sqlite3.Error as error:
            _give_up(error)
    _waiting.clear()


def content(path: Path, read: Callable[[], bytes], *part: object) -> str:
    """Return the SHA-256 of what `read` returns, a file or a `part` of one, unread where the file is as it was."""
    return found_in(path, lambda: hashlib.sha256(read()).digest(), "content", *part).hex()


def found_in(path: Path, find: Callable[[], bytes], what: str, *part: object) -> bytes:
    """Return what `find` finds in a file, remembered as `what` as long as the file is as it was.

    A file whose time says that it was changed just now may be changed again at that time: it is read each time.
    """
    state = _state(path)
    if (known := recall(what, *state, *part)) is not None:
        return known
    found = find()
    if max(state[-2:]) < time.time_ns() - SETTLED and _state(path) == state:
        remember(found, what, *state, *part)
    return found


def _state(path: Path) -> tuple[str, int, int, int, int]:
    """Return what of a file changes with it; nobody but the system sets the last of its times."""
    found = path.stat()
    return os.path.abspath(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _hash(*key: object) -> bytes:
    return hashlib.sha256(repr(key).encode()).digest()


def _check(key: bytes, value: bytes) -> bytes:
    return hashlib.sha256(key + value).digest()[:CHECK]


def _connection() -> sqlite3.Connection | None:
    return _opened(cached(FILE), os.getpid(), get_ident())


@cache
def _opened(place: str | None, process: int, thread: int) -> sqlite3.Connection | None:
    """Return a connection of this thread alone; None where there can be no such file."""
    if place is None:
        return None
    try:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(place, timeout=WAIT)
        connection.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
    except (OSError, sqlite3.Error) as error:
        _give_up(error)
        return None
    return connection


def _give_up(error: Exception) -> None:
    """Do without what cannot be read or written; a file that is no database any more is removed, to begin anew."""
    damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
    if damaged and (place := cached(FILE)) is not None:
        with suppress(OSError):
            os.unlink(place)
