"""The autoencoders: their contract, their own losses, and folders that plain diffusers reads."""

import diffusers
import pytest
import torch
from unlearnkit_diffusers import VQGAN, AutoencoderKL, AutoencoderTiny

from unlearnkit.builtin.tasks.sections import CenterCrop, Downscaling, RandomBox
from unlearnkit.contracts import trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import UserError
from unlearnkit.testing import check_model

SIZES = {"image_size": 16, "block_out_channels": (8, 16)}
VQ = VQGAN(kind="vq-gan", **SIZES, codes=32, code_width=4, latent_channels=4)
KL = AutoencoderKL(kind="autoencoder-kl", **SIZES, latent_channels=4)
TINY = AutoencoderTiny(kind="autoencoder-tiny", image_size=16, block_out_channels=(8, 8))
ALL = [VQ, KL, TINY]
TASKS = [CenterCrop(kind="center-crop"), RandomBox(kind="random-box"), Downscaling(kind="downscaling", factor=2)]


def built(section, task=TASKS[0]):
    torch.manual_seed(0)
    adapter = section.build(None)
    images = torch.rand(2, 3, 16, 16, generator=seeded("images"))
    return adapter, images, view_of(adapter, task.build(), images, seeded("view"))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
@pytest.mark.parametrize("section", ALL, ids=lambda section: section.kind)
def test_it_keeps_its_contract(section, task):
    check_model(section, task.build())


@pytest.mark.parametrize(
    ("section", "kind"),
    [(VQ, diffusers.VQModel), (KL, diffusers.AutoencoderKL), (TINY, diffusers.AutoencoderTiny)],
)
def test_plain_diffusers_reads_what_is_saved_and_gives_the_same_output(section, kind, tmp_path):
    adapter, _, view = built(section)
    adapter.save(tmp_path)
    plain = kind.from_pretrained(tmp_path, use_safetensors=True, local_files_only=True)
    inside = view.images * 2 - 1
    with torch.no_grad():
        if kind is diffusers.AutoencoderKL:
            found = plain.decode(plain.encode(inside).latent_dist.mean).sample
        elif kind is diffusers.VQModel:
            found = plain.decode(plain.encode(inside).latents).sample
        else:
            found = plain.decode(plain.encode(inside).latents).sample
        assert torch.allclose(found / 2 + 0.5, adapter.decode(adapter.embed(view), view), atol=1e-6)


