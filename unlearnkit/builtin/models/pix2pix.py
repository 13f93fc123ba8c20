"""The generator of pix2pix (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017).

A U-Net: each level halves the side and hands what it makes across to the one that doubles it again. Files have the
names of `UnetGenerator` in junyanz/pytorch-CycleGAN-and-pix2pix, where each level is written inside the one above it.
Shape suffixes: B images, C channels, h and w the sides of a level.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Embedding, ModelAdapter, Size, View
from unlearnkit.weights import fit, read, save

Norm = Literal["batch", "instance"]


class OfEach(nn.BatchNorm2d):
    """A batch norm by each image's own statistics: what a batch of one gives in training, and how pix2pix is tested."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the base's name)
        """Return [B, C, h, w]."""
        return F.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


class Level(nn.Module):
    """A convolution that halves or doubles the side, and its normalisation."""

    def __init__(self, conv: nn.Module, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = {None: nn.Identity, "batch": OfEach, "instance": nn.InstanceNorm2d}[norm](channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, h / 2, w / 2] or [B, C, 2 h, 2 w]."""
        return self.norm(self.conv(x))


class Generator(nn.Module):
    """`depth` levels, of `width` channels and twice as many from level to level, up to eight times."""

    def __init__(self, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        bias, last = norm == "instance", depth - 1
        widths = [3, *(width * min(2**level, 8) for level in range(depth))]
        down, up = [], []
        for level, (outer, inner) in enumerate(pairwise(widths)):
            halving = nn.Conv2d(outer, inner, 4, 2, 1, bias=bias)
            down.append(Level(halving, inner, norm if 0 < level < last else None))
            doubling = nn.ConvTranspose2d(inner * (1 if level == last else 2), outer, 4, 2, 1, bias=bias or not level)
            up.append(Level(doubling, outer, norm if level else None))
        self.encoder, self.decoder = nn.ModuleList(down), nn.ModuleList(up)

    def published(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors under the names that they have in the authors' files."""
        place, names = "model.model.", dict[str, str]()
        for level in range(len(self.encoder)):
            down, up = (0, 3) if not level else (1, 3) if level == len(self.encoder) - 1 else (1, 5)
            for half, conv in (("encoder", down), ("decoder", up)):
                names |= {f"{half}.{level}.conv": f"{place}{conv}", f"{half}.{level}.norm": f"{place}{conv + 1}"}
            place += f"{3 if level else 1}.model."
        for name, value in self.state_dict().items():
            module, _, kind = name.rpartition(".")
            yield f"{names[module]}.{kind}", value


class Pix2PixAdapter(ModelAdapter):
    """The way down as encoder: what every level makes is the embedding."""

    module: Generator
    encoder: nn.ModuleList

    def __init__(self, weights: Path | None, image_size: Size, width: int, depth: int, norm: Norm) -> None:
        """Build the model with weights where there are some; raise `UserError` where they do not fit."""
        self.module, self.image_size = Generator(width, depth, norm), image_size
        self.encoder = self.module.encoder
        if weights is not None:
            wanted = dict(self.module.published())
            fit(wanted, read(weights, wanted), weights)

    def embed(self, view: View) -> Embedding:
        """Return what the levels make, [B, C, h, w] each, the outermost first."""
        x, made = view.images * 2 - 1, list[Tensor]()
        for level in self.encoder:
            x = level(F.leaky_relu(x, 0.2) if made else x)
            made.append(x)
        return made

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the images of what the levels made."""
        *across, x = embedding
        for level in reversed(self.module.decoder):
            x = level(F.relu(x))
            if across:
                x = torch.cat([across.pop(), x], 1)
        return x.tanh() / 2 + 0.5

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean absolute error of what is to be made; `pretrain` adds the adversarial term."""
        error = (self.decode(self.embed(view), view).float() - images).abs()
        weight = view.region.expand_as(images).float()
        return (error * weight).sum() / weight.sum()

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` with the names of the authors' files."""
        save(dict(self.module.published()), folder / "model.safetensors")
