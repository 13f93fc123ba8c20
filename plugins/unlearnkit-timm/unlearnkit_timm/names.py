"""timm's names of architectures."""

from difflib import get_close_matches

import timm

from unlearnkit.errors import UserError


def check_name(key: str, architecture: str, pattern: str = "*") -> None:
    """Raise `UserError` naming `key` where timm has no such architecture among those that match `pattern`."""
    known = timm.list_models(pattern)
    if architecture not in known:
        close = get_close_matches(architecture, known, 1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; see timm.list_models('{pattern}')"
        raise UserError(f"{key}: timm has no '{architecture}'{hint}")
