"""Committed recipes validate, their models are built in the sizes they name, and shipped weights are theirs."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_task import ran
from unlearnkit_diffusers.autoencoder_sections import VQGAN
from unlearnkit_spandrel.published import PUBLISHED

from unlearnkit.contracts import shared
from unlearnkit.data import Pixels, choose
from unlearnkit.disk import sha256
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run.plan import describe
from unlearnkit.run.pretrain import quality
from unlearnkit.weights import resolve

FOLDER = Path(__file__).parents[1] / "recipes"
CIFAR = FOLDER / "papers" / "cifar-10-full.yaml"
PAPERS = sorted({*(FOLDER / "papers").glob("*.yaml")} - {CIFAR})
RECIPES = sorted({*FOLDER.rglob("*.yaml")} - {*PAPERS, CIFAR})
WEIGHTS = sorted(path.parent for path in FOLDER.glob("weights/*/model.json"))
SHIPPED = [folder for folder in WEIGHTS if folder.name != "cifar-10"]  # whose images travel too


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_committed_recipe_validates_and_its_model_is_built(path):
    recipe = load(path, discover()).recipe
    if fetched := re.fullmatch(r"~/\.cache/unlearnkit/(.+)\.safetensors", recipe.model.weights or ""):
        one = PUBLISHED[fetched[1]]
        assert f"unlearnkit download {fetched[1]};" in path.read_text()
        like = {"weights": None, "architecture": one.architecture, "arguments": one.arguments}
        adapter = recipe.model.model_copy(update=like).build(None)
    else:
        adapter = recipe.model.build(resolve(recipe.model.weights, path.parent))
    assert shared(adapter) == []
    assert path.stem == recipe.name


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_a_papers_recipe_is_planned_without_its_data_and_says_what_is_missing(path):
    recipe = load(path, discover()).recipe
    assert path.stem == recipe.name
    plan = describe(recipe, path.parent)
    assert any(recipe.model.weights in text for text in plan["missing"])
    assert any(recipe.data.source.root in text for text in plan["missing"])
    assert any("open_clip_vit_h_14" in text for text in plan["missing"])
    counts, data = recipe.data.per_class, recipe.data
    for name, classes in (("forget", data.forget.classes), ("retain", data.retain.classes)):
        each = len(classes)
        assert each == (50 if path.stem.startswith("places") else 100)
        assert plan["sets"][name] == {"train": each * counts.train, "validation": each * counts.validation}
    assert len({*data.forget.classes, *data.retain.classes}) == 2 * each
    assert plan["steps"] == len(plan["problems"]) * plan["steps_each"]
    assert plan["memory_mib"]["activations"] > plan["memory_mib"]["images"] / 100


SMALL = {
    "mae": "{kind: mae, image_size: 16, patch_size: 4, width: 16, depth: 1, heads: 2, decoder_width: 16, "
    "decoder_depth: 1, decoder_heads: 2, norm_pix_loss: true}",
    "mage": "{kind: mage, image_size: 16, width: 16, depth: 1, heads: 2, decoder_width: 16, decoder_depth: 1, "
    "decoder_heads: 2}",
    # A diffusion model's f1 is too noisy for so few steps to find a range of ε.
    "palette": "{kind: vit-mae, image_size: 16, patch_size: 4, width: 16, depth: 1, heads: 2, decoder_width: 16, "
    "decoder_depth: 1, decoder_heads: 2}",
}
"""Models in place of the papers', by kind."""


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (18, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")


def imagenet(root: Path, classes: list[str]) -> None:
    """Write two training images and one for validation a class, as ImageNet-1K lies in folders, and a class beside."""
    for number, name in enumerate([*classes, "n01440764"]):
        for half, first, count in (("train", f"{name}_", 2), ("val", "ILSVRC2012_val_000", 1)):
            for place in range(count):
                picture(root / half / name / f"{first}{3 * number + place:05}.JPEG", 3 * number + place)


def places365(root: Path, classes: list[str]) -> None:
    """Write two training images and one for validation a class, as torchvision lays Places365-Standard out."""
    numbered = [(number, f"/{name[0]}/{name}") for number, name in enumerate([*classes, "zen_garden"])]
    train = [(number, f"{name}/{place:08}.jpg") for number, name in numbered for place in (1, 2)]
    val = [(number, f"Places365_val_{number + 1:08}.jpg") for number, _ in numbered]
    for number, file in train:
        picture(root / f"data_256_standard{file}", number)
    for number, file in val:
        picture(root / "val_256" / file, number)
    lists = {"categories_places365": numbered, "places365_train_standard": train, "places365_val": val}
    for name, rows in lists.items():
        (root / f"{name}.txt").write_text("".join(f"{file} {number}\n" for number, file in rows))


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_a_papers_recipe_runs_on_its_layout_in_miniature(path, tmp_path, monkeypatch):
    data = load(path, discover()).recipe.data
    monkeypatch.setattr("torchvision.datasets.places365.check_integrity", lambda path, md5=None: Path(path).is_file())
    layout = places365 if data.source.kind == "places365" else imagenet
    layout(tmp_path / data.source.root, data.forget.classes + data.retain.classes)
    kind = load(path, discover()).recipe.model.kind
    own = ["task={kind: center-crop, pixels: 8}", f"model.first_stage={tmp_path}/tokens"] if kind == "mage" else []
    overrides = [
        f"model={SMALL[kind]}", *own, "data.per_class={train: 2, validation: 1}", "epsilons={fractions: [0.5]}",
        "training.epochs=null", "training.steps=16", "training.checks=1", "training.precision=fp32",
        "training.device=cpu", "training.batch_size=4", "training.optimizer.lr=0.003",
        "evaluate.metrics=[{kind: hidden-psnr}]", "evaluate.images=2",
        "evaluate.tasks=[{kind: center-crop, ratio: 0.5}, {kind: outpainting, border: 0.5}]",
    ]  # fmt: skip
    (tmp_path / "tokens").mkdir()
    tokens = VQGAN(kind="vq-gan", image_size=16, block_out_channels=(8, 8, 16), codes=24, code_width=4)
    tokens.build(None).save(tmp_path / "tokens")
    recipe = tmp_path / path.name
    recipe.write_text(path.read_text())
    plan = describe(load(recipe, discover(), overrides).recipe, tmp_path)
    assert plan["missing"] == []
    assert plan["classes"] == {"forget": data.forget.classes, "retain": data.retain.classes}
    few = [f"data.{name}.classes={json.dumps(getattr(data, name).classes[:4])}" for name in ("forget", "retain")]
    run = ran(recipe, tmp_path / "run", *overrides, *few)
    results = json.loads((run / "results.json").read_text())
    assert len(results["solutions"]) == 3
    assert all(row["frozen_unchanged"] for row in results["solutions"])


def test_the_recipe_of_all_of_cifar10_and_the_command_before_it_run_in_miniature(tmp_path, unlearnkit):
    recipe = load(CIFAR, discover()).recipe
    inside = Path(shutil.copytree(CIFAR.parent, tmp_path / "papers"))
    plan = describe(recipe, inside)
    assert recipe.name == CIFAR.stem
    assert {text.split(":")[0] for text in plan["missing"]} >= {"data.source.root", "model.weights"}
    assert plan["sets"]["forget"] == {"train": 5_000, "validation": 1_000}
    assert plan["sets"]["retain"] == {"train": 45_000, "validation": 9_000}
    shutil.copytree(FOLDER / "pretrain", tmp_path / "pretrain")
    batches, generator = tmp_path / "data" / "cifar-10-batches-bin", np.random.default_rng(0)
    batches.mkdir(parents=True)
    names = [*recipe.data.forget.classes, *recipe.data.retain.classes]
    (batches / "batches.meta.txt").write_text("\n".join(names))
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        rows = generator.integers(0, 256, (10, 3073), dtype=np.uint8)
        rows[:, 0] = range(10)
        rows.tofile(batches / f"{name}.bin")
    said = " ".join(line[2:] for line in CIFAR.read_text().splitlines() if line.startswith("# "))
    words = shlex.split(re.search(r"unlearnkit (pretrain .+?=78000)", said)[1])
    sizes = "data.per_class={train: 4, validation: 1}", "model.channels=[4, 4]", "model.latent_channels=2"
    few = [word for one in sizes for word in ("--set", one)]
    trained = unlearnkit(*words, *few, "--set", "pretrain.steps=3", cwd=inside)
    assert trained.code == 0, trained.err
    run = ran(
        inside / CIFAR.name, tmp_path / "run", *sizes, "seeds=null", "epsilons={fractions: [0.5]}",
        "training={steps: 8, batch_size: 4, checks: 1, device: cpu, optimizer: {kind: adamw, lr: 0.003}}",
        "compare=[{kind: retrain}, {kind: decoupling}]", "evaluate.metrics=[{kind: psnr}]",
    )  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    assert [row["id"].partition("-")[0] for row in results["solutions"][-2:]] == ["retrain", "decoupling"]
    for audit in results["audits"]:
        assert isinstance(audit["solutions"][results["solutions"][-1]["id"]][next(iter(audit["figures"]))], float)


@pytest.mark.parametrize("folder", WEIGHTS, ids=lambda folder: folder.name)
def test_shipped_weights_are_those_of_their_recipe(folder):
    facts = json.loads((folder / "model.json").read_text())
    recipe = load(FOLDER / "pretrain" / f"{folder.name}.yaml", discover()).recipe
    assert type(recipe).model_validate_json(json.dumps(facts["recipe"])) == recipe
    assert max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8e6
    assert {name: sha256(folder / name) for name in facts["sha256"]} == facts["sha256"]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_weights_fill_in(folder):
    facts, weights = json.loads((folder / "model.json").read_text()), resolve(str(folder), FOLDER)
    recipe = load(FOLDER / "pretrain" / f"{folder.name}.yaml", discover()).recipe
    classes = recipe.data.classes or sorted(recipe.data.source.open(FOLDER).labels)
    chosen = choose("sample", recipe.data.source.open(FOLDER), classes, recipe.data.per_class, recipe.seed)
    adapter = recipe.model.build(weights)
    images = Pixels(chosen.source, chosen.validation, adapter.image_size, torch.device("cpu"))
    found = quality(adapter, recipe.tasks[0].build(), images)
    assert abs(found["validation_psnr"] - facts["figures"]["validation_psnr"]) < 0.1
    assert found["validation_psnr"] > found["mean_colour_psnr"] + 2
