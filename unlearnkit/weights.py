"""Weights files: where a reference points, reading and writing safetensors, and what does not fit."""

import argparse
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unlearnkit.errors import Exit, UserError, first_line

PICKLED = frozenset({".pth", ".pt", ".ckpt", ".bin"})
SHOWN = 3
"""Names listed of many that do not fit."""


def sample(name: str, file: str) -> Path:
    """Return a file of a shipped sample; raise `UserError` naming the samples that have one."""
    folder = Path(str(files("unlearnkit.samples")))
    path = folder / name / file
    if not path.is_file():
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
        return _from_hub(reference, key)
    path = base / Path(reference).expanduser()
    if not path.exists():
        raise UserError(
            f"{key}: there is no file or folder {path}; give one, sample:NAME, or hub:OWNER/NAME@COMMIT",
            Exit.RECIPE,
        )
    return path


def _from_hub(reference: str, key: str) -> Path:
    match = HUB.fullmatch(reference)
    if match is None:
        raise UserError(
            f"{key}: '{reference}' is no pinned reference; write hub:OWNER/NAME@COMMIT or "
            f"hub:OWNER/NAME/FILE@COMMIT with the 40 digits of the commit, so that it means the same tomorrow",
            Exit.RECIPE,
        )
    try:
        from huggingface_hub import hf_hub_download, snapshot_download
    except ImportError:
        raise UserError(f"{key}: a hub reference needs `pip install 'unlearnkit[hub]'`", Exit.PLUGIN) from None
    repo, file, revision = match["repo"], match["file"], match["revision"]
    try:
        found = hf_hub_download(repo, file, revision=revision) if file else snapshot_download(repo, revision=revision)
    except Exception as error:  # the hub's client raises many kinds, for the net, for a name, for a right
        reason = first_line(error)
        raise UserError(
            f"{key}: '{reference}' could not be fetched ({type(error).__name__}: {reason}); check name and "
            f"connection, or give a local file",
            Exit.RECIPE,
        ) from None
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


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' names and hashes."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        listed = "".join(f"{file.relative_to(path).as_posix()} {sha256(file)}\n" for file in files)
        return hashlib.sha256(listed.encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of another checkpoint file of plain tensors.

    Raise `UserError` where it is truncated or something else.
    """
    if path.suffix in PICKLED:
        return read_checkpoint(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: this is no complete safetensors file ({error}); download or write it again", Exit.RECIPE
        ) from None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file of the wild, refusing all that is not plain tensors.

    Where the weights stand under `model` or `state_dict`, as training scripts save them, those are returned. Of a
    TorchScript file the tensors are taken and its code is not run.
    """
    if _is_script(path):
        with warnings.catch_warnings(action="ignore"):  # torch deprecates the format, in which files exist all the same
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
    try:
        # Training scripts save their arguments beside the weights; a namespace runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = first_line(error)
        raise UserError(
            f"{path}: this is no complete checkpoint of plain tensors ({reason}); download it again, or save its "
            f"weights alone as safetensors where it comes from",
            Exit.RECIPE,
        ) from None
    for inside in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(inside), dict):
            found = found[inside]
            break
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: this holds no table of tensors; give a file of a model's weights", Exit.RECIPE)
    return dict(found)


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that can make numpy's arrays of numbers, and refuses all else."""

    def find_class(self, module: str, name: str) -> object:
        """Return what `module` calls `name` if it is one of the three things that an array is made of."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a pickled tree of numpy arrays, as flax writes them, by their path such as `a.b.kernel`.

    Raise `UserError` where there is anything but dictionaries and arrays.
    """

    def leaves(tree: object, place: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
        if isinstance(tree, dict):
            for name, part in tree.items():
                yield from leaves(part, (*place, str(name)))
        else:
            yield ".".join(place), torch.from_numpy(np.array(tree))

    try:
        with path.open("rb") as stream:
            return dict(leaves(_ArraysOnly(stream).load(), ()))
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{path}: this is no complete file of arrays ({error}); install it again", Exit.RECIPE
        ) from None


FAMILIES = {
    "a masked autoencoder (MAE)": ("decoder_pred.weight", "decoder_blocks.0.attn.qkv.weight", "cls_token"),
    "a MAGE transformer": ("token_emb.word_embeddings.weight", "mlm_layer.bias"),
    "a VQ-GAN of taming-transformers": (
        "quantize.embedding.weight",
        "encoder.conv_in.weight",
        "decoder.conv_in.weight",
    ),
    "a Palette U-Net": ("denoise_fn.input_blocks.0.0.weight",),
    "Stable Diffusion in its original layout": ("model.diffusion_model.input_blocks.0.0.weight",),
    "a U-Net of diffusers": ("down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight"),
    "unlearnkit's own vit-mae": ("encoder.blocks.0.fc1.weight", "decoder.mask_token"),
}
"""Names that tell a layout, for messages."""


def family(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what a table of tensors looks like, where it is a layout that is known here."""
    return next((name for name, keys in FAMILIES.items() if all(key in tensors for key in keys)), None)


def load(module: nn.Module, path: Path) -> None:
    """Copy the weights of a file, or of `model.safetensors` in a folder, into `module`, in the module's precision.

    Raise `UserError` where they do not fit.
    """
    path = path / "model.safetensors" if path.is_dir() else path
    fit(module.state_dict(), read(path), path)


def fit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, section: str = "model") -> None:
    """Copy what was `found` in `path` into the tensors `wanted`, such as a `state_dict`, in their precision.

    Raise `UserError` where names or shapes do not fit; nothing is copied then.
    """
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    shapes = [
        f"{name} is {list(found[name].shape)} in the file and {list(value.shape)} in the model"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    looks = family(found)
    for what, names in (("other shapes", shapes), ("missing", missing), ("not in the model", unknown)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            seen = f" The file looks like {looks}." if looks and what != "other shapes" else ""
            raise UserError(
                f"{path}: the weights do not fit the model; {what}: {'; '.join(names[:SHOWN])}{more}.{seen} "
                f"Set the kind and sizes of `{section}:` to those the weights were trained with",
                Exit.RECIPE,
            )
    for name, value in wanted.items():
        value.copy_(found[name])


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, each contiguous and with storage of its own."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, path)
