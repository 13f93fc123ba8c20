"""Files of weights to tables of tensors, by their content whatever their names are, without running any of it."""

import argparse
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from unlearnkit.errors import UserError, first_line

SAFETENSORS, CHECKPOINT = "safetensors", "checkpoint"
SCRIPT = (
    "it is a TorchScript archive, which is code with weights, and loading one runs that code; where it comes from, "
    "save the weights alone: safetensors.torch.save_file(torch.jit.load(FILE).state_dict(), 'model.safetensors')"
)
ALONE = "save the weights alone as safetensors where it comes from (safetensors.torch.save_file)"
NONE = (
    (rb"$", "it is empty; download it again"),
    (rb"version https://git-lfs", "it is a pointer of Git LFS in place of the file; fetch that with `git lfs pull`"),
    (rb"\s*<", "it is a web page (HTML) or XML, such as a page that asks to log in; download the file itself"),
    (rb"\s*[\[{]", "it is JSON, such as an index or a configuration; give the file of the weights"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc|Rar!|\x28\xb5\x2f\xfd", "it is a compressed archive; unpack it"),
    (rb"(?s).{257}ustar", "it is a tar archive; unpack it"),
    (rb"\x93NUMPY", f"it is an array of numpy; {ALONE}"),
    (rb"\x89HDF", f"it is an HDF5 file; {ALONE}"),
    (rb"GGUF", f"it is a GGUF file; {ALONE}"),
    (rb"\x89PNG|\xff\xd8\xff|%PDF|GIF8", "it is a picture or a document; give the file of the weights"),
    (rb"\x7fELF|MZ|#!", "it is a program; give the file of the weights"),
)
"""How files begin that hold no weights, what they are and what to do."""


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a checkpoint of torch that holds nothing but tensors.

    Where a checkpoint's weights stand under `model` or `state_dict`, as training scripts save them, those are returned.
    Raise `UserError` for a file that is damaged or something else, such as TorchScript; nothing of it is run.
    """
    found = _checkpoint(path) if content(path) == CHECKPOINT else _safetensors(path)
    if not (isinstance(found, dict) and found and all(map(_plain, found, found.values()))):
        raise UserError(f"{path}: this holds no table of tensors; give a file of a model's weights")
    return dict(found)


def content(path: Path) -> str:
    """Return `SAFETENSORS` or `CHECKPOINT`; raise `UserError` saying what the file is where it is neither."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the file of the weights")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if head[:4] == b"PK\x03\x04":
        said = _zipped(path)
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return SAFETENSORS
    else:
        said = next((words for start, words in NONE if re.match(start, head)), "")
        if path.suffix == ".safetensors" and not said and head[:1] != b"\x80":
            raise UserError(f"{path}: this is no complete safetensors file; download or write it again")
    if said:
        raise UserError(f"{path}: this is no complete checkpoint of plain tensors: {said}")
    return CHECKPOINT


def _zipped(path: Path) -> str:
    """Return what a zip archive is and what to do where it is no checkpoint, empty where it is one."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
    except Exception:  # zipfile raises many kinds for a broken directory
        return f"it is damaged or not all there; download it again, or {ALONE}"
    names = {file.filename.partition("/")[2] for file in files}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return SCRIPT
    if "data.pkl" not in names:
        return f"it is a zip archive of other files; unpack it, or {ALONE}"
    # torch writes its files as they are: one that would grow when it is read was made to.
    if sum(file.file_size for file in files) > path.stat().st_size:
        return f"it is compressed, which torch.save does not do; {ALONE}"
    return ""


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # of safetensors, of the disk, or of torch for a type of numbers that it does not know
        broken = f"this is no complete safetensors file ({first_line(error)})"
        raise UserError(f"{path}: {broken}; download or write it again") from None


def _checkpoint(path: Path) -> object:
    try:
        # Training scripts save their arguments beside the weights; a namespace runs no code.
        with path.open("rb") as stream, torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch advises, to load the file with all that is in it, is what must not be done
        named = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        what = f"names {named[1]}, and reading that could run code" if named else "is damaged or pickles other things"
        raise UserError(f"{path}: this is no complete checkpoint of plain tensors: it {what}; {ALONE}") from None
    if isinstance(found, dict):
        return next((found[key] for key in ("model", "state_dict") if isinstance(found.get(key), dict)), found)
    return found


def _plain(name: object, value: object) -> bool:
    """Tell whether this is a tensor whose values are there, under a name that can be shown."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and isinstance(value, Tensor)
        and (value.layout, value.device.type) == (torch.strided, "cpu")
        and not (value.is_quantized or value.is_nested)
    )
