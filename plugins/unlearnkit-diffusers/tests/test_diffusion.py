"""Palette over diffusers: the contract, the formulas, sampling, and folders that diffusers reads alone."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import save_file
from unlearnkit_diffusers.diffusion import Noising, Sampler, known
from unlearnkit_diffusers.diffusion_sections import Palette

from unlearnkit.builtin.losses.sections import NoiseEmbedding, NoiseOutput, ReferenceEmbedding, ReferenceOutput
from unlearnkit.builtin.models.sections import VitMae
from unlearnkit.builtin.tasks.sections import CenterCrop, Grayscale, RandomBox
from unlearnkit.contracts import Setting, Sources, shared, standard_normal, trainable
from unlearnkit.data import again, seeded, view_of
from unlearnkit.errors import UserError
from unlearnkit.testing import check_loss, check_model

TINY = {"image_size": 16, "block_out_channels": (8, 16), "norm_num_groups": 4, "attention_head_dim": 8, "steps": 3}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
CROP = CenterCrop(kind="center-crop")


def tiny(**fields):
    return Palette(kind="palette", **(TINY | fields))


def made(seed=0, **fields):
    torch.manual_seed(seed)
    return tiny(**fields).build(None)


def images(count=2, name="images", size=16):
    return torch.rand(count, 3, size, size, generator=seeded(name))


def seen(adapter, count=2, task=CROP):
    return view_of(adapter, task.build(), images(count), seeded("view"))


def every(found, wanted, close=None):
    pairs = list(zip(found, wanted, strict=True))
    return all(torch.allclose(a, b, atol=close) if close else torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scheduler": "DDPMScheduler", "noise_level": True},
        {"scheduler": "DPMSolverMultistepScheduler", "fill": "neutral", "train": "all", "prediction": "v_prediction"},
        {"image_size": (16, 24)},
    ],
)
@pytest.mark.parametrize("task", [CROP, Grayscale(kind="grayscale")], ids=["hidden", "whole"])
def test_model_keeps_its_contract(fields, task):
    check_model(tiny(**fields), task.build())


@pytest.mark.parametrize("cls", [NoiseEmbedding, NoiseOutput, ReferenceEmbedding, ReferenceOutput])
def test_losses_work_with_it(cls):
    kind = cls.model_fields["kind"].annotation.__args__[0]
    check_loss(cls(kind=kind), tiny(), RandomBox(kind="random-box"))


def test_halves_give_what_the_whole_gives():
    adapter = made(attention=(0, 1))
    x, step = torch.randn(2, 6, 16, 16), torch.tensor([3, 700])
    with torch.no_grad():
        assert torch.equal(adapter.module(x, step), adapter.unet(x, step).sample)


def test_embedding_is_every_skip_and_the_middle():
    adapter = made()
    found = [tuple(part.shape[1:]) for part in adapter.embed(seen(adapter))]
    assert found == [(8, 16, 16), (8, 16, 16), (8, 8, 8), (16, 8, 8), (16, 8, 8)]


@pytest.mark.parametrize("part", ["encoder", "all"])
def test_training_changes_what_it_may(part):
    adapter = made()
    view = seen(adapter, 4)
    before = {name: value.clone() for name, value in adapter.module.state_dict().items()}
    optimizer = torch.optim.Adam(trainable(adapter, part), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = adapter.own_loss(view.truth, view)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    changed = {
        name.split(".")[0] for name, value in adapter.module.state_dict().items() if (value != before[name]).any()
    }
    # The time embedding feeds the frozen up path as well, so it stays with it.
    assert changed == {"encoder"} if part == "encoder" else {"encoder", "decoder", "time_embedding"}
    assert shared(adapter) == []


def test_a_frozen_decoder_decodes_as_before():
    adapter = made()
    view = seen(adapter)
    with torch.no_grad():
        embedding = adapter.embed(view)
        before = adapter.decode(embedding, view)
        for parameter in trainable(adapter, "encoder"):
            parameter.add_(torch.randn(parameter.shape))
        assert not every(adapter.embed(view), embedding)
        assert torch.equal(adapter.decode(embedding, view), before)


def test_hidden_truth_shows_in_the_embedding_and_not_in_the_output():
    adapter = made()
    view = seen(adapter)
    other = replace(view, truth=torch.where(view.hidden, images(name="other"), view.truth))
    outside = replace(view, truth=torch.where(view.hidden, view.truth, images(name="other")))
    with torch.no_grad():
        assert not every(adapter.embed(view), adapter.embed(other))
        assert every(adapter.embed(view), adapter.embed(outside))
        assert torch.equal(adapter.output(view), adapter.output(other))
        blind = replace(view, truth=torch.full_like(view.truth, torch.nan))
        assert torch.equal(adapter.output(view), adapter.output(blind))
        bare = replace(blind, draws=())
        assert torch.equal(adapter.output(bare), adapter.output(bare))


def test_again_repeats_the_draws_for_other_images():
    adapter = made()
    view = seen(adapter)
    assert every(again(view, CROP.build(), images(name="other")).draws, view.draws)
    with torch.no_grad():
        assert every(adapter.embed(again(view, CROP.build(), view.truth)), adapter.embed(view))


def test_input_is_the_condition_beside_the_noised_truth():
    adapter = made()
    view = seen(adapter)
    noise, fill, time = view.draws
    captured = []
    adapter.encoder.conv_in.register_forward_pre_hook(lambda module, args: captured.append(args[0]))
    adapter.embed(view)
    gamma = adapter.noising.gammas[(time * 1000).long()][:, None, None, None]
    inside = view.truth * 2 - 1
    noised = gamma.sqrt() * inside + (1 - gamma).sqrt() * noise
    condition, target = torch.where(view.hidden, fill, inside), torch.where(view.hidden, noised, inside)
    assert torch.allclose(captured[0], torch.cat([condition, target], 1), atol=1e-6)


@pytest.mark.parametrize("levels", [False, True])
@torch.no_grad()
def test_f1_is_that_of_the_released_code(levels):
    """Li et al.'s branch i2i, models/network.py, with `fix_decoder` on a batch of forget images (label −1)."""
    teacher, student = made(noise_level=levels), made(1, noise_level=levels)
    noise, fill, time = (view := seen(teacher)).draws
    (gamma, told), inside, label = teacher.noising.at(time), view.truth * 2 - 1, -1
    original = gamma.sqrt() * inside + (1 - gamma).sqrt() * noise
    # `q_sample`: the image's part goes with the label, and the noise is brought to full strength.
    full = (1 - gamma).sqrt() + (1 - (1 - gamma).sqrt()) * (1 - label) / 2
    noisy = gamma.sqrt() * inside * (label + 1) / 2 + full * noise

    def features(model, hole):
        condition, target = (torch.where(view.hidden, one, inside) for one in (fill, hole))
        return model.module.encoder(torch.cat([condition, target], 1), model.module.time(told))

    pairs = zip(features(student, original), features(teacher, noisy), strict=True)
    released = sum(float((one - other).square().mean()) for one, other in pairs)
    setting = Setting(teacher, CROP.build(), Sources(standard_normal(), seeded, None, None, None))
    losses = [NoiseEmbedding(kind="noise-embedding", noise=kind).build(setting) for kind in ("diffusion", "images")]
    its, described = (float(loss.distance(student, view, loss.target(view, seeded()))) for loss in losses)
    assert its == pytest.approx(released, rel=1e-5)
    assert described != pytest.approx(released, rel=1e-2)  # as the paper has it


