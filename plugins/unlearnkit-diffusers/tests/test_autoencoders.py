"""The autoencoders: their contract, their own losses, and folders that plain diffusers reads."""

import diffusers
import pytest
import torch
from tiny_pipelines import vae_tensors
from unlearnkit_diffusers import VQGAN, Autoencoder, AutoencoderKL, AutoencoderTiny
from unlearnkit_diffusers.autoencoders import IMAGE

from unlearnkit.builtin.tasks.sections import CenterCrop, Downscaling, RandomBox
from unlearnkit.contracts import trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import UserError
from unlearnkit.recipe.sections import placed
from unlearnkit.testing import check_model
from unlearnkit.weights import save

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
    mean, log = adapter.encoder(view.images * 2 - 1).chunk(2, 1)
    normal = torch.distributions.Normal(mean, (0.5 * log).exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3)).mean()
    assert adapter.penalty(adapter.made(view)).item() == pytest.approx(1e-6 * divergence.item(), rel=1e-4)


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


LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
SMALL = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 16, **LEVELS}
OF_DC = {
    "block_types": ("ResBlock", "EfficientViTBlock"), "block_out_channels": (8, 8), "layers_per_block": (1, 1),
    "qkv_multiscales": ((), (5,)),
}  # fmt: skip
CLASSES = {
    "AsymmetricAutoencoderKL": {
        "down_block_out_channels": (8, 16), "up_block_out_channels": (8, 24), "norm_num_groups": 4, **LEVELS,
    },
    "AutoencoderDC": {
        "latent_channels": 4, "attention_head_dim": 4, "downsample_block_type": "conv",
        **{f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in OF_DC.items()},
    },
    "AutoencoderKL": SMALL,
    "AutoencoderKLFlux2": SMALL | {"layers_per_block": 1},
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 64),
        "layers_per_block": 1, "spatial_compression_ratio": 2, "sample_size": 16,
    },
    "AutoencoderKLKVAE": {"channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": (1, 2)},
    "AutoencoderTiny": {"encoder_block_out_channels": (8,) * 2, "decoder_block_out_channels": (8,) * 2,
                        "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)},
    "VQModel": SMALL | {"num_vq_embeddings": 32, "vq_embed_dim": 4},
}  # fmt: skip
"""By class of diffusers, small sizes."""


@pytest.mark.parametrize("name", IMAGE)
def test_every_image_autoencoder_loads_unlearns_and_is_read_by_plain_diffusers(name, tmp_path):
    if not hasattr(diffusers, name):
        pytest.skip(f"this diffusers has no {name}")
    torch.manual_seed(0)
    getattr(diffusers, name)(**CLASSES[name]).save_pretrained(tmp_path / "published" / "vae")
    section = Autoencoder(kind="autoencoder", weights="published", image_size=(16, 24))
    check_model(section, weights=tmp_path / "published" / "vae")
    adapter = section.build(tmp_path / "published")  # a pipeline's
    images = torch.rand(2, 3, 16, 24, generator=seeded("images"))
    view = view_of(adapter, TASKS[0].build(), images, seeded("view"))
    before = adapter.embed(view).detach()
    optimizer = torch.optim.SGD(trainable(adapter, "encoder"), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        (adapter.embed(view) - 1).square().mean().backward()
        optimizer.step()
    assert not torch.equal(adapter.embed(view), before)
    (tmp_path / "exported").mkdir()
    adapter.save(tmp_path / "exported")
    plain = getattr(diffusers, name).from_pretrained(tmp_path / "exported", low_cpu_mem_usage=False)
    with torch.no_grad():
        made = plain.encode(view.images * 2 - 1)
        expected = plain.decode(made.latent_dist.mode() if "latent_dist" in made else made[0]).sample
        assert torch.equal(expected / 2 + 0.5, adapter.decode(adapter.embed(view), view))


def test_an_untrained_autoencoder_has_the_sizes_of_the_weights(tmp_path):
    net = diffusers.AutoencoderDC(**CLASSES["AutoencoderDC"])
    net.save_pretrained(tmp_path)
    section = placed(Autoencoder(kind="autoencoder", weights="."), tmp_path)
    fresh, own = section.build(None).net.state_dict(), net.state_dict()
    assert {name: value.shape for name, value in fresh.items()} == {name: value.shape for name, value in own.items()}
    assert not torch.equal(fresh["encoder.conv_in.weight"], own["encoder.conv_in.weight"])


@pytest.mark.parametrize(
    "name", ["AutoencoderKLWan", "AutoencoderRAE", "ConsistencyDecoderVAE", "UNet2DModel", "Rubbish"]
)
def test_what_is_no_autoencoder_of_images_is_refused_by_name(name, tmp_path):
    (tmp_path / "config.json").write_text(f'{{"_class_name": "{name}"}}')
    with pytest.raises(
        UserError,
        match=rf"there is a {name}, which is no autoencoder of images .* give one of AsymmetricAutoencoderKL,",
    ):
        Autoencoder(kind="autoencoder", weights=".").build(tmp_path)
    (tmp_path / "config.json").rename(tmp_path / "other.json")
    with pytest.raises(UserError, match=r"there is no config.json in it; give one of"):
        Autoencoder(kind="autoencoder", weights=".").build(tmp_path)
    with pytest.raises(UserError, match=r"known by the config.json of its folder; give its folder"):
        Autoencoder(kind="autoencoder", weights=".").build(tmp_path / "other.json")


@pytest.mark.parametrize("head", ["", "first_stage_model.", "state_dict"])
def test_an_autoencoder_is_read_from_one_file_in_its_original_layout(head, tmp_path):
    torch.manual_seed(0)
    sizes = {"block_out_channels": (32, 64), "layers_per_block": 2, "latent_channels": 4, **LEVELS}
    diffusers.AutoencoderKL(**sizes).save_pretrained(tmp_path / "folder")
    plain = diffusers.AutoencoderKL.from_pretrained(tmp_path / "folder", low_cpu_mem_usage=False)
    tensors = vae_tensors(plain) | {"loss.logvar": torch.zeros(())}
    path = tmp_path / ("vae.ckpt" if head == "state_dict" else "vae.safetensors")
    if head == "state_dict":
        torch.save({"state_dict": tensors}, path)
    else:
        save({f"{head}{name}": value for name, value in tensors.items()}, path)
    adapter = AutoencoderKL(kind="autoencoder-kl", image_size=16).build(path)
    for name, value in plain.state_dict().items():
        assert torch.equal(adapter.net.state_dict()[name], value), name
    assert adapter.net.config["scaling_factor"] == plain.config["scaling_factor"]
    assert AutoencoderKL(kind="autoencoder-kl").build(path).image_size == 128  # 64 latents to a side
    if not head:
        how = {"config": str(tmp_path / "folder"), "local_files_only": True}
        converted = diffusers.AutoencoderKL.from_single_file(str(path), **how).state_dict()
        assert all(torch.equal(value, converted[name]) for name, value in adapter.net.state_dict().items())


@pytest.mark.parametrize("section", ALL, ids=lambda section: section.kind)
def test_images_need_not_be_square(section, tmp_path):
    section = section.model_copy(update={"image_size": (16, 24)})
    check_model(section)
    section.build(None).save(tmp_path)
    if section.kind != TINY.kind:  # whose configuration has no place for it
        assert type(section)(kind=section.kind).build(tmp_path).image_size == (16, 24)
    with pytest.raises(UserError, match="17 px is no multiple of 2"):
        section.model_copy(update={"image_size": (16, 17)}).build(None)
