"""What was found of a model, kept in the run folder under the hash of all that it was computed from."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unlearnkit.disk import disk_errors, read_record, write_record
from unlearnkit.errors import UserError
from unlearnkit.evaluation.instruments import Watcher
from unlearnkit.seal import MANIFEST
from unlearnkit.solver.origin import Origin, digest, plain, software
from unlearnkit.solver.workbench import Workbench


def origin(bench: Workbench, of: str | None, sections: Mapping[str, object], facts: Sequence[object]) -> Origin:
    """Return all that figures of a model of a digest, or of the original one, depend on, by tools of some sections."""
    return {
        **bench.basis,
        "of": of or "original",
        "validation": dict(bench.validation),
        "sections": plain(sections, bench.base),
        "software": bench.basis["software"] | software(sections.values()) | dict(_libraries()),
        "facts": facts,
    }


@cache
def _libraries() -> tuple[tuple[str, str], ...]:
    """Return the versions of the libraries that our own metrics and audits are computed by."""
    return tuple((name, version(name)) for name in ("numpy", "pillow", "scipy", "torchmetrics", "torchvision"))


def load(
    folder: Path, name: str, origin: Origin, watcher: Watcher, whole: Callable[[Path, Any], bool] = lambda *_: True
) -> Any:
    """Return what a file of a run folder, or of one beside it, keeps; None where there is none of this origin.

    What is found beside is kept here too. `whole` takes the folder where something is found, and tells whether all that
    belongs to it is in this run's. Of a damaged file the watcher is told, and it is passed over.
    """
    for place in (folder, *beside(folder)):
        found = _kept(place / name, origin, watcher)
        if found is not None and whole(place, found):
            if place != folder:
                save(folder / name, origin, found)
                watcher.event("taken", name=name, of=place.name)
            return found
    return None


def beside(folder: Path) -> list[Path]:
    """Return the folders of the other runs of a recipe that is varied, which may have computed the same."""
    here = folder.absolute()
    if not (here.parent / MANIFEST).is_file():
        return []
    return sorted(path.parent for path in here.parent.glob(f"*/{MANIFEST}") if path.parent != here)


def _kept(path: Path, origin: Origin, watcher: Watcher) -> Any:
    if not path.exists():
        return None
    try:
        found = read_record(path)
    except UserError as error:
        watcher.warn(f"{error}; it was passed over")
        return None
    return found["value"] if found["origin"] == digest(origin) else None


def save(path: Path, origin: Origin, value: object) -> None:
    """Keep what was found."""
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
    write_record(path, {"origin": digest(origin), "value": value})
