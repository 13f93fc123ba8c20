"""Every committed recipe validates, and its model is built in the sizes it names."""

from pathlib import Path

import pytest

from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.weights import resolve

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))


def test_there_are_recipes():
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_committed_recipe_validates_and_its_model_is_built(path):
    recipe = load(path, discover()).recipe
    adapter = recipe.model.build(resolve(recipe.model.weights, path.parent))
    assert adapter.shared() == []
    assert path.stem == recipe.name
