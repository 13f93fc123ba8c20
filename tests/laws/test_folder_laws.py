"""Every section of a recipe knows the recipe's folder, where relative paths start."""

from pathlib import Path

import pytest

from unlearnkit.builtin.data.sections import ImageFolder
from unlearnkit.builtin.extractors.sections import MobileNetV2
from unlearnkit.builtin.metrics.sections import HiddenPSNR
from unlearnkit.plugins import discover
from unlearnkit.recipe.sections import Section
from unlearnkit.recipe.validate import load

WRITTEN = [
    "data.source={kind: poisoned, source: {kind: image-folder, root: pictures}}",
    "forget={kind: target-embedding, target: {kind: noise}}",
    "compare=[{kind: composite, target: {kind: blurred}}]",
    "evaluate.metrics=[{kind: hidden-psnr}, {kind: kid, extractor: {kind: mobilenet-v2}}]",
    "evaluate.audits=[{kind: fresh-decoder, steps: 2, optimizer: {kind: adamw}}]",
]


def sections(value):
    """Yield a section and all that are in it."""
    if isinstance(value, Section):
        yield value
        for _, field in value:
            yield from sections(field)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from sections(entry)


def test_a_section_sees_the_recipes_folder_wherever_it_stands(tiny, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    recipe = load(tiny, discover(installed=False), WRITTEN).recipe
    nested = [recipe.data.source.source, recipe.forget.target, recipe.compare[0].target]
    nested += [recipe.evaluate.metrics[1].extractor, recipe.evaluate.audits[0].optimizer]
    for section in (recipe.model, recipe.task, recipe.retain, recipe.control.epsilon, *nested):
        assert section.folder == tiny.parent
        assert section.model_copy().folder == tiny.parent


def test_a_section_that_is_left_out_of_a_recipe_sees_its_folder_too(tiny):
    recipe = load(tiny, discover(installed=False), ["evaluate.audits=[{kind: copy-similarity}]"]).recipe
    assert isinstance(recipe.evaluate.audits[0].extractor, MobileNetV2)
    assert {section.folder for part in dict(recipe).values() for section in sections(part)} == {tiny.parent}


def test_a_section_that_no_recipe_made_starts_where_one_works():
    assert ImageFolder(kind="image-folder", root="x").folder == Path()


def test_a_folder_is_no_part_of_what_a_section_says(tiny):
    recipe = load(tiny, discover(installed=False)).recipe
    again = type(recipe).model_validate_json(recipe.model_dump_json())
    assert again.data.source.folder == Path()
    assert again == recipe
    assert again.data.source == recipe.data.source
    assert str(tiny.parent) not in recipe.model_dump_json()


@pytest.mark.parametrize("seeds", ["null", "[3, 4]"])
def test_a_resumed_run_has_the_folder_of_the_recipe_it_began_with(tiny, monkeypatch, unlearnkit, tmp_path, seeds):
    told, build = [], HiddenPSNR.build

    def building(self, base, device):
        told.append((self.folder.resolve(), base.resolve()))
        return build(self, base, device)

    monkeypatch.setattr(HiddenPSNR, "build", building)
    (tmp_path / "elsewhere").mkdir()
    short = [part for change in ("training.steps=2", f"seeds={seeds}") for part in ("--set", change)]
    unlearnkit("run", tiny.name, "--to", "runs/run", *short, cwd=tiny.parent).succeeded()
    run = tiny.parent / "runs" / "run"
    count = len(told)
    assert count == (1 if seeds == "null" else 2)
    change = ("--set", "evaluate.images=2")
    unlearnkit("resume", run, *change, cwd=tmp_path / "elsewhere").succeeded()
    assert len(told) == 2 * count
    assert {place for pair in told for place in pair} == {tiny.parent.resolve()}
