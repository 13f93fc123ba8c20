"""Pipelines of diffusers of tiny random components, and the same in one file of the original layout."""

import json
import re
from pathlib import Path

import diffusers
import torch
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING
from torch import nn

LETTERS = [chr(97 + place) for place in range(26)]
VOCABULARY = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]


def write_words(folder: Path, end: str = "", whole: bool = False) -> None:
    """Write a tokenizer and a tiny text encoder of CLIP, as a published pipeline has them."""
    import transformers

    place = folder / f"tokenizer{end}"
    place.mkdir(parents=True)
    (place / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(VOCABULARY)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    (place / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 12, "tokenizer_class": "CLIPTokenizer"})
    )
    config = transformers.CLIPTextConfig(
        vocab_size=len(VOCABULARY), hidden_size=12 if whole else 8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=12, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        projection_dim=10,
    )  # fmt: skip
    torch.manual_seed(0)
    kind = transformers.CLIPTextModelWithProjection if whole else transformers.CLIPTextModel
    kind(config).save_pretrained(folder / f"text_encoder{end}")


def write_pipeline(folder: Path, inputs: int, xl: bool = False, groups: int = 4, width: int = 8) -> Path:
    """Write U-Net, autoencoder, scheduler and text encoders of a pipeline with so many input channels."""
    torch.manual_seed(1)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(width,) * 2, down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=groups,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, sample_size=16,
        scaling_factor=0.13025 if xl else 0.18215,
    )  # fmt: skip
    with torch.no_grad():  # Pipelines that inpaint draw from the posterior: this one is as good as its mean.
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -30
    of_xl = {
        "addition_embed_type": "text_time", "addition_time_embed_dim": 6, "transformer_layers_per_block": (1, 2),
        "projection_class_embeddings_input_dim": 10 + 36, "use_linear_projection": True,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    of_others = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=inputs, out_channels=4, block_out_channels=(width, 2 * width), layers_per_block=1,
        norm_num_groups=groups, cross_attention_dim=20 if xl else 8, attention_head_dim=2,
        **(of_xl if xl else of_others),
    )  # fmt: skip
    for name, part in (("vae", vae), ("unet", unet), ("scheduler", diffusers.DDIMScheduler(**SCHEDULE))):
        part.save_pretrained(folder / name)
    write_words(folder)
    if xl:
        write_words(folder, "_2", whole=True)
    return folder


