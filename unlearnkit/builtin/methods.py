"""Neighbouring methods that run beside the ε-constrained solutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from unlearnkit import hookimpl
from unlearnkit.recipe.sections import MethodSection

if TYPE_CHECKING:
    from unlearnkit.control import Multiplier


class Composite(MethodSection):
    """Minimise f2 + α f1 with a fixed α (Li et al. 2024)."""

    kind: Literal["composite"]
    """The composite loss."""
    alpha: float = Field(0.25, ge=0)
    """Weight α of the forget loss."""

    def build(self) -> Multiplier:
        """Return the constant multiplier."""
        from unlearnkit.builtin.multipliers import Fixed

        return Fixed(self.alpha)


@hookimpl
def register_methods() -> list[type[MethodSection]]:
    """Return the built-in methods."""
    return [Composite]
