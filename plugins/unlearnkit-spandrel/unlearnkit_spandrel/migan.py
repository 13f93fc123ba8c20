"""MI-GAN (Sargsyan et al., ICCV 2023) for spandrel, which does not know it: its generator, and how its files are found.

Names of weights are those of the authors' files (`migan_512_places2.pt`), so that their loader reads what is exported.
Shape suffixes: B images, C channels, h and w the sides of a level, whose name is its side in images of the usual size.
"""

from collections.abc import Mapping, Sequence

import spandrel
import torch
from spandrel.util import KeyCondition
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (512, 512, 512, 512, 512, 256, 128, 64)
"""Channels of the levels of 4, 8, ... 512 px."""
FIXED = "filter_const"
"""A mask of ones and zeros in the authors' files, of which each side has as many as an image."""


def activated(x: Tensor) -> Tensor:
    """Return a leaky ReLU of gain √2, clamped."""
    return F.hardtanh(F.leaky_relu(x, 0.2) * 2**0.5, -256, 256)


class Filter(nn.Module):
    """The filter [1, 3, 3, 1] in both directions, which is not trained."""

    weight: Tensor

    def __init__(self, channels: int, total: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) * total**0.5 / 8
        self.register_buffer("weight", line.outer(line).repeat(channels, 1, 1, 1))


class Smoothing(nn.Module):
    """Half or twice the side."""

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up, self.filter = up, Filter(channels, 4 if up else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, h / 2, w / 2] or [B, C, 2 h, 2 w]."""
        if self.up:
            return F.conv_transpose2d(x, self.filter.weight.flip(2, 3), stride=2, padding=1, groups=x.shape[1])
        return F.conv2d(x, self.filter.weight, stride=2, padding=1, groups=x.shape[1])


class Separable(nn.Module):
    """A convolution of each channel and one across channels, both activated, with a change of the side between them."""

    noise_const: Tensor

    def __init__(self, ins: int, outs: int, *, down: bool = False, up: bool = False, noise: int = 0) -> None:
        """Take the channels, and the side of the noise that is added, always the same; 0 for none."""
        super().__init__()
        self.conv1 = nn.Conv2d(ins, ins, 3, padding=1, groups=ins)
        self.conv2 = nn.Conv2d(ins, outs, 1, bias=False)
        self.downsample = Smoothing(ins, up=False) if down else nn.Identity()
        self.upsample = Smoothing(outs, up=True) if up else nn.Identity()
        self.noise = noise
        if noise:
            self.register_buffer("noise_const", torch.randn(noise, noise))
            self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, ...]; the noise is cut, or repeated, for images of another size than the usual one."""
        x = self.upsample(self.conv2(self.downsample(activated(self.conv1(x)))))
        if self.noise:
            rows, columns = (torch.arange(side, device=x.device) % self.noise for side in x.shape[2:])
            x = x + self.noise_const[rows][:, columns] * self.noise_strength
        return activated(x)


class Down(nn.Module):
    """A level of the encoder."""

    def __init__(self, ins: int, outs: int, *, first: bool, last: bool) -> None:
        super().__init__()
        self.fromrgb = nn.Conv2d(4, ins, 1) if first else None
        self.conv1, self.conv2 = Separable(ins, ins), Separable(ins, outs, down=not last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what goes down, and what goes across."""
        across = self.conv1(x if self.fromrgb is None else activated(self.fromrgb(x)))
        return self.conv2(across), across


class Up(nn.Module):
    """A level of the synthesis."""

    def __init__(self, ins: int, outs: int, noise: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Separable(ins, outs, up=noise > 0, noise=noise), Separable(outs, outs, noise=noise)
        self.torgb = nn.Conv2d(outs, 3, 1)
        if noise:
            self.upsample = Smoothing(3, up=True)

    def forward(self, x: Tensor, across: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what goes up, and the sum of the levels' images."""
        x = self.conv2(self.conv1(x) + across)
        return x, self.torgb(x) if image is None else self.upsample(image) + self.torgb(x)


class Encoder(nn.Module):
    """The levels from the image down to 4 px."""

    def __init__(self, widths: Mapping[int, int]) -> None:
        super().__init__()
        self.sides = sorted(widths, reverse=True)
        for side in self.sides:
            below = widths.get(side // 2, widths[side])
            self.add_module(f"b{side}", Down(widths[side], below, first=side == self.sides[0], last=side == 4))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the deepest output, and what goes across by level."""
        across = {}
        for side in self.sides:
            x, across[side] = self.get_submodule(f"b{side}")(x)
        return x, across


class Synthesis(nn.Module):
    """The levels from 4 px up to the image."""

    def __init__(self, widths: Mapping[int, int]) -> None:
        super().__init__()
        for side in sorted(widths):
            noise = side if side > 4 else 0
            self.add_module(f"b{side}", Up(widths.get(side // 2, widths[side]), widths[side], noise))

    def forward(self, x: Tensor, across: Mapping[int, Tensor]) -> Tensor:
        """Return images in [-1, 1]."""
        image = None
        for side in sorted(across):
            x, image = self.get_submodule(f"b{side}")(x, across[side], image)
        assert image is not None
        return image


class MIGAN(nn.Module):
    """The generator, in the form in which the authors publish it for inference."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        """Take the channels of the levels of 4, 8, ... px, up to the side of the usual images."""
        super().__init__()
        self.hyperparameters = {"widths": widths}
        levels = {4 << number: width for number, width in enumerate(widths)}
        self.encoder, self.synthesis = Encoder(levels), Synthesis(levels)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Return images [B, 3, H, W] in [0, 1] of others whose `hidden` [B, 1, H, W] pixels are 1."""
        shown = 1 - hidden
        return self.synthesis(*self.encoder(torch.cat([shown - 0.5, (images * 2 - 1) * shown], 1))) / 2 + 0.5


class MIGANArch(spandrel.Architecture[MIGAN]):  # type: ignore[misc] # spandrel's classes are untyped here
    """How spandrel finds and loads it."""

    def __init__(self) -> None:
        keys = ("encoder.b4.conv1.conv2.weight", "synthesis.b4.torgb.weight", "synthesis.b8.conv1.noise_strength")
        super().__init__(id="MIGAN", name="MI-GAN", detect=KeyCondition.has_all(*keys))

    def load(self, state_dict: dict[str, Tensor]) -> spandrel.MaskedImageModelDescriptor[MIGAN]:
        """Return the network of a file, in the widths that it has."""
        widths = list[int]()
        while (weight := state_dict.get(f"encoder.b{4 << len(widths)}.conv1.conv2.weight")) is not None:
            widths.append(len(weight))
        state = {name: value for name, value in state_dict.items() if not name.endswith(FIXED)}
        step = 1 << len(widths) - 1
        return spandrel.MaskedImageModelDescriptor(
            MIGAN(widths), state, architecture=self, purpose="Inpainting", tags=[f"{4 * step}px"], supports_half=False,
            supports_bfloat16=True, input_channels=3, output_channels=3,
            size_requirements=spandrel.SizeRequirements(minimum=step, multiple_of=step),
        )  # fmt: skip


__all__ = ["MIGAN", "MIGANArch"]
