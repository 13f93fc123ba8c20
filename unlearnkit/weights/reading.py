"""Files of weights to tables of tensors, without running what they hold."""

import argparse
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unlearnkit.errors import Exit, UserError, first_line

PICKLED = frozenset({".pth", ".pt", ".ckpt", ".bin"})


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or other checkpoint file; raise `UserError` for one truncated or none."""
    if path.suffix in PICKLED:
        return read_checkpoint(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        broken = f"this is no complete safetensors file ({error})"
        raise UserError(f"{path}: {broken}; download or write it again", Exit.RECIPE) from None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file of the wild, refusing all that is not plain tensors.

    Where the weights stand under `model` or `state_dict`, as training scripts save them, those are returned. A
    TorchScript file is loaded for its tensors, which can run code of its own: give none from strangers.
    """
    if _is_script(path):
        with warnings.catch_warnings(action="ignore"):  # torch deprecates the format, in which files exist all the same
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
    try:
        # Training scripts save their arguments beside the weights; a namespace runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        broken = f"this is no complete checkpoint of plain tensors ({first_line(error)})"
        advice = "download it again, or save its weights alone as safetensors where it comes from"
        raise UserError(f"{path}: {broken}; {advice}", Exit.RECIPE) from None
    if isinstance(found, dict):
        found = next((found[key] for key in ("model", "state_dict") if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path}: this holds no table of tensors; give a file of a model's weights", Exit.RECIPE)
    return dict(found)


def _is_script(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
