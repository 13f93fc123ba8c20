"""Stable Diffusion's pipelines of diffusers, in a folder or one file: their outputs are those of the adapters."""

import shutil

import diffusers
import pytest
import torch
from tiny_pipelines import opened, whole_checkpoint, write_pipeline
from unlearnkit_diffusers import InstructPix2Pix, LatentInpainting

from unlearnkit.builtin.tasks.sections import CenterCrop, Reconstruction, Translation
from unlearnkit.contracts import trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import UserError
from unlearnkit.testing import check_model
from unlearnkit.weights import save

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
HEIGHT, WIDTH, PROMPT = 16, 24, "a dog in snow"
INPAINT, EDIT = LatentInpainting, InstructPix2Pix
PIPELINES = {
    "Stable Diffusion": (INPAINT, "StableDiffusionInpaintPipeline", 9, False),
    "XL": (INPAINT, "StableDiffusionXLInpaintPipeline", 9, True),
    "InstructPix2Pix": (EDIT, "StableDiffusionInstructPix2PixPipeline", 8, False),
    "InstructPix2Pix XL": (EDIT, "StableDiffusionXLInstructPix2PixPipeline", 8, True),
}


def read(section, weights, **fields):
    how = {"image_size": (HEIGHT, WIDTH), "steps": 3, "prompt": PROMPT, "heads": 2} | fields
    return section(kind=section.model_fields["kind"].annotation.__args__[0], **how).build(weights)


def seen(adapter, task=None):
    images, truth = (torch.rand(2, 3, HEIGHT, WIDTH, generator=seeded(name)) for name in ("images", "truth"))
    edits = isinstance(adapter.image_size, tuple) and task is None and adapter.does == "edit"
    task = task or (Reconstruction(kind="reconstruction") if edits else CenterCrop(kind="center-crop"))
    return view_of(adapter, task.build(), images, seeded("view"), truth if edits else None)


def called(pipeline, view):
    """Return what a pipeline makes of a view from its noise, without guidance."""
    how = {"prompt": [PROMPT] * 2, "image": view.x, "latents": view.draws[0], "num_inference_steps": 3,
           "guidance_scale": 1.0, "output_type": "pt"}  # fmt: skip
    if "Inpaint" in type(pipeline).__name__:
        how |= {"mask_image": view.hidden.float(), "height": HEIGHT, "width": WIDTH, "strength": 1.0}
    elif "XL" in type(pipeline).__name__:
        how |= {"height": HEIGHT, "width": WIDTH, "image_guidance_scale": 1.0}
    else:
        how |= {"image_guidance_scale": 1.0}
    return pipeline(**how).images


@pytest.mark.parametrize("name", PIPELINES)
def test_the_output_is_that_of_the_pipeline(name, tmp_path):
    section, cls, inputs, xl = PIPELINES[name]
    folder = write_pipeline(tmp_path / "published", inputs, xl)
    adapter = read(section, folder)
    view = seen(adapter)
    with torch.no_grad():
        found = adapter.output(view)
    expected = called(opened(getattr(diffusers, cls), folder), view)
    assert torch.allclose(found, torch.where(view.region, expected, view.x), rtol=0, atol=1e-5)
    other = read(section, folder, prompt="a cat")
    with torch.no_grad():
        assert not torch.allclose(other.output(view), found, atol=1e-5)


