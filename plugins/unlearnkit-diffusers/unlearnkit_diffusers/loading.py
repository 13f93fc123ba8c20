"""Autoencoders from folders of diffusers and from their authors' files, and how they are written.

A folder may say in `pixels.json` that its model takes and gives images in [0, 1]. Tiny autoencoders also come as TAESD
publishes them (madebyollin/taesd): a folder with `*encoder.pth` and `*decoder.pth`, or both as safetensors. The model
for FLUX.2 among them has blocks that diffusers does not know, so that it is written in that layout too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny, VQModel
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor, nn

from unlearnkit.disk import write_text
from unlearnkit.errors import UserError
from unlearnkit.weights import fit, read
from unlearnkit.weights import save as save_tensors
from unlearnkit_diffusers import single_file, taming
from unlearnkit_diffusers.sizes import read_facts
from unlearnkit_diffusers.unet import placed, pretrained

PIXELS = "pixels.json"
SUFFIXES = (".safetensors", ".pth")
SHIFTS = {"encoder": 0, "decoder": 1}
"""TAESD's halves, and how many more layers each begins with than in diffusers, which bounds the latents outside."""


class Pooled(AutoencoderTinyBlock):
    """A block of TAESD for FLUX.2, whose group normalisation lets every pixel of it see all others."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, "relu")
        self.pool = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.GroupNorm(4, 4 * width), nn.ReLU(),
            nn.Conv2d(4 * width, width, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, C, H, W]."""
        return super().forward(x + self.pool(x))


def load(kind: Any, weights: Path) -> tuple[Any, bool]:
    """Return a model of the class `kind` in fp32, and whether its images are in [0, 1] rather than [-1, 1].

    Raise `UserError` where `weights` is no folder of diffusers and no layout that is known for this class, or a
    `VQModel` whose decoder reads the codes beside the latents (Kandinsky's).
    """
    if weights.is_dir():
        weights = placed(kind, weights)
        if kind is AutoencoderTiny and not (weights / "config.json").exists():
            encoder, decoder = (_half(weights, half) for half in SHIFTS)
            if encoder and decoder:
                return _tiny(read(encoder), read(decoder), weights), False
        net = pretrained(kind, weights)
        if (norm := net.config.get("norm_type", "group")) != "group":
            raise UserError(f"{weights}: a VQModel with norm_type {norm} is not supported; give one with group")
        return net, bool(read_facts(weights / PIXELS).get("unit"))
    if kind is VQModel:
        tensors = read(weights, taming.KNOWN)
        return taming.vqgan(tensors, weights), taming.unit(tensors)
    if kind is AutoencoderKL:
        whole = {f"{single_file.VAE}{name}" for name in taming.HALVES}
        return single_file.vae(read(weights, whole, taming.HALVES), weights), False
    wanted = "a folder of diffusers (config.json and weights)"
    if kind is AutoencoderTiny:
        wanted += ", or from a folder with TAESD's two files (such as taesd_encoder.pth and taesd_decoder.pth)"
    raise UserError(f"{weights}: an {kind.__name__} is loaded from {wanted}; give it")


def save(net: Any, unit: bool, folder: Path) -> None:
    """Write a model so that `load` reads it back: as diffusers does, where diffusers can express it."""
    if any(isinstance(module, Pooled) for module in net.modules()):
        for half, shift in SHIFTS.items():
            save_tensors(_shifted(getattr(net, half).layers.state_dict(), shift), folder / f"{half}.safetensors")
        return
    net.save_pretrained(folder)
    if unit:
        write_text(folder / PIXELS, '{"unit": true}\n')


def _half(folder: Path, half: str) -> Path | None:
    """Return the file of one half, as safetensors where there is one, or None."""
    by_suffix = (sorted(folder.glob(f"*{half}{suffix}")) for suffix in SUFFIXES)
    found = next(filter(None, by_suffix), [])
    if len(found) > 1:
        raise UserError(f"{folder}: which is the {half}, {found[0].name} or {found[1].name}? Keep one")
    return found[0] if found else None


def _tiny(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], path: Path) -> Any:
    """Return the `AutoencoderTiny` of TAESD's two halves."""
    try:
        (down, channels, latent), (up, widths, _) = _levels(encoder), _levels(decoder)
        net: Any = AutoencoderTiny(
            encoder_block_out_channels=tuple(channels), decoder_block_out_channels=tuple(widths),
            num_encoder_blocks=tuple(down), num_decoder_blocks=tuple(up), latent_channels=latent,
        )  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"{path}: its two files are no TAESD ({error}); give taesd_encoder.pth and taesd_decoder.pth, or a folder "
            f"of diffusers"
        ) from None
    found = {
        f"{half}.layers.{name}": value
        for half, tensors in (("encoder", encoder), ("decoder", decoder))
        for name, value in _shifted(tensors, -SHIFTS[half]).items()
    }
    for name in [name for name in found if name.endswith(".pool.0.weight")]:
        half, _, number, *_ = name.split(".")
        getattr(net, half).layers[int(number)] = Pooled(found[name].shape[1])
    fit(net.state_dict(), found, path)
    return net.eval()


def _levels(half: Mapping[str, Tensor]) -> tuple[list[int], list[int], int]:
    """Return a half's blocks and channels of each level, and the channels of its last convolution."""
    *numbers, last = sorted({int(name.split(".")[0]) for name in half})
    counts: list[int] = []
    channels: list[int] = []
    for number in numbers:
        if f"{number}.weight" in half:
            counts.append(0)
            channels.append(half[f"{number}.weight"].shape[0])
        else:
            counts[-1] += 1
    return counts, channels, half[f"{last}.weight"].shape[0]


def _shifted(tensors: Mapping[str, Tensor], by: int) -> dict[str, Tensor]:
    """Return the tensors of layers under the names of those so many places later."""
    found = {}
    for name, value in tensors.items():
        number, rest = name.split(".", 1)
        found[f"{int(number) + by}.{rest}"] = value
    return found