def test_the_own_loss_of_a_vq_gan_is_reconstruction_codebook_commitment_and_revival():
    adapter, images, view = built(VQ)
    latents = adapter.embed(view)
    codebook = adapter.net.quantize.embedding.weight
    flat = latents.permute(0, 2, 3, 1).reshape(-1, 4)
    nearest = codebook[(flat[:, None] - codebook[None]).square().sum(2).argmin(1)]
    error = (adapter.decode(latents, view) - images) * 2
    error = error.abs() + error.square()
    unused = (flat[:, None] - codebook[None]).square().mean(2).amin(0).mean()
    expected = error.mean() + error[:, :, 4:12, 4:12].mean() + 1.25 * (nearest - flat).square().mean() + 0.25 * unused
    assert adapter.own_loss(images, view).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_own_loss_of_a_variational_autoencoder_has_the_divergence():
    adapter, _, view = built(KL)
    made = adapter.encoder(view.images * 2 - 1)
    mean, log = made.chunk(2, 1)
    normal = torch.distributions.Normal(mean, (0.5 * log).exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    assert adapter.penalty(made).item() == pytest.approx(1e-6 * divergence.item(), rel=1e-4)


def test_a_frozen_codebook_and_decoder_stay_while_the_encoder_is_trained():
    adapter, _, view = built(VQ)
    before = {name: value.clone() for name, value in adapter.module.decoder.state_dict().items()}
    optimizer = torch.optim.SGD(trainable(adapter, "encoder"), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapter.decode(adapter.embed(view), view).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in adapter.module.decoder.state_dict().items())


def test_codes_that_go_unused_move_to_the_latents_and_the_encoder_does_not_feel_it():
    adapter, images, view = built(VQ)
    codebook = adapter.net.quantize.embedding.weight
    with torch.no_grad():
        codebook[16:] += 9
        _, _, (_, _, codes) = adapter.net.quantize(adapter.embed(view))
    assert int(codes.max()) < 16
    adapter.own_loss(images, view).backward()
    assert bool((codebook.grad[16:] > 0).all())
    found = adapter.encoder.quant_conv.weight.grad.clone()
    adapter.module.zero_grad()
    with torch.no_grad():
        codebook[16:] += 9
    adapter.own_loss(images, view).backward()
    assert torch.equal(found, adapter.encoder.quant_conv.weight.grad)


def test_training_uses_many_codes():
    torch.manual_seed(1)
    adapter = VQ.build(None)
    images = torch.rand(16, 3, 16, 16, generator=seeded("many"))
    optimizer = torch.optim.AdamW(trainable(adapter), lr=2e-3)
    for step in range(60):
        view = view_of(adapter, TASKS[0].build(), images, seeded(step))
        optimizer.zero_grad()
        adapter.own_loss(images, view).backward()
        optimizer.step()
    _, _, (_, _, codes) = adapter.net.quantize(adapter.embed(view))
    assert codes.unique().numel() > 8


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.kind)
def test_what_does_not_fit_is_one_message(section, tmp_path):
    with pytest.raises(UserError, match="no multiple of 2"):
        section.model_copy(update={"image_size": 17}).build(None)
    adapter, _, _ = built(section)
    adapter.save(tmp_path)
    with pytest.raises(UserError, match=r"latent_channels: the recipe says 9.*leave it out"):
        section.model_copy(update={"latent_channels": 9}).build(tmp_path)
    with pytest.raises(UserError, match=r"from a folder of diffusers|it is JSON"):
        section.build(tmp_path / "config.json")
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(UserError) as caught:
        section.build(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.kind)
def test_the_side_of_the_images_is_64_px_or_that_of_the_weights(section, tmp_path):
    assert type(section)(kind=section.kind).build(None).image_size == 64
    built(section)[0].save(tmp_path)
    # An AutoencoderTiny's configuration has no place for it.
    assert type(section)(kind=section.kind).build(tmp_path).image_size == (64 if section is TINY else 16)


def test_a_decoder_that_reads_the_codes_too_is_refused(tmp_path):
    diffusers.VQModel(block_out_channels=(32,), norm_type="spatial").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="norm_type spatial is not supported"):
        VQGAN(kind="vq-gan").build(tmp_path)


def test_a_folder_of_another_family_is_refused(tmp_path):
    built(KL)[0].save(tmp_path)
    with pytest.raises(UserError) as caught:
        VQGAN(kind="vq-gan").build(tmp_path)
    assert "VQModel" in str(caught.value)


@pytest.mark.parametrize("options", [{"variant": "fp16"}, {"safe_serialization": False}, {"max_shard_size": "4KB"}])
def test_folders_are_read_as_they_are_found(tmp_path, options):
    net = built(KL)[0].net.half()
    net.save_pretrained(tmp_path / "vae", **options)
    for folder in (tmp_path / "vae", tmp_path):  # its own, and the pipeline's
        again = type(KL)(kind=KL.kind).build(folder).net.state_dict()
        assert all(torch.equal(value.float(), again[name]) for name, value in net.state_dict().items())


def test_attention_under_its_old_names_is_read(tmp_path):
    from safetensors.torch import load_file, save_file

    built(KL)[0].save(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state, names = load_file(file), {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in state.items():
        for new, was in names.items():
            name = name.replace(f".{new}.", f".{was}.")
        old[name] = value
    assert old.keys() != state.keys()
    save_file(old, file)
    again = type(KL)(kind=KL.kind).build(tmp_path).net.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())


def test_a_tiny_autoencoder_has_one_width():
    with pytest.raises(UserError, match=r"model.block_out_channels: all levels .* give \[16, 16\]"):
        AutoencoderTiny(kind="autoencoder-tiny", image_size=16, block_out_channels=(8, 16)).build(None)
