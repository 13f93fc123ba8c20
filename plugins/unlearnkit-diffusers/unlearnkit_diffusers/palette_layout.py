"""The released Palette's U-Net (Janspiry/Palette-Image-to-Image-Diffusion-Models, `guided_diffusion`) for diffusers.

Its residual blocks halve and double the side, its norms are scaled and shifted by the time embedding, and its network
is told the noise level γ. `UNet2DModel` can express all of that: given γ where it expects a step's number, it computes
the same sines and cosines. Shapes tell every size but the width of an attention head.

Not converted: models whose sides change by plain convolutions (`resblock_updown: false`), and the `sr3` network.
"""

import re
from collections.abc import Mapping
from itertools import compress
from pathlib import Path
from typing import Any

from torch import Tensor

from unlearnkit.errors import UserError

PREFIX = "denoise_fn."
KNOWN = {f"{PREFIX}input_blocks.0.0.weight"}, {"input_blocks.0.0.weight", "cond_embed.0.weight"}
"""Names that tell the layout."""
SIZE, HEAD, GROUPS = 256, 32, 32
"""Published side and attention head's channels; the groups of a normalisation, which the code fixes."""
SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 2000, "beta_schedule": "linear", "beta_start": 1e-6, "beta_end": 0.01,
}  # fmt: skip
"""The noise schedule of the training of the released inpainting models (config/inpainting_*.json)."""
RESIDUAL = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
AROUND = {
    "cond_embed.0": "time_embedding.linear_1", "cond_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
}  # fmt: skip
MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}


def recognised(tensors: Mapping[str, Tensor]) -> bool:
    """Tell whether a table of tensors is in the layout of the released Palette."""
    return any(f"{prefix}input_blocks.0.0.weight" in tensors for prefix in (PREFIX, ""))


def convert(tensors: Mapping[str, Tensor], head: int, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the configuration of the `UNet2DModel` and its weights; `head` is the channels of an attention head.

    Raise `UserError` naming `path` where the tensors are not those of such a network.
    """
    prefix = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    # Beside the network a released file holds the noise schedule's tables.
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if any(".0.op." in name or ".h_upd." in name for name in found) or "cond_embed.0.weight" not in found:
        raise _unlike(path, "it changes sides by plain convolutions, or is no network of `guided_diffusion`")
    try:
        config = _sizes(found, head)
        return config, _renamed(found, config)
    except (KeyError, ValueError, IndexError) as error:
        raise _unlike(path, f"unexpected {error}") from None


def _unlike(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: this looks like a Palette U-Net, but cannot be converted: {reason}; give the weights of a network "
        f"of module `guided_diffusion` with `resblock_updown: true`, or a folder of diffusers"
    )


def _sizes(found: Mapping[str, Tensor], head: int) -> dict[str, Any]:
    """Read the sizes off names and shapes.

    All levels but the finest end in an output block that doubles the side, and each has one output block more than it
    has residual blocks.
    """
    blocks = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("output_blocks."))
    doubling = re.compile(r"output_blocks\.(\d+)\.[12]\.in_layers\.0\.weight")
    levels = 1 + sum(doubling.fullmatch(name) is not None for name in found)
    layers = blocks // levels - 1
    firsts = [f"input_blocks.{1 + level * (layers + 1)}" for level in range(levels)]
    channels = tuple(found[f"{first}.0.out_layers.0.weight"].shape[0] for first in firsts)
    attention = [f"{first}.1.qkv.weight" in found for first in firsts]
    for width in (channels[-1], *compress(channels, attention)):
        if width % head:
            raise ValueError(f"attention over {width} channels, which attention_head_dim {head} does not divide")
    down = ("AttnDownBlock2D" if wanted else "ResnetDownsampleBlock2D" for wanted in attention)
    up = ("AttnUpBlock2D" if wanted else "ResnetUpsampleBlock2D" for wanted in reversed(attention))
    return {
        "in_channels": found["input_blocks.0.0.weight"].shape[1], "out_channels": found["out.2.weight"].shape[0],
        "block_out_channels": channels, "layers_per_block": layers,
        "down_block_types": tuple(down), "up_block_types": tuple(up),
        "downsample_type": "resnet", "upsample_type": "resnet", "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": head, "norm_num_groups": GROUPS, "attn_norm_num_groups": GROUPS, "norm_eps": 1e-5,
        "flip_sin_to_cos": True, "freq_shift": 0,
    }  # fmt: skip


def _renamed(found: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    layers, head = config["layers_per_block"], config["attention_head_dim"]
    weights: dict[str, Tensor] = {}
    for name, value in found.items():
        stem, end = name.rsplit(".", 1)
        if stem in AROUND:
            weights[f"{AROUND[stem]}.{end}"] = value
            continue
        part, inner = _part(stem, layers)
        if inner in RESIDUAL:
            weights[f"{part}.{RESIDUAL[inner]}.{end}"] = value
        else:
            weights |= _attention(part, inner, end, value, head)
    return weights


def _part(stem: str, layers: int) -> tuple[str, str]:
    """Return where in a `UNet2DModel` a part of a block stands, and what is in that part."""
    side, *rest = stem.split(".")
    if side == "middle_block":
        return f"mid_block.{MIDDLE[rest[0]]}", ".".join(rest[1:])
    number, place, inner = int(rest[0]), int(rest[1]), ".".join(rest[2:])
    path = {"input_blocks": "down_blocks", "output_blocks": "up_blocks"}[side]
    level, index = divmod(number - 1 if side == "input_blocks" else number, layers + 1)
    if inner not in RESIDUAL:
        return f"{path}.{level}.attentions.{index}", inner
    if side == "input_blocks" and index == layers:
        return f"{path}.{level}.downsamplers.0", inner
    return f"{path}.{level}.resnets.{index}" if place == 0 else f"{path}.{level}.upsamplers.0", inner


def _attention(part: str, inner: str, end: str, value: Tensor, head: int) -> dict[str, Tensor]:
    """Return attention's weights: 1×1 convolutions as matrices, and queries, keys and values each for themselves.

    The released layout holds, head after head, the rows of the head's queries, keys and values.
    """
    if inner == "norm":
        return {f"{part}.group_norm.{end}": value}
    flat = value.flatten(1) if end == "weight" else value
    if inner == "proj_out":
        return {f"{part}.to_out.0.{end}": flat}
    if inner != "qkv":
        raise KeyError(f"{inner}.{end}")
    split = flat.unflatten(0, (-1, 3, head)).unbind(1)
    return {f"{part}.to_{name}.{end}": rows.flatten(0, 1) for name, rows in zip("qkv", split, strict=True)}
