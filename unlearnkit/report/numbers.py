"""How a number or a text is written, the same in the page, in the Markdown and in the verdict."""

import math
from collections.abc import Mapping
from typing import TypeGuard

from unlearnkit.errors import printable

NONE = "—"


def known(value: object) -> TypeGuard[float]:
    """Tell whether `value` is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: object, digits: int = 4) -> str:
    """Write a number with so many significant digits."""
    if not known(value):
        return "∞" if value == math.inf else NONE
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:#.{digits}g}".partition("e")
    return (mantissa.rstrip(".") + (f"e{int(exponent)}" if exponent else "")).replace("-", "−")


def percent(value: object, *, signed: bool = True) -> str:
    """Write a fraction as a percentage, by default with its sign: gaps are read by it."""
    if not known(value):
        return NONE
    rounded = round(100 * value, 1) + 0.0  # −0.0 becomes 0.0
    text = f"{rounded:+.1f}" if signed and rounded else f"{rounded:.1f}" if signed else f"{rounded:g}"
    return f"{text} %".replace("-", "−")


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