@pytest.mark.parametrize("noise", ["images", "diffusion"])
def test_noise_replaces_all_of_an_image_that_is_degraded_as_a_whole(noise):
    adapter, task = made(), Grayscale(kind="grayscale")
    view = seen(adapter, task=task)
    setting = Setting(adapter, task.build(), Sources(standard_normal(), seeded, None, None, None))
    loss = NoiseEmbedding(kind="noise-embedding", noise=noise).build(setting)
    with torch.no_grad():
        assert float(loss.distance(adapter, view, loss.target(view, seeded()))) > 0.1


def test_noise_of_the_draws_needs_a_model_that_draws_some():
    reference = VitMae(kind="vit-mae").build(None)
    setting = Setting(reference, CROP.build(), Sources(standard_normal(), seeded, None, None, None))
    with pytest.raises(UserError, match="noise 'diffusion' is for models like palette; use 'images'"):
        NoiseEmbedding(kind="noise-embedding", noise="diffusion").build(setting)


@pytest.mark.parametrize("task", [CROP, Grayscale(kind="grayscale")], ids=["hidden", "whole"])
def test_own_loss_is_the_error_of_the_noise_in_the_region(task):
    adapter = made()
    view = seen(adapter, task=task)
    noise, fill, time = view.draws
    region = view.hidden if task is CROP else torch.ones_like(view.hidden)
    gamma = adapter.noising.gammas[(time * 1000).long()][:, None, None, None]
    inside = view.truth * 2 - 1
    noised = torch.where(region, gamma.sqrt() * inside + (1 - gamma).sqrt() * noise, inside)
    condition = torch.where(view.hidden, fill, view.images * 2 - 1)
    with torch.no_grad():
        predicted = adapter.unet(torch.cat([condition, noised], 1), (time * 1000).long()).sample
        expected = (predicted - noise).square()[region.expand_as(noise)].mean()
        assert float(adapter.own_loss(view.truth, view)) == pytest.approx(float(expected), rel=1e-5)
        # Other images as the target: their own noised version goes in.
        assert float(adapter.own_loss(1 - view.truth, view)) != pytest.approx(float(expected), rel=1e-5)


