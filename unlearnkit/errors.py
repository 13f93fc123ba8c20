"""The one error type for what a user can fix; everything else is a bug and keeps its traceback."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line; a run stopped by signal N exits with 128 + N after saving."""

    DONE = 0
    BUG = 1
    USAGE = 2
    RECIPE = 3
    PLUGIN = 4
    DEVICE = 5
    DIVERGED = 6
    FOLDER = 7

    @property
    def meaning(self) -> str:
        """What the code says."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.DONE: "done",
    Exit.BUG: "a bug: the traceback is kept",
    Exit.USAGE: "usage",
    Exit.RECIPE: "the recipe, or what it names",
    Exit.PLUGIN: "a plugin",
    Exit.DEVICE: "device or memory",
    Exit.DIVERGED: "diverged",
    Exit.FOLDER: "run folder or checkpoint unusable",
}


def first_line(error: Exception) -> str:
    """Return the first line of what an exception of another package says."""
    return str(error).strip().split("\n")[0]


class UserError(Exception):
    """One clear message that says where and what to do instead, and the exit code that goes with it."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code


class Stopped(Exception):  # noqa: N818
    """A signal stopped the run after its state was saved."""

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}; the state is saved")
        self.signal = signal
