"""A U-Net of diffusers cut into encoder and decoder.

The encoder is the first convolution, the down path and the middle block; its output is every skip and the middle
block's output (Li et al. 2024 sum their loss over these). The decoder is the up path. The time embedding feeds both
and holds nothing of the image: it stands beside the two, so that it stays frozen with the decoder when the encoder
alone is trained, and a frozen decoder cannot drift.

Shape suffixes: B images, C and H and W of a level, T width of the time embedding, P words of a prompt.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlearnkit.errors import UserError, first_line


class Encoder(nn.Module):
    """First convolution, down path and middle block."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.conv_in, self.down_blocks, self.mid_block = unet.conv_in, unet.down_blocks, unet.mid_block

    def forward(self, sample: Tensor, time: Tensor, context: Tensor | None = None) -> list[Tensor]:
        """Return all skips and then the middle block's output, each [B, C, H, W].

        `time` is [B, T], `context` the prompt's embedding [B, P, D] for blocks with cross-attention.
        """
        sample = self.conv_in(sample)
        found = [sample]
        for block in self.down_blocks:
            sample, skips = block(sample, time, **_crossed(block, context))
            found.extend(skips)
        return [*found, self.mid_block(sample, time, **_crossed(self.mid_block, context))]


class Decoder(nn.Module):
    """Up path and last convolution."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.up_blocks = unet.up_blocks
        self.conv_norm_out, self.conv_act, self.conv_out = unet.conv_norm_out, unet.conv_act, unet.conv_out

    def forward(self, embedding: Sequence[Tensor], time: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the network's output [B, C, H, W] for what the encoder gave."""
        *skips, sample = embedding
        for block in self.up_blocks:
            count = len(block.resnets)
            skips, taken = skips[:-count], tuple(skips[-count:])
            sample = block(sample, taken, time, **_crossed(block, context))
        return self.conv_out(self.conv_act(self.conv_norm_out(sample)))


def _crossed(block: nn.Module, context: Tensor | None) -> dict[str, Tensor | None]:
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}


class Halves(nn.Module):
    """The parts of a U-Net of diffusers; `encoder` and then `decoder` is the U-Net's own pass."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(unet), Decoder(unet)
        self.time_proj, self.time_embedding = unet.time_proj, unet.time_embedding

    def time(self, told: Tensor) -> Tensor:
        """Return the time embedding [B, T] of what the network is told [B]: a step's number, or a noise level."""
        weight = next(self.time_embedding.parameters())
        return self.time_embedding(self.time_proj(told).to(weight.dtype))

    def forward(self, sample: Tensor, told: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the network's output for an input [B, C, H, W] and what it is told of the time [B]."""
        time = self.time(told)
        return self.decoder(self.encoder(sample, time, context), time, context)


LOCAL: Mapping[str, Any] = {"use_safetensors": True, "local_files_only": True}
"""How weights of a folder are read: as safetensors, and nothing is fetched."""


def pretrained(kind: Any, folder: Path) -> Any:
    """Return a model of diffusers of a class `kind` from its folder, in fp32; raise `UserError` where it is none."""
    try:
        model, info = kind.from_pretrained(
            folder, torch_dtype=torch.float32, low_cpu_mem_usage=False, output_loading_info=True, **LOCAL
        )
    except Exception as error:  # diffusers raises many kinds for a configuration that is none of its own
        raise UserError(f"{folder}: this is no {kind.__name__} with safetensors ({first_line(error)})") from None
    # diffusers only warns where weights are missing, and draws them at random.
    if odd := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        raise UserError(
            f"{folder}: the weights do not fit their config.json: {odd[0]} and {len(odd) - 1} more are missing or "
            f"unknown; download the folder again"
        )
    return model


PLAIN: Mapping[str, Any] = {
    "center_input_sample": False, "class_embed_type": None, "num_class_embeds": None, "addition_embed_type": None,
    "encoder_hid_dim": None, "time_cond_proj_dim": None, "time_embedding_act_fn": None,
    "time_embedding_type": "positional",
}  # fmt: skip
"""What `Halves` takes for granted of a U-Net's configuration."""


def require_plain(unet: Any, inputs: int, outputs: int, path: Path) -> None:
    """Raise `UserError` where a U-Net from `path` has other channels, or an input beside image, time and prompt."""
    found = unet.config["in_channels"], unet.config["out_channels"]
    if found != (inputs, outputs):
        raise UserError(
            f"{path}: the U-Net has {found[0]} input and {found[1]} output channels, but an inpainting one has "
            f"{inputs} and {outputs}; give the weights of a model trained to inpaint"
        )
    other = [name for name, plain in PLAIN.items() if name in unet.config and unet.config[name] != plain]
    skipping = any(hasattr(block, "skip_conv") for block in (*unet.down_blocks, *unet.up_blocks))
    if other or skipping or unet.mid_block is None or unet.conv_norm_out is None:
        named = ", ".join(f"{name}: {unet.config[name]}" for name in other) or "its kinds of blocks"
        raise UserError(
            f"{path}: a U-Net with {named} is not supported; give one in the layout of Stable Diffusion 1 or 2, or of "
            f"`UNet2DModel` with its standard blocks"
        )
