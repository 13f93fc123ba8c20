"""Neighbouring methods that run beside the ε-constrained solutions."""

from unlearnkit import hookimpl
from unlearnkit.builtin.methods import baselines, trade_offs
from unlearnkit.recipe.sections import MethodSection


@hookimpl
def register_methods() -> list[type[MethodSection]]:
    """Return the built-in methods."""
    return [*baselines.METHODS, *trade_offs.METHODS]
