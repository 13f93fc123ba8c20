"""Signals and lack of memory as clean ends."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from unlearnkit.errors import Exit, UserError, first_line, memory_error
from unlearnkit.run.events import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals(run: Run) -> Iterator[None]:
    """Turn the first signal into a request to save and stop; the second one stops at once."""
    with ExitStack() as before:

        def request(number: int, frame: FrameType | None) -> None:
            run.stop_signal = number
            before.close()

        for number in SIGNALS:
            before.callback(signal.signal, number, signal.signal(number, request))
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