@pytest.mark.parametrize("name", PIPELINES)
def test_what_was_trained_is_written_for_the_pipeline(name, tmp_path):
    section, cls, inputs, xl = PIPELINES[name]
    folder = write_pipeline(tmp_path / "published", inputs, xl)
    adapter = read(section, folder)
    view, before = seen(adapter), {key: value.clone() for key, value in adapter.module.state_dict().items()}
    optimizer = torch.optim.SGD(trainable(adapter, "encoder"), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.stack([part.square().mean() for part in adapter.embed(view)]).sum().backward()
        optimizer.step()
    moved = {key for key, value in adapter.module.state_dict().items() if not torch.equal(value, before[key])}
    assert moved
    assert all(key.startswith("unet.encoder.") for key in moved)
    (tmp_path / "exported").mkdir()
    adapter.save(tmp_path / "exported")
    expected = called(opened(getattr(diffusers, cls), folder, tmp_path / "exported"), view)
    with torch.no_grad():
        found = adapter.output(view)
        assert torch.allclose(found, torch.where(view.region, expected, view.x), rtol=0, atol=1e-5)
        assert torch.equal(read(section, tmp_path / "exported").output(view), found)  # without the text encoders


@pytest.mark.parametrize("name", PIPELINES)
def test_it_keeps_its_contract(name, tmp_path):
    section, _, inputs, xl = PIPELINES[name]
    folder = write_pipeline(tmp_path / "published", inputs, xl)
    kind = section.model_fields["kind"].annotation.__args__[0]
    task = Translation(kind="translation").build() if section is EDIT else None
    for train in ("encoder", "all"):
        check_model(section(kind=kind, image_size=(HEIGHT, WIDTH), steps=2, train=train), task, folder)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_one_file_of_the_original_layout_is_the_same_model(name, suffix, tmp_path):
    section, cls, inputs, xl = PIPELINES[name]
    folder = write_pipeline(tmp_path / "published", inputs, xl, groups=32, width=32)
    state = whole_checkpoint(opened(getattr(diffusers, cls), folder), open_clip=suffix == "ckpt")
    state["model_ema.decay"] = torch.zeros(())
    alone = shutil.copytree(folder, tmp_path / "alone", ignore=shutil.ignore_patterns("*.safetensors", "unet", "vae"))
    path = alone / f"whole.{suffix}"
    save(state, path) if suffix == "safetensors" else torch.save({"state_dict": state, "global_step": 7}, path)
    one = read(section, path)
    again = read(section, folder)
    for key, value in again.module.state_dict().items():
        assert torch.equal(value, one.module.state_dict()[key]), key
    assert torch.equal(again.prompt.words, one.prompt.words)
    view = seen(one)
    with torch.no_grad():  # where weights lie in memory may change the last bit of a product
        torch.testing.assert_close(again.output(view), one.output(view), rtol=0, atol=1e-5)


def test_what_one_file_lacks_is_told(tmp_path):
    folder = write_pipeline(tmp_path / "published", 9, groups=32, width=32)
    state = whole_checkpoint(opened(diffusers.StableDiffusionInpaintPipeline, folder))
    path = tmp_path / "alone" / "whole.safetensors"
    path.parent.mkdir()
    save(state, path)
    with pytest.raises(UserError, match=r"holds no tokenizer .* put tokenizer/, text_encoder/ of the pipeline .* into"):
        read(INPAINT, path)
    with pytest.raises(UserError, match="9 input and 4 output channels, but an editing one has 8 and 4"):
        read(EDIT, path)
    for name in ("tokenizer", "text_encoder"):
        shutil.copytree(folder / name, path.parent / name, ignore=shutil.ignore_patterns("*.safetensors"))
    read(INPAINT, path)
    with pytest.raises(UserError, match=r"model.layers_per_block: the recipe says 2, but the weights .* model with 1"):
        read(INPAINT, path, layers_per_block=2)
    some = {name: value for name, value in state.items() if "final_layer_norm" not in name}
    save(some, path)
    with pytest.raises(UserError, match=r"text_encoder: by its config.json the weights of the whole model lack"):
        read(INPAINT, path)
    save({name: value for name, value in state.items() if not name.startswith("cond_stage_model.")}, path)
    with pytest.raises(UserError, match=r"whole.safetensors have no text encoder; leave the prompt out"):
        read(INPAINT, path)
    assert not read(INPAINT, path, prompt="").prompt.words.any()
    for absent, words in (("first_stage_model.", "no whole checkpoint"), ("model.diffusion_model.middle", "converted")):
        save({name: value for name, value in state.items() if not name.startswith(absent)}, path)
        with pytest.raises(UserError, match=words):
            read(INPAINT, path)


def test_text_encoders_that_do_not_suit_the_network_are_refused(tmp_path):
    folder = write_pipeline(tmp_path, 9, xl=True)
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(UserError, match=r"give words of 12 and a prompt of 10 numbers, but the U-Net takes 20 and 10"):
        read(INPAINT, folder)
    shutil.rmtree(folder / "text_encoder_2")
    with pytest.raises(UserError, match="no text encoder"):
        read(INPAINT, folder)
    assert read(INPAINT, folder, prompt="").prompt.whole.shape == (1, 10)
