"""timm's names of architectures, and how a recipe hears of a misfit."""

from difflib import get_close_matches
from functools import partial

import timm

from unlearnkit.errors import Exit, UserError

misfit = partial(UserError, code=Exit.RECIPE)
"""What a user hears of a recipe, or of the weights that it names."""


def check_name(key: str, architecture: str, pattern: str = "*") -> None:
    """Raise `UserError` naming `key` where timm has no such architecture among those that match `pattern`."""
    known = timm.list_models(pattern)
    if architecture not in known:
        close = get_close_matches(architecture, known, 1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; see timm.list_models('{pattern}')"
        raise misfit(f"{key}: timm has no '{architecture}'{hint}")
