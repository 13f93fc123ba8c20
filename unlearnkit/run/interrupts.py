"""Signals and lack of memory as clean ends."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Timer
from types import FrameType
from typing import Any

from unlearnkit.errors import Exit, Stopped, UserError, first_line, memory_error

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SOON = 0.05
"""Seconds after which a signal that could not be obeyed comes again."""
Tell = Callable[[Mapping[str, Any]], None]


class Stop:
    """The wish to stop that a signal brings: it is obeyed at once, but for blocks that have to come to their end."""

    def __init__(self, tell: Tell, *, begun: bool = True) -> None:
        """Take whom to tell of a signal, and whether there is a run to continue already."""
        self.signal: int | None = None
        self.begun = begun
        self._tell, self._waits = tell, False

    def acknowledge(self, number: int) -> None:
        """Tell that a signal has come."""
        if self.signal is None:
            self.signal = number
            self._tell({"event": "stopping", "signal": number})

    def obey(self) -> None:
        """Raise `Stopped` unless this is inside `later`."""
        if not self._waits:
            self.check()

    @contextmanager
    def later(self) -> Iterator[None]:
        """Let no signal end the block; call `check` behind it."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.signal is not None:
            raise Stopped(self.signal, begun=self.begun)


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """Turn the first signal into a request to stop where all is saved; the second one does what it does elsewhere.

    Out of a finaliser Python lets no exception: a stop that is lost in one is asked for again.
    """
    lost, told = False, sys.unraisablehook

    def request(number: int, frame: FrameType | None) -> None:
        nonlocal lost
        if stop.signal is not None and not lost:
            before.close()
            signal.raise_signal(number)
            return
        lost = False
        stop.acknowledge(number)
        stop.obey()

    def unraisable(found: Any) -> None:
        nonlocal lost
        if found.exc_type is not Stopped or stop.signal is None:
            told(found)
            return
        lost = True
        timer = Timer(SOON, os.kill, (os.getpid(), stop.signal))
        before.callback(timer.cancel)
        timer.start()

    with ExitStack() as before:
        for number in SIGNALS:
            before.callback(signal.signal, number, signal.signal(number, request))
        before.callback(setattr, sys, "unraisablehook", told)
        sys.unraisablehook = unraisable
        yield


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn a lack of memory, and a step that cannot be compiled, into one message."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if (short := memory_error(error)) is not None:
            raise short from None
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        found = f"a step cannot be compiled here ({first_line(error)})"
        advice = "resume with --set training.compile=false"
        raise UserError(f"training.compile: {found}; {advice}", Exit.DEVICE) from None
