"""Latent diffusion inpainting in Stable Diffusion's layout: the contract, the prompt, and folders for diffusers."""

import sys
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tiny_pipelines import write_words
from torch.nn import functional as F
from unlearnkit_diffusers.diffusion_sections import LatentInpainting

from unlearnkit.builtin.losses.sections import NoiseEmbedding, ReferenceEmbedding, ReferenceOutput
from unlearnkit.builtin.tasks.sections import CenterCrop, Grayscale
from unlearnkit.contracts import shared, trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import Exit, UserError
from unlearnkit.testing import check_loss, check_model

TINY = {
    "image_size": 16, "block_out_channels": (8, 16), "norm_num_groups": 4, "heads": 2, "cross_attention_dim": 8,
    "vae_channels": (8, 8), "steps": 3,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
CROP = CenterCrop(kind="center-crop")


def tiny(**fields):
    return LatentInpainting(kind="latent-inpainting", **(TINY | fields))


def read(folder, **fields):
    return LatentInpainting(kind="latent-inpainting", steps=3, **fields).build(folder)


def made(seed=0, **fields):
    torch.manual_seed(seed)
    return tiny(**fields).build(None)


def seen(adapter, count=2, task=CROP, name="images"):
    size = adapter.image_size
    return view_of(adapter, task.build(), torch.rand(count, 3, size, size, generator=seeded(name)), seeded("view"))


@pytest.mark.parametrize(
    ("fields", "task"),
    [({}, CROP), ({"train": "all", "scheduler": "DPMSolverMultistepScheduler"}, Grayscale(kind="grayscale"))],
    ids=["hidden", "whole"],
)
def test_model_keeps_its_contract(fields, task):
    check_model(tiny(**fields), task.build())


@pytest.mark.parametrize("cls", [NoiseEmbedding, ReferenceEmbedding, ReferenceOutput])
def test_losses_work_with_it(cls):
    kind = cls.model_fields["kind"].annotation.__args__[0]
    check_loss(cls(kind=kind), tiny(), CROP)


def test_halves_give_what_the_whole_gives():
    adapter = made()
    x, step, words = torch.randn(2, 9, 8, 8), torch.tensor([3, 700]), torch.randn(2, 5, 8)
    with torch.no_grad():
        found = adapter.module.unet(x, step, words)
        assert torch.equal(found, adapter.unet(x, step, words).sample)
        assert not torch.equal(found, adapter.module.unet(x, step, 0 * words))


def test_training_leaves_the_first_stage_and_the_frozen_half():
    for part, wanted in (
        ("encoder", {"unet.encoder"}),
        ("all", {"unet.encoder", "unet.decoder", "unet.time_embedding"}),
    ):
        adapter = made()
        view = seen(adapter)
        before = {name: value.clone() for name, value in adapter.module.state_dict().items()}
        optimizer = torch.optim.Adam(trainable(adapter, part), lr=1e-3)
        for _ in range(2):
            loss = adapter.own_loss(view.truth, view)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        state = adapter.module.state_dict()
        assert {".".join(name.split(".")[:2]) for name in state if (state[name] != before[name]).any()} == wanted
        assert shared(adapter) == []


def test_input_and_own_loss_are_those_of_stable_diffusion():
    adapter = made()
    view = seen(adapter)
    noise, time = view.draws
    vae, scale = adapter.module.vae, adapter.module.vae.config.scaling_factor
    step = (time * 1000).long()
    gamma = adapter.noising.gammas[step][:, None, None, None]
    with torch.no_grad():
        latents = vae.encode(view.truth * 2 - 1).latent_dist.mode() * scale
        masked = vae.encode((view.truth * 2 - 1) * (~view.hidden)).latent_dist.mode() * scale
        mask = F.interpolate(view.hidden.float(), size=(8, 8))
        noisy = gamma.sqrt() * latents + (1 - gamma).sqrt() * noise
        predicted = adapter.unet(torch.cat([noisy, mask, masked], 1), step, torch.zeros(2, 77, 8)).sample
        assert float(adapter.own_loss(view.truth, view)) == pytest.approx(
            float((predicted - noise).square().mean()), rel=1e-4
        )
        estimate = (noisy - (1 - gamma).sqrt() * predicted) / gamma.sqrt()
        image = vae.decode(estimate / scale).sample / 2 + 0.5
        assert torch.allclose(adapter.decode(adapter.embed(view), view), image, atol=1e-3)


def test_own_loss_for_other_images_reads_no_stage_of_the_first():
    adapter = made()
    view = seen(adapter)
    with torch.no_grad():
        staged = replace(view, stage=adapter.first_stage(view))
        assert adapter.own_loss(1 - view.truth, staged) == adapter.own_loss(1 - view.truth, view)
        assert adapter.own_loss(1 - view.truth, staged) != adapter.own_loss(view.truth, staged)


def test_hidden_truth_shows_in_the_embedding_and_not_in_the_output():
    adapter = made()
    view = seen(adapter)
    other = replace(view, truth=torch.where(view.hidden, 1 - view.truth, view.truth))
    with torch.no_grad():
        pairs = list(zip(adapter.embed(view), adapter.embed(other), strict=True))
        assert not all(torch.equal(a, b) for a, b in pairs)
        assert torch.equal(adapter.output(view), adapter.output(other))
        blind = replace(view, truth=torch.full_like(view.truth, torch.nan))
        assert torch.equal(adapter.output(view), adapter.output(blind))
        bare = replace(blind, draws=())
        assert torch.equal(adapter.output(bare), adapter.output(bare))


def test_the_first_stage_is_the_same_within_autocast():
    adapter = made()
    view = seen(adapter)
    with torch.no_grad():
        before = adapter.first_stage(view)
        with torch.autocast("cpu", torch.bfloat16):
            within = adapter.first_stage(view)
    assert all(torch.equal(a, b) for a, b in zip(before, within, strict=True))


def test_diffusers_reads_the_folder_alone(tmp_path):
    adapter = made()
    adapter.save(tmp_path)
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "unet", low_cpu_mem_usage=False)
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae", low_cpu_mem_usage=False)
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "scheduler")
    scale = vae.config.scaling_factor
    view = seen(adapter)
    scheduler.set_timesteps(3)
    with torch.no_grad():
        masked = vae.encode(view.images * 2 - 1).latent_dist.mode() * scale
        mask, noisy = F.interpolate(view.hidden.float(), size=(8, 8)), view.draws[0]
        for step in scheduler.timesteps:
            predicted = unet(torch.cat([noisy, mask, masked], 1), step, torch.zeros(2, 77, 8)).sample
            noisy = scheduler.step(predicted, step, noisy).prev_sample
        image = (vae.decode(noisy / scale).sample / 2 + 0.5).clamp(0, 1)
        assert torch.allclose(adapter.output(view), torch.where(view.hidden, image, view.images), atol=1e-5)


