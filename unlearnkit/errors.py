"""The one error type for what a user can fix; everything else is a bug and keeps its traceback."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line; a run stopped by signal N exits with 128 + N after saving."""

    meaning: str
    """What the code says."""

    DONE = 0, "done"
    BUG = 1, "a bug: the traceback is kept"
    USAGE = 2, "usage"
    RECIPE = 3, "the recipe, or what it names"
    PLUGIN = 4, "a plugin"
    DEVICE = 5, "device or memory"
    DIVERGED = 6, "diverged"
    FOLDER = 7, "run folder or checkpoint unusable"

    def __new__(cls, value: int, meaning: str) -> "Exit":
        """Take a code with its meaning."""
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code


def first_line(error: Exception) -> str:
    """Return the first line of what an exception of another package says."""
    return str(error).strip().split("\n")[0]


class UserError(Exception):
    """One clear message that says where and what to do instead, and its exit code: that of a recipe if left out."""

    def __init__(self, message: str, code: Exit = Exit.RECIPE) -> None:
        super().__init__(message)
        self.code = code


class Stopped(BaseException):
    """A signal stopped the run, whose state is saved; no exception, so that no code of others takes it for a fault."""

    def __init__(self, signal: int, *, begun: bool = True) -> None:
        super().__init__(f"stopped by signal {signal}; " + ("the state is saved" if begun else "nothing was begun"))
        self.signal = signal
