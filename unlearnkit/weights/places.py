"""Where a reference to weights points: a sample, a file, the hub, an installed package."""

import re
from collections.abc import Iterable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import torch

from unlearnkit.disk import expanded
from unlearnkit.errors import Exit, UserError, first_line


def sample(name: str, file: str) -> Path:
    """Return a file of a shipped sample; raise `UserError` naming the samples that have one."""
    folder = Path(str(files("unlearnkit.samples")))
    path = folder / name / file
    if not (name.isprintable() and name == Path(name).name and path.is_file()):
        known = ", ".join(sorted(found.parent.name for found in folder.glob(f"*/{file}")))
        raise UserError(f"sample:{name}: there is no such sample; there is: {known}", Exit.RECIPE)
    return path


HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+?)(?:/(?P<file>[\w./-]+))?@(?P<revision>[0-9a-f]{40})")


def resolve(reference: str | None, base: Path, key: str = "model.weights") -> Path | None:
    """Return the file or folder that `weights:` names, relative to the recipe's folder `base`; messages name `key`.

    `hub:OWNER/NAME/FILE@COMMIT` is a file of the Hugging Face hub, `hub:OWNER/NAME@COMMIT` a whole repository.
    """
    if reference is None:
        return None
    if reference.startswith("sample:"):
        return sample(reference.removeprefix("sample:"), "model.safetensors")
    if reference.startswith("hub:"):
        return _from_hub(reference, base, key)
    path = expanded(base, reference)
    if not path.exists():
        advice = "give one, sample:NAME, or hub:OWNER/NAME@COMMIT"
        raise UserError(f"{key}: there is no file or folder {path}; {advice}", Exit.RECIPE)
    return path


def pinned(reference: str, base: Path, key: str = "model.weights") -> re.Match[str]:
    """Return the parts of a reference to the hub, which is not asked; raise `UserError` for one without a commit."""
    match = HUB.fullmatch(reference)
    if match is None:
        forms = "hub:OWNER/NAME@COMMIT or hub:OWNER/NAME/FILE@COMMIT with the 40 digits of the commit"
        advice = f"write {forms}, so that it means the same tomorrow"
        raise UserError(f"{key}: '{reference}' is no pinned reference; {advice}", Exit.RECIPE)
    return match


def _from_hub(reference: str, base: Path, key: str) -> Path:
    match = pinned(reference, base, key)
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
    except ImportError:
        raise UserError(f"{key}: a hub reference needs `pip install 'unlearnkit[hub]'`", Exit.PLUGIN) from None
    repo, file, revision = match["repo"], match["file"], match["revision"]
    try:
        found = hf_hub_download(repo, file, revision=revision) if file else snapshot_download(repo, revision=revision)
    except Exception as error:  # the hub's client raises many kinds, for the net, for a name, for a right
        reason = f"{type(error).__name__}: {first_line(error)}"
        advice = "check name and connection, or give a local file"
        raise UserError(f"{key}: '{reference}' could not be fetched ({reason}); {advice}", Exit.RECIPE) from None
    return Path(found)


def packaged(package: str, file: str) -> Path:
    """Return where an installed package has a file, without importing it; a path that is not there without it."""
    found = find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    return Path(folders[0]) / file if folders else Path(package) / file


def cached(file: str) -> Path:
    """Return where torch keeps a file of weights that it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / file


def located(reference: str | None, base: Path, key: str, places: Iterable[Path], advice: str) -> Path:
    """Return the weights that `reference` names, or without one the first of `places` that is there.

    Raise `UserError` with `advice`, which says what to install or which file to put where.
    """
    path = resolve(reference, base, key) or next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(f"{key}: the weights are missing; {advice}", Exit.RECIPE)
    return path