SCHEDULE = {
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip


def opened(cls: type, folder: Path, parts: Path | None = None) -> object:
    """Return a pipeline by plain diffusers from `folder`, its U-Net, autoencoder and scheduler from `parts`."""
    import transformers

    parts, xl = parts or folder, (folder / "text_encoder_2").exists()
    found = {
        "unet": diffusers.UNet2DConditionModel.from_pretrained(parts / "unet", low_cpu_mem_usage=False),
        "vae": diffusers.AutoencoderKL.from_pretrained(parts / "vae", low_cpu_mem_usage=False),
        "scheduler": diffusers.DDIMScheduler.from_pretrained(parts / "scheduler"),
    }
    for end in ("", "_2") if xl else ("",):
        kind = transformers.CLIPTextModelWithProjection if end else transformers.CLIPTextModel
        found[f"text_encoder{end}"] = kind.from_pretrained(folder / f"text_encoder{end}")
        found[f"tokenizer{end}"] = transformers.CLIPTokenizer.from_pretrained(folder / f"tokenizer{end}")
    if not xl:
        found |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = cls(**found)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


RESIDUAL = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
AROUND = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
PLACE = re.compile(r"(down|up|mid)_block(?:s\.(\d))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)")


def of_unet(name: str, unet: nn.Module) -> str:
    """Return the original name of one of a U-Net."""
    stem, end = name.rsplit(".", 1)
    if stem in AROUND:
        return f"{AROUND[stem]}.{end}"
    side, level, part, number, inner = PLACE.fullmatch(name).groups()
    if part == "resnets":
        layer, end = inner.rsplit(".", 1)
        inner = f"{RESIDUAL[layer]}.{end}"
    layers, number = unet.config["layers_per_block"] + 1, int(number)
    if side == "mid":
        return f"middle_block.{1 if part == 'attentions' else 2 * number}.{inner}"
    block = layers * int(level) + number
    if side == "down":
        if part == "downsamplers":
            return f"input_blocks.{layers * (int(level) + 1)}.0.{inner.replace('conv', 'op')}"
        return f"input_blocks.{block + 1}.{int(part == 'attentions')}.{inner}"
    if part == "upsamplers":
        attends = hasattr(unet.up_blocks[int(level)], "attentions")
        return f"output_blocks.{layers * (int(level) + 1) - 1}.{1 + attends}.{inner}"
    return f"output_blocks.{block}.{int(part == 'attentions')}.{inner}"


def of_vae(name: str, levels: int) -> str:
    """Return the original name of one of an autoencoder."""
    name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
    for new, old in {
        "down_blocks": "down", "mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2",
        "mid_block.attentions.0": "mid.attn_1", "resnets": "block", "downsamplers.0": "downsample",
        "upsamplers.0": "upsample", "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out", "group_norm": "norm",
        "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    }.items():  # fmt: skip
        name = name.replace(new, old)
    return name


def vae_tensors(vae: nn.Module) -> dict[str, torch.Tensor]:
    """Return an autoencoder's weights in the original layout, attention's matrices as 1×1 convolutions."""
    found = {}
    for name, value in vae.state_dict().items():
        matrix = value.ndim == 2
        found[of_vae(name, len(vae.config["block_out_channels"]))] = value[..., None, None] if matrix else value
    return found


def clip_tensors(encoder: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """Return a text encoder's weights as OpenAI's CLIP in a checkpoint has them."""
    return {
        f"{prefix}text_model.{name.removeprefix('text_model.')}": value for name, value in encoder.state_dict().items()
    }


def open_clip_tensors(encoder: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """Return a text encoder's weights as OpenCLIP has them, of which the projection stands the other way round."""
    tables = DIFFUSERS_TO_LDM_MAPPING["openclip"]
    state = {name.removeprefix("text_model."): value for name, value in encoder.state_dict().items()}
    found, joined = {}, {}
    for name, value in state.items():
        if (whole := tables["layers"].get(name) or tables["layers"].get(f"text_model.{name}")) is not None:
            found[f"{prefix}{whole}"] = value.T if name.startswith("text_projection") else value
            continue
        old = name
        for new, was in tables["transformer"].items():
            old = old.replace(new.removeprefix("text_model."), was)
        if (part := re.fullmatch(r"(.+\.attn)\.([qkv])_proj\.(\w+)", old)) is not None:
            joined.setdefault((part[1], part[3]), {})[part[2]] = value
        else:
            found[f"{prefix}transformer.{old}"] = value
    for (stem, end), parts in joined.items():
        found[f"{prefix}transformer.{stem}.in_proj_{end}"] = torch.cat([parts[one] for one in "qkv"])
    return found


def whole_checkpoint(pipeline: object, open_clip: bool = False) -> dict[str, torch.Tensor]:
    """Return all weights of a pipeline in the original layout of version 1, of 2 (`open_clip`), or of XL."""
    found = {
        f"model.diffusion_model.{of_unet(name, pipeline.unet)}": value
        for name, value in pipeline.unet.state_dict().items()
    }
    found |= {f"first_stage_model.{name}": value for name, value in vae_tensors(pipeline.vae).items()}
    if hasattr(pipeline, "text_encoder_2"):
        found |= clip_tensors(pipeline.text_encoder, "conditioner.embedders.0.transformer.")
        found |= open_clip_tensors(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    elif open_clip:
        found |= open_clip_tensors(pipeline.text_encoder, "cond_stage_model.model.")
    else:
        found |= clip_tensors(pipeline.text_encoder, "cond_stage_model.transformer.")
    return {name: value.contiguous().clone() for name, value in found.items()}
