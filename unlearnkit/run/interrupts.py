"""Signals and lack of memory as clean ends."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import torch

from unlearnkit.errors import Exit, Stopped, UserError, first_line

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Tell = Callable[[Mapping[str, Any]], None]


class Stop:
    """The wish to stop that a signal brings: it is obeyed at once, but for blocks that have to come to their end."""

    def __init__(self, tell: Tell, *, begun: bool = True) -> None:
        """Take whom to tell of a signal, and whether there is a run to continue already."""
        self.signal: int | None = None
        self.begun = begun
        self._tell, self._waits = tell, False

    def request(self, number: int) -> None:
        """Acknowledge a signal, and raise `Stopped` unless this is inside `later`."""
        self.signal = number
        self._tell({"event": "stopping", "signal": number})
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
    """Turn the first signal into a request to stop where all is saved; the second one does what it does elsewhere."""
    with ExitStack() as before:

        def request(number: int, frame: FrameType | None) -> None:
            before.close()
            stop.request(number)

        for number in SIGNALS:
            before.callback(signal.signal, number, signal.signal(number, request))
        yield


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn a lack of memory, and a step that cannot be compiled, into one message."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        where = str(error).partition(". ")[0] or "on the host"
        advice = "lower training.batch_size and resume, or use another device"
        raise UserError(f"out of memory ({where}); {advice}", Exit.DEVICE) from None
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        found = f"a step cannot be compiled here ({first_line(error)})"
        advice = "resume with --set training.compile=false"
        raise UserError(f"training.compile: {found}; {advice}", Exit.DEVICE) from None
