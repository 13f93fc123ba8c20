"""The one error type for what a user can fix; everything else is a bug and keeps its traceback."""

import re
import unicodedata
from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line; a run stopped by signal N exits with 128 + N after saving."""

    meaning: str
    """What the code says."""

    DONE = 0, "done"
    BUG = 1, "a bug: the traceback is kept"
    USAGE = 2, "usage"
    RECIPE = 3, "the recipe, or what it names"
    PLUGIN = 4, "a plugin, or another package that cannot be imported"
    DEVICE = 5, "device or memory"
    DIVERGED = 6, "diverged"
    FOLDER = 7, "run folder or checkpoint unusable"
    REFUSED = 8, "`verify`: a file, the signature or a figure is not what was handed over"

    def __new__(cls, value: int, meaning: str) -> "Exit":
        """Take a code with its meaning."""
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code


_UNSEEN = frozenset({"Cc", "Cf", "Cs"})
"""Control and format characters and halves of others, by their category in Unicode."""


def first_line(error: Exception) -> str:
    """Return the first line of what an exception of another package says."""
    return str(error).strip().split("\n")[0]


def printable(text: str) -> str:
    """Return a text with signs for what moves a cursor, turns letters round or is no letter; line breaks and tabs stay.

    What comes from outside, such as the name of a file, is shown so: escapes of a terminal end here.
    """
    return "".join(c if unicodedata.category(c) not in _UNSEEN or c in "\n\t" else "\ufffd" for c in text)


class UserError(Exception):
    """One clear message that says where and what to do instead, and its exit code: that of a recipe if left out."""

    each: "Sequence[UserError]" = ()
    """What it is made of, where it tells of several things that are wrong."""

    def __init__(self, message: str, code: Exit = Exit.RECIPE) -> None:
        super().__init__(printable(message))
        self.code = code


class Stopped(BaseException):
    """A signal stopped the run, whose state is saved; no exception, so that no code of others takes it for a fault."""

    def __init__(self, signal: int, *, begun: bool = True) -> None:
        super().__init__(f"stopped by signal {signal}; " + ("the state is saved" if begun else "nothing was begun"))
        self.signal = signal


_NO_MEMORY = re.compile(
    r"out of memory|can(no|')t allocate|failed to allocate|not enough memory|alloc_failed|bad_alloc|"
    r"calculation overflowed|multiplication overflow|overflow when unpacking",
    re.IGNORECASE,
)
"""What torch's allocators, libraries and the system say where memory is short, and torch of sizes beyond any memory."""


def memory_error(error: BaseException) -> UserError | None:
    """Return the one message for a lack of memory, on the host or a device; None for any other exception."""
    said = str(error)
    short = isinstance(error, MemoryError) or (isinstance(error, RuntimeError | OSError) and _NO_MEMORY.search(said))
    if not short:
        return None
    asked = re.search(r"tried to allocate (more than )?[\d.]+ \w+", said, re.IGNORECASE)
    where = "on the device" if "CUDA" in said else "on the host"
    found = f"out of memory {where}" + (f" ({asked[0].lower()})" if asked else "")
    advice = "lower the batch size or the model's sizes, or use another device; a run that has begun can be resumed"
    return UserError(f"{found}; {advice}", Exit.DEVICE)
