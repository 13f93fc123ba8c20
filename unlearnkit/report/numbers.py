"""How a number or a text is written, the same in the page, in the Markdown and in the verdict."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from unlearnkit.errors import printable

NONE = "—"
RESOLVED = 1e-12
"""What is smaller is shown as 0: squares of what single precision rounds off in numbers of order 1 are."""
WHOLE = 1e7
"""Up to here a number with too many digits is written as a whole one: 19200 images, not 1.920e4."""


def known(value: object) -> TypeGuard[float]:
    """Tell whether `value` is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: object, digits: int = 4) -> str:
    """Write a number with so many significant digits."""
    if not known(value):
        return "∞" if value == math.inf else NONE
    if abs(value) < RESOLVED:
        return "0"
    if 10**digits <= abs(value) < WHOLE:
        return f"{value:.0f}".replace("-", "−")
    mantissa, _, exponent = f"{value:#.{digits}g}".partition("e")
    return (mantissa.rstrip(".") + (f"e{int(exponent)}" if exponent else "")).replace("-", "−")


def percent(value: object, *, signed: bool = True) -> str:
    """Write a fraction as a percentage, by default with its sign: gaps are read by it."""
    if not known(value):
        return NONE
    rounded = round(100 * value, 1) + 0.0  # −0.0 becomes 0.0
    text = f"{rounded:+.1f}" if signed and rounded else f"{rounded:.1f}" if signed else f"{rounded:g}"
    return f"{text} %".replace("-", "−")


def rounded(value: float, error: float | None) -> str:
    """Write a number down to the first digit of its error, or with three digits where that is not known."""
    if not error:
        return figure(value, 3)
    places = min(max(0, math.ceil(-math.log10(error))), 4)
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "−")


def listed_words(words: Sequence[str]) -> str:
    """Write words as a list in a sentence."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def one_line(text: str) -> str:
    """Return a text from outside on one line, with nothing in it that is no letter."""
    return printable(" ".join(text.split()))


def unbroken(label: str) -> str:
    """Keep a percentage and an equation on one line."""
    return label.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")


def whole(value: object, places: int = 0) -> str:
    """Write a count, or a duration with so many places after the point."""
    return f"{value:.{places}f}" if known(value) else NONE


def agreed(value: object) -> str:
    """Write a yes, a no, or that the question does not arise."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else NONE


def listed(facts: Mapping[str, object]) -> str:
    """Write facts in one line."""
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts.items())
