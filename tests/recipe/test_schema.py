"""Laws of the schema: it is draft-07, takes what validation takes, and refuses every misspelt key."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from unlearnkit.plugins import Plugins
from unlearnkit.recipe.pretraining import PretrainRecipe
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.schema import schema, text
from unlearnkit.recipe.validate import load, recipe_class


@pytest.fixture(params=["recipe", "pretrain"])
def case(request: pytest.FixtureRequest, plugins: Plugins, good: str, pretrain: str) -> tuple[Any, dict[str, Any]]:
    """Return a schema and the data of a valid recipe of its sort."""
    sort, written = (Recipe, good) if request.param == "recipe" else (PretrainRecipe, pretrain)
    return schema(recipe_class(sort, plugins)), yaml.safe_load(written.replace("1e-4", "1.0e-4"))


def mappings(data: Any) -> Iterator[dict[str, Any]]:
    """Return every mapping in `data`."""
    parts = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    if isinstance(data, dict):
        yield data
    for part in parts:
        yield from mappings(part)


def valid(made: dict[str, Any], data: object) -> bool:
    """Return whether a draft-07 validator accepts `data`."""
    return bool(jsonschema.Draft7Validator(made).is_valid(data))


def test_schema_is_draft_7_and_accepts_a_good_recipe(case: tuple[Any, dict[str, Any]]) -> None:
    made, data = case
    jsonschema.Draft7Validator.check_schema(made)
    jsonschema.Draft7Validator(made).validate(data)
    later = {"$defs", "prefixItems", "unevaluatedProperties", "dependentRequired", "discriminator"}
    assert not later & {keyword for mapping in mappings(made) for keyword in mapping}
    assert all(set(mapping) == {"$ref"} for mapping in mappings(made) if "$ref" in mapping)


def test_schema_refuses_every_misspelt_or_added_key(case: tuple[Any, dict[str, Any]]) -> None:
    made, data = case
    count = 0
    for mapping in mappings(data):
        for key in list(mapping):
            mapping[f"{key}x"] = mapping.pop(key)
            assert not valid(made, data), key
            mapping[key] = mapping.pop(f"{key}x")
            count += 1
    assert valid(made, data)
    assert count > 10


def test_schema_wants_a_known_kind_wherever_there_is_one(case: tuple[Any, dict[str, Any]]) -> None:
    made, data = case
    tagged = [mapping for mapping in mappings(data) if "kind" in mapping]
    for mapping in tagged:
        kind = mapping.pop("kind")
        assert not valid(made, data), kind
        mapping["kind"] = f"{kind}-x"
        assert not valid(made, data), kind
        mapping["kind"] = kind
    assert len(tagged) >= 4


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.95, 0.99], [0.9, 1], [0.9, "x"]])
def test_a_pair_is_a_pair(plugins: Plugins, good: str, betas: list[Any]) -> None:
    data = yaml.safe_load(good.replace("1e-4", "1.0e-4"))
    data["training"]["optimizer"]["betas"] = betas
    assert not valid(schema(recipe_class(Recipe, plugins)), data)


def test_resolved_recipe_fits_the_schema(plugins: Plugins, good: str, tmp_path: Any) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(good)
    jsonschema.Draft7Validator(schema(recipe_class(Recipe, plugins))).validate(load(path, plugins).resolved)


def test_descriptions_reach_the_schema_beside_references(plugins: Plugins) -> None:
    made = schema(recipe_class(Recipe, plugins))
    assert made["properties"]["data"]["description"] == Recipe.model_fields["data"].description
    assert made["properties"]["data"]["allOf"] == [{"$ref": "#/definitions/Data"}]


def test_text_is_stable_and_ends_a_line(plugins: Plugins) -> None:
    cls = recipe_class(Recipe, plugins)
    assert text(cls) == text(cls)
    assert text(cls).endswith("}\n")
    assert json.loads(text(cls)) == schema(cls)
    assert next(iter(json.loads(text(cls)))) == "$schema"
    fields = list(json.loads(text(cls))["properties"])
    assert fields == list(Recipe.model_fields)
