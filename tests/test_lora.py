"""Low-rank adapters: what they leave as it was, what they reach, and that a run of them is a run like any other."""

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import diffusers
import pytest
import timm
import torch
from safetensors.torch import load_file
from test_plan import SIZES, section
from tiny_task import failing, lasting, ran, resumed

from unlearnkit.builtin.audits.chunks import hidden_psnr
from unlearnkit.builtin.audits.pairs import TwoPoints
from unlearnkit.builtin.models.sections import VitMae
from unlearnkit.builtin.tasks.degradations import Box
from unlearnkit.contracts import trainable
from unlearnkit.data import random_view, seeded
from unlearnkit.errors import UserError
from unlearnkit.evaluation.audits import case
from unlearnkit.plugins import discover
from unlearnkit.recipe.sections import Lora
from unlearnkit.recipe.validate import load
from unlearnkit.run import runner
from unlearnkit.run.export import export
from unlearnkit.run.verify import Data, verify
from unlearnkit.solver import lora
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.workbench import build
from unlearnkit.weights import outlined

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
CPU = torch.device("cpu")
SMALL = VitMae(kind="vit-mae", image_size=32, width=32, depth=1, heads=2, decoder_width=32, decoder_depth=1)


def made(kind: str, tiny: Path):
    """Return an untrained small model, and a view that it takes."""
    model = load(tiny, discover(), [f"model={section(kind)}"]).recipe.model.build(None)
    model.module.eval().requires_grad_(False)
    return model, random_view(model, Box((0.5, 0.5), central=True), 1, "lora", CPU)


def moved(model, by: float = 0.1) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.adapters:
        parameter.data += by * torch.randn(parameter.shape, generator=generator)


def test_an_audit_holds_another_solution_with_its_adapters_beside_the_model(shared_tiny):
    changes = ["model.train={kind: lora, rank: 1}"]
    bench = build(load(shared_tiny, discover(), changes).recipe, shared_tiny.parent)
    watcher, part = SimpleNamespace(check_signal=lambda: None), bench.recipe.model.part
    own, its = (bench.origin + by * torch.randn(bench.origin.shape, generator=seeded(by)) for by in (0.05, 0.1))
    bench.put(part, its)
    view = next(iter(case(bench, watcher, {}).views("forget", "validation")))
    expected = shown(bench.student, view)
    bench.put(part, own)
    found = case(bench, watcher, {"other": (part, its)}, "other")
    assert torch.allclose(shown(found.other, view), expected, atol=1e-5)
    assert not torch.allclose(shown(found.reference, view), expected, atol=1e-3)
    ends = TwoPoints("other", (1.0,)).examine(found)
    assert ends["other"] == pytest.approx(hidden_psnr(found.other, found.views("forget", "validation")), abs=1e-3)
    assert ends["own"] != ends["other"]


@torch.no_grad()
def shown(model, view) -> torch.Tensor:
    return model.decode(model.embed(view), view)


@pytest.mark.parametrize("kind", [kind for kind in SIZES if kind != "pix2pix"])
def test_adapters_start_at_the_original_reach_the_output_and_merge(kind, shared_tiny):
    model, view = made(kind, shared_tiny)
    was, weights = shown(model, view), copy.deepcopy(model.module.state_dict())
    lora.add(model, Lora(rank=1), "all", 0)
    off = lora.original(model)
    assert torch.equal(shown(model, view), was)
    for parameter in model.adapters:
        parameter.requires_grad_(True)
    model.decode(model.embed(view), view).square().mean().backward()
    second = {name: parameter for name, parameter in model.module.named_parameters() if ".lora_B." in name}
    inert = [name for name, parameter in second.items() if parameter.grad is None or not parameter.grad.any()]
    assert len(inert) < len(second)
    assert all(".attn2." in name for name in inert)  # of a prompt that says nothing
    moved(model)
    now, merged = shown(model, view), lora.plain(model, merged=True)
    assert not torch.allclose(now, was)
    assert torch.equal(shown(off, view), was)
    assert (shown(merged, view) - now).abs().max() <= 1e-5 * max(1, now.abs().max())
    bare = lora.plain(model)
    for one in (bare, merged):
        assert one.module.state_dict().keys() == weights.keys()
    for name, value in bare.module.state_dict().items():
        assert torch.equal(value, weights[name])
    owned = {value.untyped_storage().data_ptr() for value in model.module.state_dict().values()}
    for other in (off, bare):
        assert {p.untyped_storage().data_ptr() for p in other.module.parameters()} <= owned


