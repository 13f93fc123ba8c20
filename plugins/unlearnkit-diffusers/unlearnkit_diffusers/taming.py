"""Autoencoders in the layout of taming-transformers, and MAGE's tokenizer, which differs from it, for diffusers.

The layout of taming-transformers (Esser et al., "Taming Transformers for High-Resolution Image Synthesis", 2021) is
that of `VQModel` under other names. MAGE's tokenizer (Li et al. 2023, converted from MaskGIT's) has the same names but
another network; `VQModel` computes it too, from other weights:

- no bias but in the decoder's first and last convolution and at the encoder's end: zeros;
- a mean over 2×2 pixels where taming has a strided convolution: a convolution with that kernel;
- a block that changes the channels ends in h + Wh, h its second convolution: that convolution times I + W, and no skip;
- one block less at each level of the decoder: a block that adds zero;
- a 1×1 convolution at the encoder's end: the middle of a 3×3 one; and none around the codebook: the identity;
- no attention, and images in [0, 1] rather than in [-1, 1]. Padding makes that a fact of the model, see `unit`.

The variational autoencoders of latent diffusion (Rombach et al. 2022) have that layout too, without a codebook.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor

from unlearnkit.errors import UserError
from unlearnkit.weights import fit

SIDE = 256
"""Side of the images of the published models in pixels; a file does not say it."""
GROUPS = 32
"""Groups of each normalisation, which the published code fixes."""
BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
ENDS = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
MIDDLE = {"block_1": ("resnets.0", BLOCK), "attn_1": ("attentions.0", ATTENTION), "block_2": ("resnets.1", BLOCK)}
PART = re.compile(r"(?P<half>encoder|decoder)\.(?:down|up)\.(?P<level>\d+)\.(?P<rest>.+)")
HALVES = {"encoder.down.0.block.0.conv1.weight", "decoder.up.0.block.0.conv1.weight"}
KNOWN = HALVES | {"quantize.embedding.weight"}
AROUND = ("quantize.embedding.", "quant_conv.", "post_quant_conv.")
UNUSED = ("loss.", "colorize", "model_ema.")


def unit(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether the tensors are MAGE's tokenizer, whose images are in [0, 1]."""
    return "quant_conv.weight" not in tensors and "encoder.conv_in.bias" not in tensors


def vqgan(tensors: Mapping[str, Tensor], path: Path) -> Any:
    """Return the `VQModel` of tensors in either layout; raise `UserError` naming `path` where they are neither.

    What belongs to the training's losses is left out.
    """
    found = {name: value for name, value in tensors.items() if not name.startswith(UNUSED)}
    if not found.keys() >= KNOWN:
        raise _unlike(path, "it has no codebook `quantize.embedding`, as those with Gumbel noise or none at all")
    return _network(VQModel, found, path)


def kl(tensors: Mapping[str, Tensor], path: Path) -> Any:
    """Return the `AutoencoderKL` of tensors of latent diffusion; raise `UserError` naming `path` where they are none.

    What belongs to the training's losses is left out.
    """
    found = {name: value for name, value in tensors.items() if not name.startswith(UNUSED)}
    if not found.keys() >= HALVES | {"quant_conv.weight"}:
        raise _unlike(path, "it has other names", AutoencoderKL)
    return _network(AutoencoderKL, found, path)


def _network(kind: Any, found: Mapping[str, Tensor], path: Path) -> Any:
    try:
        config = _sizes(found)
        weights = {_renamed(name, len(config["block_out_channels"])): value for name, value in found.items()}
    except (KeyError, IndexError, ValueError) as error:
        raise _unlike(path, f"unexpected {error}", kind) from None
    if unit(found):
        weights = _of_mage(weights, config)
    with torch.device(found["encoder.conv_in.weight"].device):
        net: Any = kind(**config)
    wanted = net.state_dict()
    # Attention's 1×1 convolutions are matrices in diffusers.
    matrices = {name for name in weights if name in wanted and wanted[name].ndim == 2}
    fit(wanted, {name: value.flatten(1) if name in matrices else value for name, value in weights.items()}, path)
    return net.eval()


def _unlike(path: Path, reason: str, kind: Any = VQModel) -> UserError:
    what, whose = ("VQ-GAN", "taming.models.vqgan.VQModel") if kind is VQModel else ("autoencoder", "AutoencoderKL")
    return UserError(
        f"{path}: this is no {what} in the layout of taming-transformers: {reason}; give a checkpoint of "
        f"its `{whose}`, or a folder of diffusers"
    )


