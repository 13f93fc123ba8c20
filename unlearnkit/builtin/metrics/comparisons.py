"""Metrics that compare each output with its target: by pixels, and by activations as people see it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import CAP, Metric, View, psnr
from unlearnkit.disk import sha256
from unlearnkit.weights import cached, fit, located, packaged, read

TRUNKS = {
    "alex": ("alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11)),
    "vgg": ("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29)),
    "squeeze": ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12)),
}
"""torchvision's name, its file, and the layers whose activations are compared."""

WINDOW = 11
"""Width in pixels of SSIM's window."""


class Mean(Metric):
    """The mean over images of `values` [B], which updates append to."""

    def __init__(self) -> None:
        self.reset()

    def compute(self) -> Mapping[str, float]:
        return {"value": float(torch.cat(self.values).double().mean())}

    def each(self) -> Sequence[float]:
        return list(map(float, torch.cat(self.values).tolist()))

    def reset(self) -> None:
        self.values: list[Tensor] = []


class Psnr(Mean):
    """PSNR in dB of each image over the whole image or over what the model was to make, averaged over images."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.hidden = hidden

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        self.values.append(psnr(outputs, targets, view.region if self.hidden else None))

    def describe(self) -> Mapping[str, object]:
        name = "PSNR, hidden region" if self.hidden else "PSNR"
        return {"name": name, "unit": "dB", "better": "higher", "cap": f"{CAP:g} dB for an identical image"}


class Ssim(Mean):
    """Structural similarity of each image over the Gaussian windows that lie inside it, averaged over images."""

    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
        # Half of a command's start-up time is this import, and only some recipes need it.
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim

        if min(outputs.shape[2:]) < WINDOW:
            raise ValueError(f"images of {outputs.shape[3]} × {outputs.shape[2]} px hold no window of {WINDOW} px")
        _, places = ssim(outputs, targets, reduction="none", data_range=1.0, return_full_image=True)
        # torchmetrics mirrors the borders; as in scikit-image, only places whose window needs no mirror count.
        edge = WINDOW // 2
        self.values.append(torch.as_tensor(places)[:, :, edge:-edge, edge:-edge].flatten(1).mean(1))

    def describe(self) -> Mapping[str, object]:
        window = f"Gaussian of deviation 1.5 px, {WINDOW} px wide, inside the image alone"
        return {"name": "SSIM", "better": "higher", "window": window}


class Lpips(Mean):
    """The mean over images of Σ_l mean_hw Σ_c w_lc (y_lc/‖y_l‖ − ŷ_lc/‖ŷ_l‖)² over layers l and channels c.

    That is eq. 1 of Zhang et al. 2018.
    """

    def __init__(self, network: str, weights: str | None, size: int | None, base: Path, device: torch.device) -> None:
        """Take the activations of `network`, of images resized to `size` px where it is given."""
        super().__init__()
        self.size = size
        self.name, file, self.taps = TRUNKS[network]
        place, key = cached(file), f"metric lpips, network {network}"
        path = located(weights, base, key, [place], f"put torchvision's {file} at {place}")
        self.trunk, self.digest = _trunk(network, path).to(device), sha256(path)
        # The weights [C, 1, 1] of each layer's channels, from the file that comes with torchmetrics.
        heads = read(packaged("torchmetrics", f"functional/image/lpips_models/{network}.pth"))
        self.heads = [heads[f"lin{layer}.model.1.weight"][0].to(device) for layer in range(len(self.taps))]
        self.mean = torch.tensor((-0.030, -0.088, -0.188), device=device)[:, None, None]
        self.std = torch.tensor((0.458, 0.448, 0.450), device=device)[:, None, None]

    def __deepcopy__(self, memo: dict[int, object]) -> "Lpips":
        """Return an empty metric that shares the network."""
        other = object.__new__(Lpips)
        other.__dict__ = {**self.__dict__, "values": []}
        return other

    @torch.no_grad()
    def update(self, outputs: Tensor, targets: Tensor, view: View) -> None:
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

    def describe(self) -> Mapping[str, object]:
        return {
            "name": f"LPIPS ({self.name})",
            "better": "lower",
            "extractor": f"{self.name} (torchvision, ImageNet-1K V1), heads of LPIPS 0.1",
            "weights_sha256": self.digest,
            "resize": "none" if self.size is None else f"{self.size} px, bilinear, antialiased",
        }


def _trunk(network: str, path: Path) -> nn.Sequential:
    """Return the layers up to the last one that is tapped."""
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
    found = {key: value for name, value in read(path).items() if (key := name.removeprefix("features.")) in wanted}
    fit(wanted, found, path, "lpips")
    return trunk.eval().requires_grad_(False)
