"""Tables of tensors into models, and out of them."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save as packed
from torch import Tensor, nn

from unlearnkit.disk import write_file
from unlearnkit.errors import Exit, UserError
from unlearnkit.weights.layouts import listed, read

FAMILIES = {
    "a masked autoencoder (MAE)": ("decoder_pred.weight", "decoder_blocks.0.attn.qkv.weight", "cls_token"),
    "a MAGE transformer": ("token_emb.word_embeddings.weight", "mlm_layer.bias"),
    "a VQ-GAN of taming-transformers": (
        "quantize.embedding.weight", "encoder.conv_in.weight", "decoder.conv_in.weight",
    ),
    "a Palette U-Net": ("denoise_fn.input_blocks.0.0.weight",),
    "Stable Diffusion in its original layout": ("model.diffusion_model.input_blocks.0.0.weight",),
    "a U-Net of diffusers": ("down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight"),
    "ViTMAE of transformers, which `kind: mae` of unlearnkit-timm takes": (
        "vit.embeddings.cls_token", "decoder.mask_token",
    ),
    "unlearnkit's own vit-mae": ("encoder.blocks.0.fc1.weight", "decoder.mask_token"),
}  # fmt: skip
"""Names that tell a layout, for messages."""

SHOWN = 3
"""Names listed of many that do not fit."""


def family(tensors: Mapping[str, Tensor]) -> str | None:
    """Return what a table of tensors looks like, where it is a layout that is known here."""
    return next((name for name, keys in FAMILIES.items() if all(key in tensors for key in keys)), None)


def load(module: nn.Module, path: Path) -> None:
    """Copy a file or a folder of weights into `module`; raise `UserError` as `read` and `fit` do."""
    wanted = module.state_dict()
    fit(wanted, read(path, wanted), path)


def fit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, section: str = "model") -> None:
    """Copy what was `found` in `path` into the tensors `wanted`, such as a `state_dict`, in their precision.

    Raise `UserError` where names, shapes or kinds of numbers do not fit, or as `finite`; nothing is copied then.
    """
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    shapes, kinds = list[str](), list[str]()
    for name, ours in wanted.items():
        if (its := found.get(name)) is None:
            continue
        if its.shape != ours.shape:
            shapes.append(f"{name} is {list(its.shape)} in the file and {list(ours.shape)} in the model")
        if ours.is_floating_point() and not its.is_floating_point():
            kinds.append(f"{name} is {its.dtype} in the file and {ours.dtype} in the model")
    looks = family(found)
    amiss = {"other shapes": shapes, "no real numbers": kinds, "missing": missing, "not in the model": unknown}
    for what, names in amiss.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            seen = f" The file looks like {looks}." if looks and missing else ""
            wrong = f"the weights do not fit the model; {what}: {'; '.join(names[:SHOWN])}{more}.{seen}"
            advice = f"Set the kind and sizes of `{section}:` to those the weights were trained with"
            raise UserError(f"{path}: {wrong} {advice}", Exit.RECIPE)
    finite(found, path)
    for name, value in wanted.items():
        value.copy_(found[name])


def finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise `UserError` where numbers found in `path` are NaN or infinite: what comes of such weights is no result."""
    worst = [
        f"{count:,} of {value.numel():,} in {name}"
        for name, value in tensors.items()
        if not value.is_meta and (count := int((~value.isfinite()).sum()))
    ]
    if worst:
        said = f"the weights have numbers that are NaN or infinite: {listed(worst)}"
        raise UserError(f"{path}: {said}; take a checkpoint from before the training diverged")


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, each contiguous and with storage of its own; `UserError` where that cannot be."""
    write_file(path, packed({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}))
