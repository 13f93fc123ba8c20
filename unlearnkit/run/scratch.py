"""Models that were trained from scratch, kept in the user's cache, so that runs share them."""

from pathlib import Path
from typing import Any

from torch import Tensor

from unlearnkit.disk import cached
from unlearnkit.errors import UserError
from unlearnkit.run import checkpoint
from unlearnkit.run.events import Run
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.origin import Origin, digest


def place(origin: Origin) -> Path | None:
    """Return where what depends on `origin` is kept; None where nothing is."""
    folder = cached("scratch")
    return None if folder is None else Path(folder, digest(origin))


def known(run: Run, name: str, origin: Origin) -> tuple[dict[str, Tensor], Any] | None:
    """Return the end of a training that was taken before; a damaged one is told of and passed over."""
    path = place(origin)
    if path is None or not path.exists():
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
    if (path := place(origin)) is None:
        return
    facts = {**descent.state()[1], "checks": []}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(path, {"theta": descent.trained}, facts)
    except (OSError, UserError) as error:
        run.event("warning", message=f"{path.parent}: what was trained from scratch cannot be kept there ({error})")
