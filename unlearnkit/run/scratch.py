"""Models that were trained from scratch, kept in the user's cache, so that runs share them."""

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from unlearnkit.errors import UserError
from unlearnkit.run import checkpoint
from unlearnkit.run.events import Run
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.origin import Origin, digest

CACHE = "UNLEARNKIT_CACHE"
"""The variable that names the cache's folder where that is not ~/.cache/unlearnkit."""


def place(origin: Origin) -> Path:
    """Return where what depends on `origin` is kept."""
    cache = Path(os.environ.get(CACHE) or "~/.cache/unlearnkit").expanduser()
    return cache / "scratch" / digest(origin)


def known(run: Run, name: str, origin: Origin) -> tuple[dict[str, Tensor], Any] | None:
    """Return the end of a training that was taken before; a damaged one is told of and passed over."""
    path = place(origin)
    if not path.exists():
        return None
    try:
        found = checkpoint.read(path)
    except UserError as error:
        run.event("warning", message=f"{error}; it was passed over")
        return None
    run.event("shared", id=name, path=str(path))
    return found


def keep(run: Run, origin: Origin, descent: Descent) -> None:
    """Keep the end of a training, without what it was held against; where that cannot be the run goes on."""
    path, facts = place(origin), {**descent.state()[1], "checks": []}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(path, {"theta": descent.trained}, facts)
    except (OSError, UserError) as error:
        run.event("warning", message=f"{path.parent}: what was trained from scratch cannot be kept there ({error})")
