"""A U-Net of diffusers cut into encoder and decoder.

The encoder is the first convolution, the down path and the middle block; its output is every skip and the middle
block's output (Li et al. 2024 sum their loss over these). The decoder is the up path. The time embedding feeds both
and holds nothing of the image: it stands beside the two, so that it stays frozen with the decoder when the encoder
alone is trained, and a frozen decoder cannot drift.

Where a U-Net is told more than the time, as that of Stable Diffusion XL of the prompt as a whole and of sizes, the
embedding of that is added to the time's and stays frozen with it.

Shape suffixes: B images, C and H and W of a level, T width of the time embedding, P words of a prompt, A what is added.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unlearnkit.errors import UserError, first_line
from unlearnkit.weights import fit, read
from unlearnkit_diffusers.sizes import read_facts


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
        self.add_embedding = getattr(unet, "add_embedding", None)

    def time(self, told: Tensor, added: Tensor | None = None) -> Tensor:
        """Return the time embedding [B, T] of what the network is told [B]: a step's number, or a noise level.

        `added` [1, A] is told beside it to a network that has an embedding for it.
        """
        weight = next(self.time_embedding.parameters())
        time = self.time_embedding(self.time_proj(told).to(weight.dtype))
        return time if self.add_embedding is None else time + self.add_embedding(added)

    def forward(
        self, sample: Tensor, told: Tensor, context: Tensor | None = None, added: Tensor | None = None
    ) -> Tensor:
        """Return the network's output for an input [B, C, H, W] and what it is told of the time [B]."""
        time = self.time(told, added)
        return self.decoder(self.encoder(sample, time, context), time, context)


OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""How attention's matrices were called in diffusers when Stable Diffusion's autoencoder was published."""


def placed(kind: Any, folder: Path) -> Path:
    """Return where a model of a class `kind` stands: in its own folder, or in one of a pipeline's."""
    if (folder / "config.json").exists():
        return folder
    inner = [config.parent for config in sorted(folder.glob("*/config.json")) if _class(config) == kind.__name__]
    if len(inner) > 1:
        names = " or ".join(f"{place.name}/" for place in inner)
        raise UserError(f"{folder}: which {kind.__name__} is meant, {names}? Name that folder")
    return inner[0] if inner else folder


def _class(config: Path) -> str | None:
    return read_facts(config).get("_class_name")


def configured(kind: Any, folder: Path) -> Any:
    """Return an untrained model of diffusers of a class `kind` by the config.json in a folder.

    Raise `UserError` where there is none of this class.
    """
    config = read_facts(folder / "config.json")
    if not config or config.get("_class_name", kind.__name__) != kind.__name__:
        other = f"its config.json is of a {config.get('_class_name')}" if config else "there is no config.json in it"
        raise UserError(f"{folder}: this is no {kind.__name__} of diffusers: {other}; give the folder of one")
    if "block_out_channels" not in signature(kind.__init__).parameters:
        config.pop("block_out_channels", None)  # which diffusers writes for AutoencoderTiny and warns of when it reads
    try:
        return kind.from_config(config)
    except Exception as error:  # diffusers raises many kinds for a configuration that is none of its own
        raise UserError(f"{folder}: this is no {kind.__name__} of diffusers ({first_line(error)})") from None


def pretrained(kind: Any, folder: Path) -> Any:
    """Return a model of diffusers of a class `kind` from its folder or its pipeline's, in fp32.

    Raise `UserError` where there is none, or where the weights do not fit its configuration.
    """
    folder = placed(kind, folder)
    model = configured(kind, folder)
    wanted = model.state_dict()
    found = {_renamed(name, wanted): value for name, value in read(folder, wanted).items()}
    odd = sorted(wanted.keys() ^ found.keys())
    if odd := odd or [name for name, value in wanted.items() if found[name].shape != value.shape]:
        raise UserError(
            f"{folder}: the weights do not fit their config.json: {odd[0]} and {len(odd) - 1} more are missing or "
            f"unknown, or of another shape; download the folder again"
        )
    fit(wanted, found, folder)
    return model.eval()


def _renamed(name: str, wanted: Collection[str]) -> str:
    new = re.sub(r"\b(query|key|value|proj_attn)(?=\.(weight|bias)$)", lambda old: OLD[old[0]], name)
    return new if new in wanted else name


PLAIN: Mapping[str, Sequence[Any]] = {
    "center_input_sample": [False], "class_embed_type": [None], "num_class_embeds": [None],
    "addition_embed_type": [None, "text_time"], "encoder_hid_dim": [None], "time_cond_proj_dim": [None],
    "time_embedding_act_fn": [None], "time_embedding_type": ["positional"],
}  # fmt: skip
"""What `Halves` takes for granted of a U-Net's configuration."""


def require_plain(unet: Any, inputs: int, outputs: int, path: Path, what: str = "inpaint") -> None:
    """Raise `UserError` where a U-Net from `path` has other channels than one trained for `what`, or other inputs."""
    found = unet.config["in_channels"], unet.config["out_channels"]
    if found != (inputs, outputs):
        raise UserError(
            f"{path}: the U-Net has {found[0]} input and {found[1]} output channels, but an {what}ing one has "
            f"{inputs} and {outputs}; give the weights of a model trained to {what}"
        )
    other = [name for name, plain in PLAIN.items() if name in unet.config and unet.config[name] not in plain]
    skipping = any(hasattr(block, "skip_conv") for block in (*unet.down_blocks, *unet.up_blocks))
    if other or skipping or unet.mid_block is None or unet.conv_norm_out is None:
        named = ", ".join(f"{name}: {unet.config[name]}" for name in other) or "its kinds of blocks"
        raise UserError(
            f"{path}: a U-Net with {named} is not supported; give one in the layout of Stable Diffusion 1, 2 or XL, or "
            f"of `UNet2DModel` with its standard blocks"
        )
