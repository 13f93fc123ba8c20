"""Lists as people keep them: their text, names that are equal, and all that is wrong in one message."""

import codecs
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

from unlearnkit.errors import Exit, UserError

SHOWN = 20
"""Things listed of many that there are."""


def nfc(text: str) -> str:
    """Return a name as it is compared: its letters composed, whichever way its file system writes them."""
    return unicodedata.normalize("NFC", text)


def slashed(written: str) -> str:
    """Return a path of a list as keys are compared: letters composed, `/` for a backslash, no `./`."""
    return nfc(Path(written.replace("\\", "/")).as_posix())


def read_text(path: Path, place: str) -> str:
    """Return the text of a list, UTF-8 or what a byte order mark says; raise `UserError` with `place` without it."""
    try:
        data = path.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if wide else "utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{place}: there is no file {path}", Exit.RECIPE) from None
    except UnicodeDecodeError:
        raise UserError(f"{place}: {path} is no UTF-8 text; save it as UTF-8", Exit.RECIPE) from None
    except OSError as error:
        raise UserError(f"{place}: {path} cannot be read ({error.strerror})", Exit.RECIPE) from None


def unused(keys: Collection[str], why: str) -> list[str]:
    """Return the note that images of a source are not used, where there are any."""
    return [f"data.source: {len(keys)} of its images are not used, such as '{min(keys)}': they {why}"] if keys else []


def refuse_lines(path: Path, problems: Sequence[tuple[str, str]]) -> None:
    """Raise one `UserError` of the problems in a list, each with its line or entry, where there are any."""
    if problems:
        told = [f"{path} {where}: {problem}" for where, problem in problems[:SHOWN]]
        more = [f"and {len(problems) - SHOWN} more such lines"] if len(problems) > SHOWN else []
        raise UserError("\n".join(told + more), Exit.RECIPE)


def refuse(problems: Sequence[UserError]) -> None:
    """Raise what is wrong as one `UserError`, each on its line as far as there is room, where there is anything."""
    each = [one for problem in problems for one in (problem.each or [problem])]
    if len(each) > 1:
        more = [f"and {len(each) - SHOWN} more"] if len(each) > SHOWN else []
        error = UserError("\n".join([*map(str, each[:SHOWN]), *more]), each[0].code)
        error.each = each
        raise error
    if each:
        raise each[0]