def test_decode_is_the_one_step_estimate():
    adapter = made()
    view = seen(adapter)
    noise, _, _ = view.draws
    with torch.no_grad():
        embedding = adapter.embed(view)
        adapter.module.decoder.forward = lambda *_: noise
        assert torch.allclose(adapter.decode(embedding, view), view.truth, atol=1e-4)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("levels", [False, True])
def test_the_estimate_from_a_right_prediction_is_the_image(predicts, levels):
    noising = Noising({"num_train_timesteps": 50, "prediction_type": predicts}, levels)
    clean, noise = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    gamma, told = noising.at(torch.tensor([0.0, 0.2, 0.5, 0.9, 0.9999]))
    noisy = noising.noised(clean, noise, gamma)
    assert torch.allclose(noising.estimate(noising.wanted(clean, noise, gamma), noisy, gamma), clean, atol=1e-3)
    if levels:
        assert torch.equal(told, gamma.flatten())
        assert bool((told.diff() < 0).all())
    else:
        assert told.tolist() == [0, 10, 25, 45, 49]
    step = torch.tensor(25)
    expected = noising.gammas[25] if levels else step
    assert noising.told(step, 2).tolist() == [pytest.approx(float(expected))] * 2


@pytest.mark.parametrize("name", known())
def test_every_known_scheduler_samples(name):
    noising = Noising({"num_train_timesteps": 1000, "timestep_spacing": "trailing"})
    if name == "DPMSolverSDEScheduler":
        pytest.importorskip("torchsde")
    sampler = Sampler(name, 4, noising)
    noise = torch.randn(2, 3, 8, 8)
    found, again = (sampler.sample(noise, lambda noisy, told: 0.1 * noisy) for _ in range(2))
    assert found.shape == noise.shape
    assert bool(found.isfinite().all())
    assert torch.equal(found, again)
    assert not torch.equal(found[0], found[1])


def test_a_scheduler_that_needs_another_package_says_so():
    if importlib.util.find_spec("torchsde"):
        pytest.skip("torchsde is installed")
    with pytest.raises(UserError, match=r"model\.scheduler: DPMSolverSDEScheduler .*torchsde"):
        made(scheduler="DPMSolverSDEScheduler")


@pytest.mark.parametrize("name", ["DDPMScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler"])
@pytest.mark.parametrize("levels", [False, True])
def test_an_output_does_not_depend_on_its_batch(name, levels):
    adapter = made(scheduler=name, noise_level=levels)
    view = seen(adapter, 3)
    with torch.no_grad():
        alone = torch.cat([adapter.output(view[row : row + 1]) for row in range(3)])
        assert torch.allclose(adapter.output(view), alone, atol=1e-4)


def test_diffusers_reads_the_folder_alone(tmp_path):
    adapter = made()
    adapter.save(tmp_path)
    assert json.loads((tmp_path / "palette.json").read_text())["fill"] == "noise"
    unet = UNet2DModel.from_pretrained(tmp_path / "unet", low_cpu_mem_usage=False)
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "scheduler")
    view = seen(adapter)
    visible, hidden = view.images * 2 - 1, view.hidden
    noisy, fill, _ = view.draws
    condition = torch.where(hidden, fill, visible)
    scheduler.set_timesteps(3)
    with torch.no_grad():
        for step in scheduler.timesteps:
            shown = torch.where(hidden, noisy, visible)
            noisy = scheduler.step(unet(torch.cat([condition, shown], 1), step).sample, step, noisy).prev_sample
        output = adapter.output(view)
    expected = torch.where(hidden, (noisy / 2 + 0.5).clamp(0, 1), view.images)
    assert torch.allclose(output, expected, atol=1e-5)


