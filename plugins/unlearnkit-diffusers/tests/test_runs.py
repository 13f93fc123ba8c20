"""From recipe to report with models of this package, untrained and tiny."""

import json

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import opened, write_pipeline
from unlearnkit_diffusers import InstructPix2Pix

from unlearnkit.builtin.tasks.sections import Reconstruction, Translation
from unlearnkit.contracts import trainable
from unlearnkit.data import batch_index, seeded, view_of
from unlearnkit.evaluation.originals import Originals
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.solver.workbench import build

MODELS = {
    "vq-gan": "{kind: vq-gan, image_size: 16, block_out_channels: [8, 16], codes: 16, code_width: 4}",
    "mage": "{kind: mage, image_size: 16, width: 16, depth: 1, heads: 2, decoder_width: 16, decoder_depth: 1, "
    "decoder_heads: 2}",
    "palette": "{kind: palette, image_size: 16, block_out_channels: [8, 16], attention_head_dim: 8, steps: 2}",
    "latent-inpainting": "{kind: latent-inpainting, image_size: 16, steps: 2, block_out_channels: [8, 16], "
    "vae_channels: [8, 8], cross_attention_dim: 8, heads: 2}",
    "instruct-pix2pix": "{kind: instruct-pix2pix, image_size: 16, steps: 2, block_out_channels: [8, 16], "
    "vae_channels: [8, 8], cross_attention_dim: 8, heads: 2}",
}
RECIPE = """\
name: tiny
model: MODEL
data:
  source: {kind: image-folder, root: pictures}
  forget: {classes: [red]}
  retain: {classes: [green]}
  per_class: {train: 6, validation: 3}
epsilons: {fractions: [0.5]}
sweep: {kind: independent}
training: {optimizer: {kind: adamw, lr: 3.0e-3}, batch_size: 3, steps: 6, checks: 2, device: cpu}
evaluate: {metrics: [{kind: hidden-psnr}], images: 2}
"""


@pytest.fixture
def recipe(tmp_path):
    for number, label in enumerate(("red", "green")):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for place in range(9):
            pixels = np.random.default_rng([number, place]).integers(0, 90, (16, 24, 3), dtype=np.uint8)
            pixels[..., number] += 120
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{place}.png")
    return tmp_path / "recipe.yaml"


def bench(recipe, kind, *overrides):
    recipe.write_text(RECIPE.replace("MODEL", MODELS[kind]))
    return build(load(recipe, discover(), overrides).recipe, recipe.parent)


def step(side, rows, number):
    """Return a batch's loss and its gradient."""
    parameters = trainable(side.student, "encoder")
    for parameter in parameters:
        parameter.requires_grad_(True)
    loss = side.value(rows, number)
    return [loss, *torch.autograd.grad(loss, parameters)]


def test_a_recipe_runs_and_a_solution_is_exported(recipe, unlearnkit):
    recipe.write_text(RECIPE.replace("MODEL", MODELS["vq-gan"]))
    unlearnkit("run", recipe, "--to", "run").succeeded()
    results = json.loads((recipe.parent / "run" / "results.json").read_text())
    assert len(results["solutions"]) == 3
    assert all(row["frozen_unchanged"] for row in results["solutions"])
    unlearnkit("export", "run", "--epsilon", "epsilon-at-0.5", "--to", "exported").succeeded()
    diffusers.VQModel.from_pretrained(recipe.parent / "exported", use_safetensors=True)
    recipe.write_text(RECIPE.replace("MODEL", "{kind: vq-gan, weights: exported}"))
    unlearnkit("plan", recipe).succeeded()


PROMPT = "negative"
TRUTHS = {
    "of pairs": (Reconstruction(kind="reconstruction"), ["data.source.targets=edited"]),
    "nobody's": (Translation(kind="translation"), []),
}


