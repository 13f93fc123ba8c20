"""Whole checkpoints of Stable Diffusion in one file, in their original layout, for diffusers.

diffusers converts them too, but asks the hub for their configurations. Here these are read off names and shapes, which
tell all sizes but the U-Net's attention heads: 8 in version 1 (Rombach et al. 2022), whose attention is projected by
convolutions, and as many as make 64 channels each in later ones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import Tensor

from unlearnkit.errors import UserError
from unlearnkit.weights import fit, read
from unlearnkit_diffusers import taming
from unlearnkit_diffusers.prompts import NUMBERS

UNET, VAE, LABEL = "model.diffusion_model.", "first_stage_model.", "label_emb.0.0.weight"
"""What the names of the parts begin with; the matrix for what the U-Net of version XL is told beside the time."""
HEADS, HEAD = 8, 64
"""Attention heads of version 1; channels of a head in later ones."""
SIDES, SCALES = (64, 128), (0.18215, 0.13025)
"""Side of the latents, and what they are multiplied by, before version XL and in it (Podell et al. 2023)."""
POOLED = "conditioner.embedders.1.model.text_projection"
"""The matrix of version XL with as many columns as the prompt as a whole has numbers; 1280 where it is not there."""


def tensors(path: Path) -> dict[str, Tensor]:
    """Return a whole checkpoint's tensors by their original names, without averages of training."""
    found = read(path, {f"{UNET}input_blocks.0.0.weight", f"{VAE}encoder.conv_in.weight"})
    if not all(any(name.startswith(part) for name in found) for part in (UNET, VAE)):
        raise UserError(
            f"{path}: this is no whole checkpoint of Stable Diffusion, whose names begin with {UNET} and {VAE}; give "
            f"the folder of a pipeline of diffusers, or one file with all of it"
        )
    return {name: value for name, value in found.items() if not name.startswith("model_ema.")}


def unet(found: Mapping[str, Tensor], heads: int | None, path: Path) -> Any:
    """Return the U-Net of a whole checkpoint; `heads` are its attention heads where they are not the usual ones."""
    own = {name.removeprefix(UNET): value for name, value in found.items() if name.startswith(UNET)}
    try:
        config = _sizes(own, heads, found[POOLED].shape[1] if POOLED in found else 1280)
        net: Any = UNet2DConditionModel(**config)
        weights = convert_ldm_unet_checkpoint(dict(found), config)
    except (KeyError, ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise UserError(
            f"{path}: its U-Net cannot be converted ({type(error).__name__}: {error}); give the folder of a pipeline "
            f"of diffusers"
        ) from None
    fit(net.state_dict(), weights, path)
    return net


def vae(found: Mapping[str, Tensor], path: Path) -> Any:
    """Return the autoencoder of a whole checkpoint, or of a file of its own."""
    bare = {name.removeprefix(VAE): value for name, value in found.items() if name.startswith(VAE)}
    net, version = taming.kl(bare or found, path), f"{UNET}{LABEL}" in found
    factor = 2 ** (len(net.config["block_out_channels"]) - 1)
    net.register_to_config(scaling_factor=SCALES[version], sample_size=SIDES[version] * factor)
    return net


def _sizes(found: Mapping[str, Tensor], heads: int | None, whole: int) -> dict[str, Any]:
    """Read the configuration off names and shapes; `whole` is the width of the prompt as a whole."""
    blocks = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("input_blocks."))
    halving = [number for number in range(blocks) if f"input_blocks.{number}.0.op.weight" in found]
    last = [f"input_blocks.{end - 1}" for end in (*halving, blocks)]
    channels = tuple(found[f"{block}.0.out_layers.3.weight"].shape[0] for block in last)
    depths = [_depth(found, f"{block}.1") for block in last]
    middle = "middle_block.1"
    flat = found[f"{middle}.proj_in.weight"].ndim == 2
    config = {
        "sample_size": SIDES[LABEL in found], "block_out_channels": channels, "layers_per_block": halving[0] - 1,
        "in_channels": found["input_blocks.0.0.weight"].shape[1], "out_channels": found["out.2.weight"].shape[0],
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        # Where a level has none the number means nothing, but the last one is the middle block's too.
        "transformer_layers_per_block": (*(max(depth, 1) for depth in depths[:-1]), _depth(found, middle)),
        "cross_attention_dim": found[f"{middle}.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "attention_head_dim": heads or (tuple(width // HEAD for width in channels) if flat else HEADS),
        "use_linear_projection": flat,
    }  # fmt: skip
    if LABEL not in found:
        return config
    told = found[LABEL].shape[1]
    return config | {
        "addition_embed_type": "text_time", "addition_time_embed_dim": (told - whole) // NUMBERS,
        "projection_class_embeddings_input_dim": told,
    }  # fmt: skip


def _depth(found: Mapping[str, Tensor], place: str) -> int:
    """Return how many layers the attention at a place has."""
    layers = f"{place}.transformer_blocks."
    return len({name.removeprefix(layers).split(".")[0] for name in found if name.startswith(layers)})