def with_text_encoder(folder):
    """Write a folder with a tiny text encoder of CLIP, as a published pipeline has it."""
    pytest.importorskip("transformers")
    made().save(folder)
    (folder / "prompt.json").unlink()
    write_words(folder)
    return folder


def test_the_prompt_is_encoded_once_and_saved_with_the_weights(tmp_path):
    folder = with_text_encoder(tmp_path / "published")
    dog, empty = read(folder, prompt="a dog"), read(folder)
    assert dog.module.context.shape == (1, 12, 8)
    assert not torch.equal(dog.module.context, empty.module.context)
    assert bool(empty.module.context.any())
    assert "context" not in dog.module.state_dict()
    (tmp_path / "saved").mkdir()
    dog.save(tmp_path / "saved")
    again = read(tmp_path / "saved", prompt="a dog")
    assert torch.equal(again.module.context, dog.module.context)
    view = seen(dog)
    with torch.no_grad():
        assert torch.equal(again.output(view), dog.output(view))
        assert not torch.equal(empty.output(view), dog.output(view))
    with pytest.raises(UserError, match=r"model\.prompt: .* no text encoder; leave the prompt out"):
        read(tmp_path / "saved", prompt="a cat")


def test_without_transformers_the_message_names_the_extra(tmp_path, monkeypatch):
    folder = with_text_encoder(tmp_path / "published")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'unlearnkit-diffusers\[prompt\]'") as caught:
        read(folder, prompt="a dog")
    assert caught.value.code == Exit.PLUGIN


def test_without_a_text_encoder_the_network_gets_zeros(tmp_path):
    made().save(tmp_path)
    (tmp_path / "prompt.json").unlink()
    assert not read(tmp_path).module.context.any()
    with pytest.raises(UserError, match="no text encoder"):
        read(tmp_path, prompt="a dog")
    with pytest.raises(UserError, match="no text encoder"):
        made(prompt="a dog")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": 18}, "18 px is no multiple of 4, .* give 16 or 20"),
        ({"heads": 3}, "heads: 3 does not divide the 8 channels"),
        ({"norm_num_groups": 16}, "norm_num_groups: 16 does not divide the 8 channels"),
        ({"scheduler": "Nope"}, "no scheduler 'Nope'"),
    ],
)
def test_sections_that_cannot_be_built_say_why(fields, words):
    with pytest.raises(UserError, match=words):
        tiny(**fields).build(None)


def test_folders_of_something_else_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no unet/ in it; give the folder of an inpainting or editing pipeline"):
        read(tmp_path)
    made().save(tmp_path)
    with pytest.raises(UserError, match="cross_attention_dim: the recipe says 16, but"):
        read(tmp_path, cross_attention_dim=16)
    for field, value in (("heads", 4), ("vae_channels", (8, 16)), ("latent_channels", 8), ("layers_per_block", 2)):
        with pytest.raises(UserError, match=f"model.{field}: the recipe says"):
            read(tmp_path, **{field: value})
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, layers_per_block=1,
        cross_attention_dim=8, attention_head_dim=2,
    )  # fmt: skip
    unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(UserError, match="4 input and 4 output channels, but an inpainting one has 9 and 4"):
        read(tmp_path)
    (tmp_path / "vae" / "config.json").unlink()
    with pytest.raises(UserError, match="no AutoencoderKL"):
        read(tmp_path)


def test_published_sizes_have_published_shapes():
    """Stable Diffusion 1's inpainting U-Net cuts into halves with all its parameters: 859.5 M."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, in_channels=9, out_channels=4, cross_attention_dim=768, attention_head_dim=8
        )
        from unlearnkit_diffusers.unet import Halves

        halves = Halves(unet)
    found = sum(parameter.numel() for parameter in halves.parameters())
    assert found == unet.num_parameters() == 859_535_364
