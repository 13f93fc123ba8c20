"""Files of weights to what they hold, by their content whatever their names are, without running any of it."""

import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from os import SEEK_END
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

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
    (
        rb"\s*[\[{]",
        "it is JSON, such as an index or a configuration; give the folder that it is in, or the file of the weights",
    ),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc|Rar!|\x28\xb5\x2f\xfd", "it is a compressed archive; unpack it"),
    (rb"(?s).{257}ustar", "it is a tar archive; unpack it"),
    (rb"\x93NUMPY", f"it is an array of numpy; {ALONE}"),
    (rb"\x89HDF", f"it is an HDF5 file; {ALONE}"),
    (rb"GGUF", f"it is a GGUF file; {ALONE}"),
    (rb"\x89PNG|\xff\xd8\xff|%PDF|GIF8", "it is a picture or a document; give the file of the weights"),
    (rb"\x7fELF|MZ|#!", "it is a program; give the file of the weights"),
    (
        rb"[\t\n\r\x20-\x7e\x80-\xff]+$",
        "it is text, such as what a server says in place of a file; download that itself",
    ),
)
"""How files begin that hold no weights, what they are and what to do."""


HARMLESS = re.compile(
    r"(numpy|pytorch_lightning|lightning|lightning_fabric|lightning_utilities|omegaconf|argparse|pathlib|collections|"
    r"datetime|decimal|fractions|uuid|enum|typing|torch\.optim|torch\.torch_version)\.[\w.]+|"
    r"(builtins\.)?(set|frozenset|complex|slice|range|bytearray|bytes|int|float|bool|str|list|dict|tuple|object|Any)"
)
"""What training scripts keep beside the weights, by its name in a pickle; none of it is made, see `Unmade`."""
MOST = 200
"""Such names in a file at most."""


_DEVICE: ContextVar[str] = ContextVar("device", default="cpu")


@contextmanager
def outlined() -> Iterator[None]:
    """Let models be built, and weights be read, on the meta device inside the block: shapes without values."""
    token = _DEVICE.set("meta")
    try:
        with torch.device("meta"):
            yield
    finally:
        _DEVICE.reset(token)


def there(value: torch.Tensor) -> bool:
    """Tell whether the values of a tensor are there, or where models are `outlined` that they are not."""
    return value.device.type == _DEVICE.get()


class Unmade:
    """What stands in a checkpoint for an object or a function of another package, which is neither made nor called."""

    def __new__(cls, *_: object, **__: object) -> "Unmade":
        """Take what the other would be made from."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        """Keep nothing."""

    def __setitem__(self, key: object, value: object) -> None:
        """Tell as torch's own reader does that this is a kind of table, which must be a dict."""
        raise TypeError(f"Can only set items of a dict, but got {type(self)}")


def held(path: Path) -> object:
    """Return what a safetensors file or a checkpoint of torch holds, an `Unmade` for what is `HARMLESS`.

    Raise `UserError` for a file that is damaged or something else, such as TorchScript; nothing of it is run.
    """
    return _checkpoint(path) if content(path) == CHECKPOINT else _safetensors(path)


def content(path: Path) -> str:
    """Return `SAFETENSORS` or `CHECKPOINT`; raise `UserError` saying what the file is where it is neither."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the file of the weights")
    try:
        with path.open("rb") as stream:
            head = stream.read(512).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.decode("utf-16", "ignore").encode()
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


def _safetensors(path: Path) -> object:
    try:
        if _DEVICE.get() == "meta":
            with safe_open(path, "pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        return load_file(path)
    except Exception as error:  # of safetensors, of the disk, or of torch for a type of numbers that it does not know
        broken = f"this is no complete safetensors file ({first_line(error)})"
        raise UserError(f"{path}: {broken}; download or write it again") from None


def _checkpoint(path: Path) -> object:
    unmade: dict[str, type[Unmade]] = {}
    while True:
        try:
            named = [(stand_in, name) for name, stand_in in unmade.items()]
            with path.open("rb") as stream, torch.serialization.safe_globals(list[Any](named)):
                return torch.load(stream, map_location=_DEVICE.get(), weights_only=True)
        except Exception as error:  # what torch advises, to load all that is in the file, is what must not be done
            found = re.search(r"GLOBAL ([\w.]{1,200}) w", str(error))
            if found and _cut(path, found[1].rpartition(".")[2].encode()):
                found = None
            if found and HARMLESS.fullmatch(found[1]) and len(unmade) < MOST:
                name = found[1] if "." in found[1] else f"builtins.{found[1]}"
                if name not in unmade:
                    unmade[name] = _stand_in(name)
                    continue
            filled = re.search(
                r"Can only (append|extend|set).* got <class 'unmade\.([\w.]+)'>", str(error), re.IGNORECASE
            )
            if filled and filled[2] in unmade:
                unmade[filled[2]] = _stand_in(filled[2], OrderedDict if filled[1].lower() == "set" else list)
                continue
            what = (
                f"names {found[1]}, and reading that could run code" if found else "is damaged or pickles other things"
            )
            raise UserError(f"{path}: this is no complete checkpoint of plain tensors: it {what}; {ALONE}") from None


def _cut(path: Path, name: bytes) -> bool:
    """Tell whether a file ends within this name, of which a pickle's reader takes the last byte for the line's end."""
    with path.open("rb") as stream:
        stream.seek(-len(name) - 1, SEEK_END)
        return stream.read()[:-1] == name


def _stand_in(name: str, filled: Callable[[], object] | None = None) -> type[Unmade]:
    """Return what stands for a class of that name: an `Unmade`, or the table or list that is `filled` in its place."""
    own = {"__module__": "unmade", "__qualname__": name}
    return type(name, (Unmade,), own if filled is None else own | {"__new__": lambda *_, **__: filled()})