def _sizes(found: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the configuration off names and shapes."""
    levels = range(1 + max(int(match["level"]) for name in found if (match := PART.fullmatch(name))))
    layers = sum(f"encoder.down.0.block.{number}.conv1.weight" in found for number in range(99))
    last = f"block.{layers - 1}.conv2.weight"
    book = found.get("quantize.embedding.weight")
    codes = {} if book is None else {"num_vq_embeddings": book.shape[0], "vq_embed_dim": book.shape[1]}
    down = [f"encoder.down.{level}.attn.0.q.weight" in found for level in levels]
    up = [f"decoder.up.{level}.attn.0.q.weight" in found for level in reversed(levels)]
    return {
        "block_out_channels": tuple(found[f"encoder.down.{level}.{last}"].shape[0] for level in levels),
        "down_block_types": tuple("AttnDownEncoderBlock2D" if attends else "DownEncoderBlock2D" for attends in down),
        "up_block_types": tuple("AttnUpDecoderBlock2D" if attends else "UpDecoderBlock2D" for attends in up),
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in found,
        "in_channels": found["encoder.conv_in.weight"].shape[1],
        "out_channels": found["decoder.conv_out.weight"].shape[0],
        "latent_channels": found["decoder.conv_in.weight"].shape[1], "layers_per_block": layers,
        "norm_num_groups": GROUPS, "sample_size": SIDE, **codes,
    }  # fmt: skip


def _renamed(name: str, levels: int) -> str:
    """Return the name of diffusers; raise `KeyError` for one that is not known."""
    if name.startswith(AROUND):
        return name
    if match := PART.fullmatch(name):
        half, level, rest = match["half"], int(match["level"]), match["rest"].split(".")
        part = f"down_blocks.{level}" if half == "encoder" else f"up_blocks.{levels - 1 - level}"
        if rest[0] in ("downsample", "upsample"):
            return f"{half}.{part}.{rest[0]}rs.0.{'.'.join(rest[1:])}"
        kind, known = {"block": ("resnets", BLOCK), "attn": ("attentions", ATTENTION)}[rest[0]]
        return f"{half}.{part}.{kind}.{rest[1]}.{known[rest[2]]}.{rest[3]}"
    half, *rest = name.split(".")
    if rest[0] == "mid":
        place, known = MIDDLE[rest[1]]
        return f"{half}.mid_block.{place}.{known[rest[2]]}.{rest[3]}"
    return f"{half}.{ENDS[rest[0]]}.{rest[1]}"


def _of_mage(found: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights with which `VQModel` computes MAGE's tokenizer."""
    weights = dict(found)
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    for name in [name for name in weights if name.endswith("conv_shortcut.weight")]:
        second = name.replace("conv_shortcut", "conv2")
        kernel, mixed = weights[second], weights[name].flatten(1)
        weights[second] = kernel + torch.einsum("oi,ichw->ochw", mixed, kernel)
        before = weights[name.replace("conv_shortcut", "conv1")].shape[1]
        weights[name] = kernel.new_zeros(kernel.shape[0], before, 1, 1)
    some = weights["encoder.conv_in.weight"]
    for level, width in enumerate(channels[:-1]):
        kernel = some.new_zeros(width, width, 3, 3)
        kernel[:, :, :2, :2] = torch.eye(width).to(some)[:, :, None, None] / 4
        weights[f"encoder.down_blocks.{level}.downsamplers.0.conv.weight"] = kernel
    for level, width in enumerate(reversed(channels)):
        block = f"decoder.up_blocks.{level}.resnets.{layers}"
        for part in ("norm1", "norm2"):
            weights |= {f"{block}.{part}.weight": some.new_ones(width), f"{block}.{part}.bias": some.new_zeros(width)}
        for part in ("conv1", "conv2"):
            weights[f"{block}.{part}.weight"] = some.new_zeros(width, width, 3, 3)
    end = weights["encoder.conv_out.weight"]
    if end.shape[-1] == 1:
        weights["encoder.conv_out.weight"] = torch.nn.functional.pad(end, (1, 1, 1, 1))
    for part in ("quant_conv", "post_quant_conv"):
        weights[f"{part}.weight"] = torch.eye(end.shape[0]).to(some)[:, :, None, None]
    for name in [name for name in weights if "conv" in name and name.endswith(".weight")]:
        weights.setdefault(name.replace(".weight", ".bias"), some.new_zeros(len(weights[name])))
    return weights