def test_adapters_follow_from_the_seed_and_the_encoders_do_not_from_the_others():
    def drawn(part, seed):
        model = SMALL.build(None)
        torch.rand(seed + 1)  # whatever was drawn before
        lora.add(model, Lora(rank=2), part, seed)
        return trainable(model, "encoder"), trainable(model)

    encoder, every = drawn("all", 5)
    assert len(every) > len(encoder) == len(every[: len(encoder)])
    for one, other in zip(encoder, drawn("encoder", 5)[1], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(encoder[0], drawn("encoder", 6)[0][0])


def test_a_change_is_that_of_the_weights():
    model = SMALL.build(None)
    lora.add(model, Lora(rank=2, part="all"), "all", 0)
    assert lora.change(model) == 0
    moved(model)
    before, after = (one.module.state_dict() for one in (lora.plain(model), lora.plain(model, merged=True)))
    touched = [name for name in before if not torch.equal(before[name], after[name])]
    apart, whole = (sum(float(x.square().sum()) for x in xs) for xs in (
        [after[name] - before[name] for name in touched], [before[name] for name in touched],
    ))  # fmt: skip
    assert lora.change(model) == pytest.approx((apart / whole) ** 0.5, rel=1e-4)


def test_layers_are_meant_by_the_ends_of_their_names(shared_tiny, monkeypatch):
    model, _ = made("mae", shared_tiny)
    lora.add(model, Lora(rank=1, targets=["attn.qkv", "fc1"]), "encoder", 0)
    names = [name for name, _ in model.module.named_parameters() if "lora_A" in name]
    assert [name.split(".lora_A")[0] for name in names] == [
        "encoder.vit.blocks.0.attn.qkv", "encoder.vit.blocks.0.mlp.fc1",
    ]  # fmt: skip
    for wrong, said in ((Lora(targets=["to_q"]), "they are called fc1, fc2, proj, qkv"), (Lora(rank=99), "is meant")):
        with pytest.raises(UserError, match=said):
            lora.add(made("mae", shared_tiny)[0], wrong, "encoder", 0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"unlearnkit\[lora\]"):
        lora.add(made("mae", shared_tiny)[0], Lora(), "encoder", 0)


def test_of_two_models_that_have_the_weights_there_is_one(shared_tiny):
    changes = ["model.train={kind: lora, rank: 1}"]
    bench = build(load(shared_tiny, discover(), changes).recipe, shared_tiny.parent)
    student, reference = (one.module.state_dict() for one in (bench.student, bench.reference))
    for name, value in student.items():
        assert (value.data_ptr() == reference[name].data_ptr()) is ("lora_" not in name)
    assert bench.flat.theta.numel() == sum(parameter.numel() for parameter in bench.student.adapters)


PUBLISHED = {
    "ViT-B of the MAE": "{kind: mae}",
    "ViT-L of the MAE": "{kind: mae, architecture: vit_large_patch16_224}",
    "MAGE's ViT-B": "{kind: mage, image_size: 256, width: 768, depth: 12, heads: 12, decoder_width: 768, "
    "decoder_depth: 8, decoder_heads: 12}",
    "Stable Diffusion 1's U-Net": "{kind: latent-inpainting, image_size: 512, block_out_channels: "
    "[320, 640, 1280, 1280], layers_per_block: 2, cross_attention_dim: 768, norm_num_groups: 32, heads: 8, "
    "vae_channels: [128, 256, 512, 512]}",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_of_published_sizes_at_most_a_fiftieth_is_trained(name, shared_tiny):
    made = load(shared_tiny, discover(), [f"model={PUBLISHED[name]}"]).recipe.model
    with outlined():
        model = made.build(None)
        whole = sum(parameter.numel() for parameter in model.module.parameters())
        lora.add(model, Lora(), "all", 0)
    encoder, every = (sum(parameter.numel() for parameter in trainable(model, part)) for part in ("encoder", "all"))
    assert 0 < encoder < every <= whole / 50


TRAIN = "model.train={kind: lora, rank: 1}"
SHORT = "training.steps=6", "training.checkpoint_every=2", "training.checks=1"
LITTLE = "epsilons.fractions=[0.5]", "evaluate.stops=0"
TRAINING = "{kind: relearning, steps: 2, every: 1}, {kind: fresh-decoder, steps: 2}"
MORE = "compare=[{kind: neggrad-plus}]", f"evaluate.audits=[{TRAINING}]"


@pytest.fixture(scope="module", autouse=True)
def unwritten():
    """Leave out reports, which are most of a tiny run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "write_report", lambda sealed: [])
        yield


@pytest.fixture(scope="module")
def forgotten(shared_tiny):
    """Return a run of a VQ-GAN of diffusers with adapters, its recipe, and the weights that it began with."""
    model = load(shared_tiny, discover(), [f"model={section('vq-gan')}"]).recipe.model.build(None)
    weights = shared_tiny.parent / "weights"
    weights.mkdir()
    model.save(weights)
    changes = ("model={kind: vq-gan, weights: weights}", TRAIN, *SHORT, *LITTLE, *MORE)
    run = ran(shared_tiny, shared_tiny.parent / "forgotten", *changes)
    return run, load(shared_tiny, discover(), changes).recipe, weights


def test_an_export_is_what_was_measured_in_plain_diffusers(forgotten, tmp_path):
    run, recipe, weights = forgotten
    out = export(run, recipe, "boundary-highest", tmp_path / "out")
    net = diffusers.VQModel.from_pretrained(out).eval()
    bench = build(recipe, recipe.folder)
    [theta] = (load_file(path)["theta"] for path in (run / "solutions" / "boundary-highest").glob("*.safetensors"))
    bench.put("encoder", theta)
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        made, wanted, was = (one.encode(images).latents for one in (net, bench.student.net, bench.reference.net))
    torch.testing.assert_close(made, wanted, atol=1e-5, rtol=0)
    assert not torch.allclose(made, was, atol=1e-4)
    before, after = (load_file(path / "diffusion_pytorch_model.safetensors") for path in (weights, out))
    assert all(torch.equal(after[name], value) for name, value in before.items() if name.startswith("decoder."))
    lines = list(verify(out, None, Data(recipe, recipe.folder, run)))
    assert "computed again" in lines[-1]


def test_merged_weights_of_a_masked_autoencoder_load_in_plain_timm(shared_tiny, tmp_path):
    model, view = made("mae", shared_tiny)
    lora.add(model, Lora(rank=1), "encoder", 0)
    moved(model)
    lora.plain(model, merged=True).save(tmp_path)
    vit = timm.create_model(
        "vit_base_patch16_224", img_size=16, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=0
    ).eval()  # fmt: skip
    found = load_file(tmp_path / "model.safetensors")
    vit.load_state_dict({name: found[name] for name in vit.state_dict()})
    with torch.no_grad():
        wanted = model.encoder(view.truth, torch.arange(16)[None], None)
        torch.testing.assert_close(vit.forward_features(view.truth), wanted, atol=1e-5, rtol=0)


def test_frozen_weights_are_the_same_to_the_bit_behind_a_run(forgotten):
    run, _, weights = forgotten
    before, after = (load_file(path / "diffusion_pytorch_model.safetensors") for path in (weights, run / "original"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    results = json.loads((run / "results.json").read_text())
    assert all(row["frozen_unchanged"] for row in results["solutions"])
    assert {audit["id"] for audit in results["audits"]} == {"relearning", "fresh-decoder"}
    assert not any("failed" in cell for audit in results["audits"] for cell in audit["solutions"].values())


@pytest.mark.parametrize("sweep", ["{kind: curve, degree: 1}", "{kind: continuation, direction: tighten}"])
def test_a_run_that_was_stopped_ends_in_the_same_bytes(sweep, tiny, monkeypatch):
    changes = TRAIN, *SHORT, *LITTLE, f"sweep={sweep}"
    whole = ran(tiny, tiny.parent / "whole", *changes)
    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", failing(Descent.step, 15, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            ran(tiny, tiny.parent / "stopped", *changes)
    assert lasting(resumed(tiny.parent / "stopped")) == lasting(whole)


@pytest.mark.parametrize(
    ("method", "said"),
    [("retrain", "begins at fresh"), ("decoupling, sensitivity: 0.1", "puts noise"), ("salun", "picks salient")],
)
def test_what_is_done_to_all_weights_is_refused_by_name(method, said, shared_tiny):
    recipe = load(shared_tiny, discover(), [TRAIN, f"compare=[{{kind: {method}}}]"]).recipe
    with pytest.raises(UserError, match=f"compare: {method.split(',')[0]}.*{said}.*stay frozen"):
        build(recipe, shared_tiny.parent)