@pytest.mark.parametrize("truth", TRUTHS)
def test_edits_by_an_instruction_run_to_a_report_and_are_exported(truth, recipe, unlearnkit):
    pytest.importorskip("transformers")
    task, changes = TRUTHS[truth]
    root = recipe.parent
    folder = write_pipeline(root / "published", 8)
    for path in (root / "pictures").rglob("*.png"):
        twin = root / "edited" / path.relative_to(root / "pictures")
        twin.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(path))).save(twin)
    fields = {"kind": "instruct-pix2pix", "prompt": PROMPT, "image_size": (16, 24), "steps": 2}
    recipe.write_text(RECIPE.replace("MODEL", json.dumps({**fields, "weights": "published"})))
    overrides = [
        part for change in (f"task={{kind: {task.kind}}}", "training.steps=40", *changes) for part in ("--set", change)
    ]
    unlearnkit("run", recipe, "--to", "run", *overrides).succeeded()
    results = json.loads((root / "run" / "results.json").read_text())
    assert results["warnings"] == []
    assert all(row["frozen_unchanged"] for row in results["solutions"])
    assert ("the right output is not known" in (root / "run" / "report.html").read_text()) == (truth == "nobody's")
    strips = [Image.open(root / "run" / "images" / f"forget-{name}.png") for name in ("input", "truth", "original")]
    pixels = [np.asarray(strip) for strip in strips]
    assert {strip.shape for strip in pixels} == {(16, 48, 3)}
    assert np.array_equal(pixels[0], pixels[1]) == (truth == "nobody's")
    unlearnkit("export", "run", "--epsilon", "epsilon-at-0.5", "--to", "exported").succeeded()
    ours, before = (InstructPix2Pix(**fields).build(root / name) for name in ("exported", "published"))
    images = torch.rand(1, 3, 16, 24, generator=seeded("images"))
    view = view_of(ours, task.build(), images, seeded("view"))
    expected = opened(diffusers.StableDiffusionInstructPix2PixPipeline, folder, root / "exported")(
        prompt=PROMPT, image=images, latents=view.draws[0], num_inference_steps=2, guidance_scale=1.0,
        image_guidance_scale=1.0, output_type="pt",
    ).images  # fmt: skip
    with torch.no_grad():
        assert torch.allclose(ours.output(view), expected, rtol=0, atol=1e-5)
        assert not torch.allclose(before.output(view), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_kept_frozen_outputs_change_no_bit(kind, recipe):
    kept, off = bench(recipe, kind), bench(recipe, kind, "training.cache={memory_mib: 0, disk_mib: 0}")
    for number in range(3):
        rows = torch.tensor([[4, 1], [0, 5], [2, 3]])[number]
        for name in ("forget", "retain"):
            with_it, without = (step(found.sides[name], rows, number) for found in (kept, off))
            assert all(torch.equal(a, b) for a, b in zip(with_it, without, strict=True))
    with torch.no_grad():
        list(Originals(kept).pairs("forget", "train"))
    first = {name: count for name, count in kept.store.passes.items() if "first stage" in name}
    expected = {"forget train: first stage": 6, "retain train: first stage": 6}
    assert first == (expected if kept.student.first is not None else {})
    if kind == "vq-gan":
        assert kept.store.passes["retain train: reference"] == 6
        assert off.store.passes["retain train: reference"] > 6


def test_a_step_of_siss_subtracts_a_part_of_the_forget_score(recipe):
    found = bench(recipe, "palette", "compare=[{kind: siss, share: 0.5}]", "training.optimizer={kind: sgd, lr: 1.0}")
    (problem,) = found.methods
    descent, start = found.begun(problem), found.original("all")
    assert problem.part == "all"
    gradients = {}
    for name, side in found.sides.items():
        rows = batch_index(0, side.count, 3, side.seed, None, name)
        view = side.view(rows, None, 0)
        _, gradient = descent.flat.backward(0, [lambda view=view: found.student.own_loss(view.truth, view)])
        gradients[name] = gradient.clone()
    descent.begin(start.clone())
    descent.step()
    forget, retain = gradients["forget"], gradients["retain"]
    expected = retain - 0.5 * retain.norm() / forget.norm() * forget
    torch.testing.assert_close(start - descent.flat.theta.detach(), expected, rtol=1e-3, atol=1e-6)
