"""What travels with the project: its licence, its split, and a model that inpaints as documented."""

import json
import re
from pathlib import Path

import pytest
import torch

from unlearnkit.builtin.data.sections import Sample
from unlearnkit.data import Pixels, choose
from unlearnkit.disk import sha256
from unlearnkit.plugins import discover
from unlearnkit.recipe.data import PerClass
from unlearnkit.recipe.validate import load
from unlearnkit.run.pretrain import quality
from unlearnkit.testing.checks import check_data
from unlearnkit.weights import resolve

ROOT = Path(__file__).parents[1]


SAMPLES = [("objects-64", 12, 64), ("objects-128", 4, 128), ("edges-64", 4, 64)]


@pytest.mark.parametrize(("name", "classes", "side"), SAMPLES)
def test_a_sample_is_small_licensed_and_split(name, classes, side):
    section = Sample(kind="sample", name=name)
    check_data(section, Path(), side)
    source = section.open(Path())
    assert len(source.labels) == classes
    assert source.paired == (name == "edges-64")
    assert {source.side(item) for item in source.items[::50]} == {side}
    assert source.describe()["licence"] == "CC BY 4.0"
    splits = {
        part: {item.key.partition("/")[2] for item in source.items if item.split == part}
        for part in ("train", "validation")
    }
    assert splits["train"]
    assert splits["validation"]
    assert not splits["train"] & splits["validation"]
    whole = {item.key for item in Sample(kind="sample").open(Path()).items}
    assert {item.key for item in source.items} <= whole, "the split is the same"
    folder = ROOT / "unlearnkit" / "samples"
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) < 25e6
    assert max(sizes) < 8e6


@pytest.mark.parametrize("name", ["mae-64", "inpaint-64"])
def test_a_shipped_model_is_the_one_its_facts_describe_and_inpaints(name):
    facts = json.loads((ROOT / "unlearnkit" / "samples" / name / "model.json").read_text())
    weights = resolve(f"sample:{name}", Path())
    assert {weights.name: sha256(weights)} == facts["sha256"]
    loaded = load(ROOT / "recipes" / "pretrain" / f"{name}.yaml", discover())
    recipe = loaded.recipe
    # Fields that a later version added have the values they had without them.
    assert type(recipe).model_validate_json(json.dumps(facts["recipe"])) == recipe
    source = recipe.data.source.open(Path())
    chosen = choose("sample", source, recipe.data.classes or sorted(source.labels), PerClass(), recipe.seed)
    images = Pixels(source, chosen.validation, 64, torch.device("cpu"))
    found = quality(recipe.model.build(weights), recipe.tasks[0].build(), images)
    assert abs(found["validation_psnr"] - facts["figures"]["validation_psnr"]) < 0.05
    assert found["validation_psnr"] > found["mean_colour_psnr"] + 3
    documented = (ROOT / "docs" / "sample-model.md").read_text()
    row = re.search(rf"\| all \| {len(images)} \| ([\d.]+) \| ([\d.]+) \|", documented)
    assert row is not None
    assert f"{facts['figures']['validation_psnr']:.2f}" == row[1]
    assert f"{facts['figures']['mean_colour_psnr']:.2f}" == row[2]
