"""One complaint about a recipe, at its place, and the error that carries all of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from unlearnkit.errors import Exit, UserError

OVERRIDE = "--set"
"""What stands for the file's name in the place of an override."""

SHOWN = 30
"""Problems that a message lists, three lines each: whoever has more mends these first."""
MAX_MESSAGE = 1000
"""Characters of one problem, whatever it quotes."""
MAX_NAME = 60
"""Characters of one key on the way to a value."""
MAX_PROBLEMS = 1000
"""Problems that are looked for: a text with more is no recipe, and each of them takes time."""

Loc = tuple[str | int, ...]
"""Keys and indexes that lead from the top of a recipe to a value."""


class Place(NamedTuple):
    """Where something stands, counted from 1, and the line it stands on; line 0 means the file as a whole."""

    file: str
    line: int
    column: int
    text: str

    def problem(self, loc: Loc, message: str) -> "Problem":
        """Return a problem of `loc` that stands here."""
        return Problem(self.file, self.line, self.column, dotted(loc), message, self.text)


@dataclass(frozen=True)
class Problem:
    """One complaint about a recipe, at its place."""

    file: str
    line: int
    column: int
    path: str
    message: str
    text: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Render like a compiler: the place, what is wrong, the line and a caret."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        message = self.message if len(self.message) <= MAX_MESSAGE else f"{self.message[:MAX_MESSAGE]}..."
        head = ": ".join(filter(None, (place, self.path, message)))
        if not self.line:
            return head
        start = max(0, self.column - 60) if len(self.text) > 100 else 0
        shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in self.text[start : start + 100])
        caret = re.sub(r"[^\t]", " ", shown[: self.column - 1 - start]) + "^"
        return f"{head}\n    {shown}\n    {caret}"


class RecipeError(UserError):
    """All problems of a recipe, sorted by place."""

    def __init__(self, problems: Iterable[Problem], code: Exit = Exit.RECIPE) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file == OVERRIDE, p.line, p.column, p.path)))
        count = f"{len(self.problems)} problem{'s' * (len(self.problems) != 1)}"
        count += " or more" * (len(self.problems) >= MAX_PROBLEMS)
        count += f"; the first {SHOWN} are shown" * (len(self.problems) > SHOWN)
        super().__init__("\n".join([*map(str, self.problems[:SHOWN]), count]), code)


def dotted(loc: Loc) -> str:
    """Return the way to a value as people write it, such as `data.forget.classes[1]`."""
    plain = re.compile(rf"[\w-]{{1,{MAX_NAME}}}")
    names = (s if isinstance(s, int) or plain.fullmatch(s) else shown(s) for s in loc)
    return "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).removeprefix(".")


def shown(value: object) -> str:
    """Return a value in at most 40 characters, with nothing in it that moves the cursor."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 40 else f"{text[:36]}...{text[-1]}"


def describe(value: object) -> str:
    """Say in words what a value of a recipe is."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {shown(value)}"
        case str():
            return f"the text {shown(value)}"
        case list():
            return "a list"
        case _:
            return "a mapping"
