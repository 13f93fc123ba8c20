"""Whose an exception is: a plugin's, named by the innermost frame in its package, a person's Ctrl-C, or ours."""

import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from types import FrameType
from typing import NamedTuple

from unlearnkit.errors import Stopped
from unlearnkit.recipe.sections import Section

SHOWN = 10
"""Lines of a traceback that a message ends with, where no run keeps the whole."""

_watch = {"on": False, "came": False}
"""Whether a `watched` block is under way, and whether a SIGINT came in it."""


@dataclass
class Plugin:
    """One plugin: where it comes from, what it registered, and why it failed if it did."""

    name: str
    package: str
    version: str
    sections: list[type[Section]] = field(default_factory=list)
    error: str | None = None
    modules: set[str] = field(default_factory=set)
    """Modules whose packages are its own; none of a built-in, whose faults are ours."""

    def __str__(self) -> str:
        return f"the plugin '{self.name}' of package {self.package}"


class Fault(NamedTuple):
    """What a plugin's code raised."""

    plugin: Plugin
    said: str
    """What was raised and where, in one line."""
    lines: list[str]
    """The traceback from the plugin's own innermost frame on."""


def fault(error: BaseException, plugins: Sequence[Plugin]) -> Fault | None:
    """Return whose fault an exception is by the innermost frame in a plugin's package; None where it is nobody's."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for place in reversed(range(len(frames))):
        frame, line = frames[place]
        if (plugin := _owner(frame.f_globals.get("__name__"), plugins)) is not None:
            at = f"{frame.f_code.co_filename}:{line}, in {frame.f_code.co_name}"
            tail = traceback.StackSummary.extract(iter(frames[place:]))
            return Fault(plugin, f"{raised(error)} ({at})", "".join(tail.format()).splitlines())
    return None


def raised(error: BaseException) -> str:
    """Return type and text of an exception in one line, whatever its text does."""
    try:
        text = " ".join(str(error).split())[:500]
    except BaseException:
        text = "its text cannot be had"
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _owner(module: object, plugins: Sequence[Plugin]) -> Plugin | None:
    """Return the plugin that a module has the longest name in common with, counted in its parts."""
    steps = str(module).split(".")

    def common(plugin: Plugin) -> int:
        pairs = (zip(steps, name.split("."), strict=False) for name in plugin.modules)
        return max((sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], one)) for one in pairs), default=0)

    best = max(plugins, key=common, default=None)
    return best if best is not None and common(best) else None


def _note(number: int, frame: FrameType | None) -> None:
    _watch["came"] = True
    raise KeyboardInterrupt


@contextmanager
def watched() -> Iterator[None]:
    """Note each real Ctrl-C inside the block, so that a `KeyboardInterrupt` that a plugin raises is told from it."""
    main, before = threading.current_thread() is threading.main_thread(), signal.getsignal(signal.SIGINT)
    if not main or _watch["on"] or before not in (signal.default_int_handler, signal.SIG_IGN):
        yield
        return
    _watch.update(on=True, came=False)
    if before is not signal.SIG_IGN:  # as it is in the background of a shell, where none can come
        signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _watch["on"] = False


def interrupted(error: BaseException | None = None) -> bool:
    """Tell whether a real signal came; where nobody watches, each `KeyboardInterrupt` is taken for a Ctrl-C."""
    return isinstance(error, Stopped) or (_watch["came"] if _watch["on"] else isinstance(error, KeyboardInterrupt))
