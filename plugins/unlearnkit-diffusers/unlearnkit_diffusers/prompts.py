"""What a U-Net is told in words: embeddings of one prompt for all images, encoded once and kept with the weights.

Stable Diffusion 1 and 2 have one text encoder. Stable Diffusion XL has two, whose words stand side by side, and is told
the second one's embedding of the whole prompt and the sizes of the images as well (Podell et al. 2023).

Shape suffixes: P words of the prompt, D width of a word, W width of the prompt as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from unlearnkit.contracts import Size, sides
from unlearnkit.disk import write_json
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.weights import read, save
from unlearnkit_diffusers.sizes import read_facts

FACTS, WORDS = "prompt.json", "prompt.safetensors"
"""The prompt a folder was saved with and its embeddings, so that no solution has to carry the text encoders."""
COUNT = 77
"""Words of an empty prompt where there is no text encoder, as many as CLIP's tokenizer gives."""
NUMBERS = 6
"""Numbers that Stable Diffusion XL is told: height and width, the corner of a crop, height and width again."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and its embeddings."""

    text: str
    words: Tensor
    """[1, P, D]."""
    whole: Tensor | None
    """[1, W], for Stable Diffusion XL alone."""

    def save(self, folder: Path) -> None:
        """Write the prompt with its embeddings."""
        write_json(folder / FACTS, {"prompt": self.text})
        save({"embedding": self.words} | ({} if self.whole is None else {"whole": self.whole}), folder / WORDS)

    def added(self, unet: Any, size: Size) -> Tensor | None:
        """Return what a U-Net is told beside the time [1, A]; the images are of this size, and no crops of larger."""
        if self.whole is None:
            return None
        numbers = torch.tensor([*sides(size), 0, 0, *sides(size)])
        return torch.cat([self.whole, unet.add_time_proj(numbers).view(1, -1)], dim=1)


def prompt_for(unet: Any, text: str, weights: Path | None, tensors: Mapping[str, Tensor] | None = None) -> Prompt:
    """Return the prompt's embeddings: those saved with the weights, or by their text encoders.

    `weights` is a folder, or one file whose `tensors` have the text encoders of a whole checkpoint. Raise `UserError`
    where they cannot be had, or do not suit the U-Net. A network without a text encoder gets zeros.
    """
    width, whole = unet.config["cross_attention_dim"], None
    suffixes = [""] if unet.config["addition_embed_type"] is None else ["", "_2"]
    if len(suffixes) > 1:
        whole = unet.config["projection_class_embeddings_input_dim"] - NUMBERS * unet.config["addition_time_embed_dim"]
    folder = weights if weights is None or tensors is None else weights.parent
    if tensors is None and folder and read_facts(folder / FACTS).get("prompt") == text:
        found = read(folder / WORDS)
        prompt = Prompt(text, found["embedding"], found.get("whole"))
    elif folder and weights and (parts := _parts(folder, suffixes, weights, tensors)):
        prompt = _encoded(text, folder, parts, tensors, whole is not None)
    elif text:
        whose = f"the weights in {weights} have" if weights else "a model without weights has"
        raise UserError(f"model.prompt: {whose} no text encoder; leave the prompt out")
    else:
        prompt = Prompt(text, torch.zeros(1, COUNT, width), None if whole is None else torch.zeros(1, whole))
    given = prompt.words.shape[2], None if prompt.whole is None else prompt.whole.shape[1]
    if given != (width, whole):
        raise UserError(
            f"{weights}: the text encoders give words of {given[0]} and a prompt of {given[1]} numbers, but the U-Net "
            f"takes {width} and {whole}; give those that it was trained with"
        )
    return prompt


ENCODER = "text_encoder"


def _parts(folder: Path, suffixes: list[str], path: Path, tensors: Mapping[str, Tensor] | None) -> list[str]:
    """Return the suffixes of the text encoders in a folder, or of those in a file that the folder says how to build."""
    found = [end for end in suffixes if all((folder / f"{part}{end}").is_dir() for part in ("tokenizer", ENCODER))]
    if tensors is None:
        return found
    if not any(name.startswith(("cond_stage_model.", "conditioner.")) for name in tensors):
        return []
    if len(found) < len(suffixes):
        needed = ", ".join(f"{part}{end}/" for end in suffixes for part in ("tokenizer", ENCODER))
        raise UserError(
            f"{path}: one file holds no tokenizer and not the sizes of its text encoder; put {needed} of the pipeline "
            f"that it belongs to (of the last its config.json will do) into {folder}, or give the pipeline's folder"
        )
    return found


def _encoded(text: str, folder: Path, suffixes: list[str], tensors: Mapping[str, Tensor] | None, both: bool) -> Prompt:
    """Return the prompt by the text encoders of a folder, `both` as Stable Diffusion XL takes them."""
    try:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
    except ImportError:
        raise UserError(
            f"model.prompt: the text encoder in {folder} needs `pip install 'unlearnkit-diffusers[prompt]'`",
            Exit.PLUGIN,
        ) from None
    words, whole = [], None
    for end in suffixes:
        place = folder / f"tokenizer{end}"
        tokenizer = _part(CLIPTokenizer.from_pretrained, place, "CLIP's tokenizer", place, local_files_only=True)
        kind = CLIPTextModelWithProjection if end else CLIPTextModel
        encoder = _encoder(kind, folder / f"{ENCODER}{end}", tensors)
        told = tokenizer(
            text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )
        with torch.no_grad():
            found = encoder(told.input_ids, output_hidden_states=both)
        words.append(found.hidden_states[-2] if both else found[0])
        whole = found[0] if end else None
    return Prompt(text, torch.cat(words, dim=-1), whole)


def _encoder(kind: Any, place: Path, tensors: Mapping[str, Tensor] | None) -> Any:
    """Return CLIP's text model of a folder, or of a whole checkpoint with the folder's sizes."""
    wanted = "CLIP's text model"
    config = _part(kind.config_class.from_pretrained, place, wanted, place, local_files_only=True)
    state = read(place) if tensors is None else _converted(tensors, place.name, config)
    own: Any = {"config": config, "state_dict": state, "dtype": torch.float32, "output_loading_info": True}
    encoder, info = _part(kind.from_pretrained, place, wanted, None, **own)
    if missing := sorted(info["missing_keys"]):
        whose = "its weights lack" if tensors is None else "by its config.json the weights of the whole model lack"
        raise UserError(f"{place}: {whose} {missing[0]}; give {wanted}")
    return encoder.eval()


def _converted(tensors: Mapping[str, Tensor], name: str, config: Any) -> dict[str, Tensor]:
    """Return the weights of the text encoder of this name in a whole checkpoint: OpenAI's CLIP, or OpenCLIP."""
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint

    prefix = "conditioner.embedders.1.model." if name == f"{ENCODER}_2" else "cond_stage_model.model."
    if any(key.startswith(prefix) for key in tensors):
        return dict(convert_open_clip_checkpoint(SimpleNamespace(config=config), dict(tensors), prefix=prefix))
    return dict(convert_ldm_clip_checkpoint(dict(tensors)))


def _part(load: Any, folder: Path, wanted: str, *given: Any, **options: Any) -> Any:
    try:
        return load(*given, **options)
    except Exception as error:  # transformers raises many kinds for files that are none of its own
        raise UserError(f"{folder}: {first_line(error)}; give {wanted}") from None
