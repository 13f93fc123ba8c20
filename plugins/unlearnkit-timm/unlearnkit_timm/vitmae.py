"""The masked autoencoder as transformers has it (`ViTMAEForPreTraining`), for the official names and back.

It is the same network under other names, with queries, keys and values apart. The names and shapes of its weights say
neither heads, nor the ε of the normalisations, nor what the patches were: `config.json` beside them does.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearnkit.errors import UserError, first_line

if TYPE_CHECKING:
    from unlearnkit_timm import MAE

NAMES = (
    {"vit.embeddings.cls_token", "vit.embeddings.patch_embeddings.projection.weight"},
    {"embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"},
)
"""Names that tell the layout, the second those of an encoder alone (`ViTMAEModel`)."""
SIZES: Mapping[str, tuple[str, int]] = {
    "image_size": ("image_size", 224), "patch_size": ("patch_size", 16), "width": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12), "heads": ("num_attention_heads", 12),
    "decoder_width": ("decoder_hidden_size", 512), "decoder_depth": ("decoder_num_hidden_layers", 8),
    "decoder_heads": ("decoder_num_attention_heads", 16), "norm_pix_loss": ("norm_pix_loss", False),
}  # fmt: skip
"""By field of the section, its name in the configuration and transformers' own value."""
AROUND = {
    "cls_token": "vit.embeddings.cls_token", "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection", "norm": "vit.layernorm",
    "mask_token": "decoder.mask_token", "decoder_pos_embed": "decoder.decoder_pos_embed",
    "decoder_embed": "decoder.decoder_embed", "decoder_norm": "decoder.decoder_norm",
    "decoder_pred": "decoder.decoder_pred",
}  # fmt: skip
"""What stands around the blocks, by official name."""
PARTS = {
    "norm1": ("layernorm_before",), "norm2": ("layernorm_after",),
    "attn.proj": ("attention.output.dense", "attention.o_proj"),
    "mlp.fc1": ("intermediate.dense", "mlp.fc1"), "mlp.fc2": ("output.dense", "mlp.fc2"),
    "q": ("attention.attention.query", "attention.q_proj"), "k": ("attention.attention.key", "attention.k_proj"),
    "v": ("attention.attention.value", "attention.v_proj"),
}  # fmt: skip
"""Parts of a block by official name, and q, k and v: as files have them, and as modules of transformers 5."""
OFFICIAL = {theirs: ours for ours, names in PARTS.items() for theirs in names}
THEIRS = re.compile(r"(decoder\.decoder_|vit\.)(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)")
OURS = re.compile(r"(decoder_)?blocks\.(\d+)\.(.+)\.(weight|bias)")


def configuration(folder: Path) -> dict[str, Any] | None:
    """Return the configuration of a folder of transformers' ViTMAE, None for anything else."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("model_type") == "vit_mae" else None


def sized(section: "MAE", found: Mapping[str, Any], folder: Path) -> "MAE":
    """Return the section with the sizes of a configuration; raise `UserError` where it says others, or none fit."""
    given = section.model_dump(exclude_unset=True, exclude_none=True)
    said = {field: _one(found.get(key, usual)) for field, (key, usual) in SIZES.items()}
    for field, value in said.items():
        if given.get(field, value) != value:
            other = f"the recipe says {given[field]}, but the weights in {folder} are of a model with {value}"
            raise UserError(f"model.{field}: {other}; leave it out")
    try:
        sized = type(section)(**given | said)
    except ValueError as error:
        raise UserError(f"{folder}: its config.json has sizes that no such model has ({first_line(error)})") from None
    fixed = {
        "hidden_act": "gelu", "num_channels": 3, "qkv_bias": True, "intermediate_size": 4 * said["width"],
        "decoder_intermediate_size": 4 * said["decoder_width"],
    }  # fmt: skip
    if unusual := [f"{key}: {found[key]}" for key, value in fixed.items() if found.get(key, value) != value]:
        raise UserError(
            f"{folder}: a ViTMAE with {', '.join(unusual)} is not supported; give one of the published kind"
        )
    return sized


def _one(value: Any) -> Any:
    """Return the side of a square that may be written as height and width."""
    return value[0] if isinstance(value, list) and len(value) == 2 and value[0] == value[1] else value


def official(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of ViTMAE by their official names; what has none keeps its own."""
    if "embeddings.cls_token" in found:
        found = {f"vit.{name}": value for name, value in found.items()}
    around = {theirs: ours for ours, theirs in AROUND.items()}
    made: dict[str, Tensor] = {}
    apart: dict[str, dict[str, Tensor]] = {}
    for name, value in found.items():
        if match := THEIRS.fullmatch(name):
            half, number, part, end = match.groups()
            block = f"{'' if half == 'vit.' else 'decoder_'}blocks.{number}"
            ours = OFFICIAL.get(part, part)
            if ours in ("q", "k", "v"):
                apart.setdefault(f"{block}.attn.qkv.{end}", {})[ours] = value
            else:
                made[f"{block}.{ours}.{end}"] = value
        else:
            stem, _, end = name.rpartition(".")
            made[around.get(name) or (f"{around[stem]}.{end}" if stem in around else name)] = value
    whole = {name: rows for name, rows in apart.items() if len(rows) == 3}  # one that lacks some is missing
    return made | {name: torch.cat([rows[part] for part in "qkv"]) for name, rows in whole.items()}


def theirs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of official names under those that files of transformers have."""
    made: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if match := OURS.fullmatch(name):
            half, number, part, end = match.groups()
            block = f"{'decoder.decoder_layers' if half else 'vit.encoder.layer'}.{number}"
            parts = zip("qkv", value.chunk(3), strict=True) if part == "attn.qkv" else [(part, value)]
            made |= {f"{block}.{PARTS[part][0]}.{end}": rows for part, rows in parts}
        else:
            stem, _, end = name.rpartition(".")
            made[AROUND.get(name) or f"{AROUND[stem]}.{end}"] = value
    return made
