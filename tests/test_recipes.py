"""Committed recipes validate, their models are built in the sizes they name, and shipped weights are theirs."""

import json
from pathlib import Path

import pytest
import torch

from unlearnkit.contracts import shared
from unlearnkit.data import Pixels, choose
from unlearnkit.disk import sha256
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run.plan import describe
from unlearnkit.run.pretrain import quality
from unlearnkit.weights import resolve

FOLDER = Path(__file__).parents[1] / "recipes"
PAPERS = sorted((FOLDER / "papers").glob("*.yaml"))
RECIPES = sorted(set(FOLDER.rglob("*.yaml")) - set(PAPERS))
WEIGHTS = sorted(path.parent for path in FOLDER.glob("weights/*/model.json"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_committed_recipe_validates_and_its_model_is_built(path):
    recipe = load(path, discover()).recipe
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
    drawn, counts = recipe.data.forget.draw, recipe.data.per_class
    for name in ("forget", "retain"):
        assert plan["sets"][name] == {"train": drawn * counts.train, "validation": drawn * counts.validation}
    assert plan["steps"] == len(plan["problems"]) * plan["steps_each"]
    assert plan["memory_mib"]["activations"] > plan["memory_mib"]["images"] / 100


@pytest.mark.parametrize("folder", WEIGHTS, ids=lambda folder: folder.name)
def test_shipped_weights_are_those_of_their_recipe_and_fill_in(folder):
    facts = json.loads((folder / "model.json").read_text())
    recipe = load(FOLDER / "pretrain" / f"{folder.name}.yaml", discover()).recipe
    assert type(recipe).model_validate_json(json.dumps(facts["recipe"])) == recipe
    assert max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8e6
    weights = resolve(str(folder), FOLDER)
    assert {name: sha256(folder / name) for name in facts["sha256"]} == facts["sha256"]
    classes = recipe.data.classes or sorted(recipe.data.source.open(FOLDER).labels)
    chosen = choose("sample", recipe.data.source.open(FOLDER), classes, recipe.data.per_class, recipe.seed)
    adapter = recipe.model.build(weights)
    images = Pixels(chosen.source, chosen.validation, adapter.image_size, torch.device("cpu"))
    found = quality(adapter, recipe.tasks[0].build(), images)
    assert abs(found["validation_psnr"] - facts["figures"]["validation_psnr"]) < 0.1
    assert found["validation_psnr"] > found["mean_colour_psnr"] + 2
