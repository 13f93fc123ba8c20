"""Versions of the packages that are at work, and hashes of their sources."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from unlearnkit import __version__


@cache
def _names() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def version(package: str) -> str:
    """Return the version of the distribution that a package is from, if any, and the first digits of its source."""
    found = None
    with suppress(ValueError, ImportError):  # of a script that is run, or a module that nobody can import again
        found = find_spec(package)
    places = list(found.submodule_search_locations or ()) if found else []
    files = sorted(path for place in places for path in Path(place).rglob("*.py"))
    if found and found.origin and not files:
        files = [Path(found.origin)]
    source = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    known = (
        [__version__] if package == "unlearnkit" else [metadata.version(name) for name in _names().get(package, [])[:1]]
    )
    return " ".join([*known, source])


@cache
def beside(package: str) -> tuple[tuple[str, str], ...]:
    """Return the packages that the distribution of a package requires and that are installed, with their versions."""
    found = []
    for requirement in (
        line for name in _names().get(package, []) for line in metadata.distribution(name).requires or ()
    ):
        name = re.split(r"[^\w.-]", requirement)[0]
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(one for one in found if one[0] not in ("unlearnkit", "torch"))
