"""How a command ends: what stopped it is one message and an exit code; a bug of ours alone keeps its traceback."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from unlearnkit.errors import Exit, Stopped, UserError, memory_error
from unlearnkit.plugins import Plugins
from unlearnkit.plugins.faults import interrupted, raised

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What the disk says, whoever writes to it."""
HINTS = "unlearnkit.cli.hints"
"""What stands between click and every command."""


def ended(command: Callable[[], object], plugins: Plugins) -> int | str | None:
    """Run a command of the command line and return its exit code; raise what is a bug of ours."""
    try:
        try:
            command()
        except SystemExit as left:
            if (cause := _cause(left)) is not None:  # which click made an exit code of
                raise cause from None
            if _inside(left):
                raise
            _flush()
            return left.code
        _flush()
        return Exit.DONE
    except BaseException as error:
        return _told(error, plugins)


def _cause(left: BaseException) -> BaseException | None:
    """Return the interrupt or broken pipe that an exit comes from, if it does."""
    found: BaseException | None = left
    while found is not None and not isinstance(found, KeyboardInterrupt | BrokenPipeError):
        found = found.__cause__ or found.__context__
    return found


def _inside(left: SystemExit) -> bool:
    """Tell whether an exit was raised below a command of ours, which raises none: not by click or another command."""
    names = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(left.__traceback__))
    return any(name.startswith("unlearnkit.") and name != HINTS for name in islice(names, 1, None))


def _told(error: BaseException, plugins: Plugins) -> int | str | None:
    """Print what ended a command and return its exit code; raise it again where it is a bug of ours."""
    if isinstance(error, BrokenPipeError):
        _leave_stdout()  # whoever read it has seen enough
        return 128 + signal.SIGPIPE
    if isinstance(error, Stopped):
        return _said(str(error), 128 + error.signal)
    if interrupted(error):
        return 128 + signal.SIGINT
    if isinstance(error, OSError) and error.errno in FULL:
        return _unwritten(error)
    known = error if isinstance(error, UserError) else memory_error(error) or plugins.failure(error)
    if (known := known or _unimportable(error)) is not None:
        return _said(f"error: {known}" if "\n" not in str(known) else str(known), known.code)
    if isinstance(error, SystemExit):
        return error.code
    if isinstance(error, OSError):
        return _unwritten(error)
    raise error


def _unimportable(error: BaseException) -> UserError | None:
    """Return the error of a package that is installed and fails while it is imported, None for any other."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package != "unlearnkit":
            advice = "install it again, and what needs torch from where torch is from"
            return UserError(f"{package} cannot be imported ({raised(error)}); {advice}", Exit.PLUGIN)
    return None


def _unwritten(error: OSError) -> int:
    """Tell of a file that cannot be read or written, which no code foresaw."""
    named = isinstance(error.filename, str | bytes)
    name = os.fsdecode(error.filename) if named else "standard output, or a file"
    if not named:
        _leave_stdout()
    reason, advice = error.strerror or raised(error), "mend that, or give another place, and give the command again"
    return _said(f"error: {name}: cannot be read or written ({reason}); {advice}", Exit.FOLDER)


def _said(message: str, code: int) -> int:
    """Print a message on stderr, if that can be written, and return the code."""
    with suppress(OSError):
        print(message, file=sys.stderr)
    return code


def _flush() -> None:
    """Write what was printed, so that a full disk shows now and not in the interpreter's last breath."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _leave_stdout() -> None:
    """Let what is still to be written to stdout go nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
