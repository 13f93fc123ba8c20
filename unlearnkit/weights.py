"""Weights files: where a reference points, reading and writing safetensors, and what does not fit."""

import hashlib
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unlearnkit.errors import Exit, UserError

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


def resolve(reference: str | None, base: Path) -> Path | None:
    """Return the file that `weights:` names, relative to the recipe's folder `base`."""
    if reference is None:
        return None
    if reference.startswith("sample:"):
        return sample(reference.removeprefix("sample:"), "model.safetensors")
    path = base / Path(reference).expanduser()
    if not path.is_file():
        raise UserError(f"model.weights: there is no file {path}; give a safetensors file or sample:NAME", Exit.RECIPE)
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raise `UserError` where it is truncated or something else."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: this is no complete safetensors file ({error}); download or write it again", Exit.RECIPE
        ) from None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file of the wild, refusing all that is not plain tensors."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: this is no checkpoint of plain tensors ({error})", Exit.RECIPE) from None
    return dict(found)


def load(module: nn.Module, path: Path) -> None:
    """Copy the weights of a file into `module`, in the module's precision; raise `UserError` where they do not fit."""
    found, wanted = read(path), module.state_dict()
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    shapes = [
        f"{name} is {list(found[name].shape)} in the file and {list(value.shape)} in the model"
        for name, value in wanted.items()
        if name in found and found[name].shape != value.shape
    ]
    for what, names in (("other shapes", shapes), ("missing", missing), ("not in the model", unknown)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UserError(
                f"{path}: the weights do not fit the model; {what}: {'; '.join(names[:SHOWN])}{more}. "
                f"Set the sizes of `model:` to those the weights were trained with",
                Exit.RECIPE,
            )
    module.load_state_dict({name: value.to(wanted[name].dtype) for name, value in found.items()})


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, each contiguous and with storage of its own."""
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, path)


def choose_device(name: str) -> torch.device:
    """Return the device of a recipe; raise `UserError` where it asks for a CUDA device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"training.device: '{name}' is asked for, but this machine shows {torch.cuda.device_count()} CUDA devices "
            f"to PyTorch; use --set training.device=cpu, or auto",
            Exit.DEVICE,
        )
    return device