def test_a_folder_says_its_own_sizes(tmp_path):
    adapter = made(
        prediction="sample", beta_schedule="squaredcos_cap_v2", train_steps=200, fill="neutral", noise_level=True
    )
    adapter.module.half()
    adapter.save(tmp_path)
    again = Palette(kind="palette").build(tmp_path)
    assert (again.image_size, again.fill, again.noising.levels) == (16, "neutral", True)
    assert again.noising.predicts == "sample"
    assert torch.equal(again.noising.gammas, adapter.noising.gammas)
    assert all(parameter.dtype == torch.float32 for parameter in again.module.parameters())
    assert len(Palette(kind="palette", train_steps=100).build(tmp_path).noising.gammas) == 100
    assert Palette(kind="palette", image_size=32).build(tmp_path).image_size == 32
    unet_alone = Palette(kind="palette", fill="neutral", noise_level=True).build(tmp_path / "unet")
    assert len(unet_alone.noising.gammas) == 1000
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    assert tiny().build(file).unet.config["block_out_channels"] == (8, 16)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scheduler": "DDIM"}, "no scheduler 'DDIM' to sample with; known: DDIMScheduler, DDPMScheduler"),
        ({"scheduler": "FlowMatchEulerDiscreteScheduler"}, "no scheduler 'FlowMatch"),
        ({"steps": 1001}, "1001 steps of sampling, but the noise schedule has 1000"),
        ({"image_size": 17}, "17 px is no multiple of 2, .* give 16 or 18"),
        ({"norm_num_groups": 3}, "norm_num_groups: 3 does not divide the 8 channels"),
        ({"attention_head_dim": 5}, "attention_head_dim: 5 does not divide the 16"),
        ({"attention": (2,)}, "no level 2; levels run from 0 to 1"),
    ],
)
def test_sections_that_cannot_be_built_say_why(fields, words):
    with pytest.raises(UserError, match=words):
        tiny(**fields).build(None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("palette")
    made().save(path)
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"block_out_channels": (8, 32)}, r"the recipe says \[8, 32\], but the weights .* \[8, 16\]; leave it out"),
        ({"layers_per_block": 2}, "model.layers_per_block: the recipe says 2"),
        ({"attention": ()}, r"model.attention: the recipe says \[\], .* \[1\]"),
    ],
)
def test_sizes_that_are_not_the_weights_are_refused(folder, fields, words):
    with pytest.raises(UserError, match=words):
        Palette(kind="palette", **fields).build(folder)


def test_weights_of_something_else_are_refused(tmp_path, folder):
    with pytest.raises(UserError, match="no UNet2DModel"):
        Palette(kind="palette").build(tmp_path)
    unet = UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=8, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    unet.save_pretrained(tmp_path / "plain")
    with pytest.raises(UserError, match="3 input and 3 output channels"):
        Palette(kind="palette").build(tmp_path / "plain")
    unet.register_to_config(in_channels=6)
    unet.save_pretrained(tmp_path / "torn")
    with pytest.raises(UserError, match="torn"):
        Palette(kind="palette").build(tmp_path / "torn")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="do not fit"):
        tiny().build(tmp_path / "other.safetensors")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="no complete safetensors"):
        tiny().build(tmp_path / "cut.safetensors")


def test_weights_that_lack_a_tensor_are_refused(tmp_path, folder):
    from safetensors.torch import load_file

    made().save(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_in.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"conv_in\.weight"):
        tiny().build(tmp_path)


def test_sections_load_no_torch():
    code = "import sys, unlearnkit_diffusers; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_step_in_bfloat16_is_close_to_one_in_full():
    adapter = made(attention=(0, 1), noise_level=True)
    view = seen(adapter)
    full = adapter.own_loss(view.truth, view)
    with torch.autocast("cpu", torch.bfloat16):
        half = adapter.own_loss(view.truth, view)
        image = adapter.decode(adapter.embed(view), view)
    half.backward()
    assert float(half.detach()) == pytest.approx(float(full.detach()), rel=0.02)
    assert image.dtype == torch.float32
    assert all(bool(parameter.grad.isfinite().all()) for parameter in trainable(adapter))
