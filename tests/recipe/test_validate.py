"""Laws of validation: every mistake is one problem, at its place, whatever else is wrong."""

import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pluggy
import pytest
from pydantic import BaseModel

from unlearnkit.errors import Exit
from unlearnkit.plugins import Plugin, Plugins
from unlearnkit.recipe.explain import PATTERNS
from unlearnkit.recipe.pretraining import PretrainRecipe
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import Section
from unlearnkit.recipe.source import RecipeError
from unlearnkit.recipe.validate import Loaded, load, recipe_class

Check = Callable[..., Loaded]

# A piece of the good recipe, that piece with a mistake and a mark where its problem has to be, and words of it.
MISTAKES = [
    ("name: forget-faces", "name: ¤Forget Faces", "lower-case letters"),
    ("seed: 0", "seed: ¤'0'", "remove the quotes"),
    ("seed: 0", "seed: ¤-1", "at least 0, got the number -1"),
    ("seed: 0", "seed: ¤18446744073709551616", "below 18446744073709551616, got the number 18446744073709551616"),
    ("model:\n  kind: tiny", "model:\n  kind: ¤tinny", "did you mean 'tiny'? (the kinds are mae, tiny)"),
    ("weights: sample:mae-64", "weights: ¤64", "put it in quotes"),
    ("train: encoder", "train: ¤encodr", "did you mean 'encoder'?"),
    ("width: [8, 16]", "width: [8, ¤wide]", "expected a whole number, got the text 'wide'"),
    ("width: [8, 16]", "width: ¤wide", "expected a whole number or a list, got the text 'wide'"),
    ("resolution: 64", "¤resoluton: 64", "did you mean 'resolution'?"),
    ("{kind: sample, name: objects-64}", "{kind: ¤sampel, name: objects-64}", "did you mean 'sample'?"),
    ("{kind: sample, name: objects-64}", "¤{kind: sample}", "data.source.name: missing; add it here. Which one."),
    ("{kind: sample, name: objects-64}", "{kind: sample, ¤nmae: objects-64}", "did you mean 'name'?"),
    ("classes: [faces]", "¤clases: [faces]", "did you mean 'classes'?"),
    ("control:\n", "¤contol:\n", "did you mean 'control'?"),
    ("training:\n", "¤trainig:\n", "did you mean 'training'?"),
    ("- watch", "- ¤faces", "'faces' is also in data.forget.classes"),
    ("- airplanes", "- airplanes\n      - ¤airplanes", "'airplanes' is already entry [0]"),
    ("{train: 100,", "{train: ¤0,", "expected a number of at least 1"),
    ("task: {kind: center-crop, ratio: 0.5}", "task: ¤{ratio: 0.5}", "missing; the kinds are center-crop, random-mask"),
    ("task: {kind: center-crop, ratio: 0.5}", "task: {kind: ¤3}", "expected a kind, got the number 3"),
    ("forget: {kind: noise-embedding}", "forget: ¤noise-embedding", "expected a mapping with a kind"),
    ("retain: {kind: reference-embedding}", "retain: {¤knd: reference-embedding}", "did you mean 'kind'?"),
    ("alpha: 5, delta: 2", "alpha: 5, delta: ¤-2", "expected a number above 0, got the number -2"),
    ("beta: 5", "beta: ¤&anchor 5", "anchors are not allowed"),
    ("multiplier: {kind: averaged}", "multiplier: {kind: ¤!!str averaged}", "tags are not allowed"),
    ("multiplier: {kind: averaged}", "multiplier: {¤<<: *defaults}", "merges are not allowed"),
    ("fractions: [0, 0.25, 0.5]", "fractions: [0, 0.25, ¤.250, 0.5]", "0.25 is already entry [1]"),
    ("fractions: [0, 0.25, 0.5]", "fractions: [0]\n  ¤values: [1]", "give fractions or values, not both"),
    ("epsilons:\n  fractions: [0, 0.25, 0.5]", "epsilons: ¤{}", "give fractions or values, or leave"),
    ("epsilon:\n    kind: constraint-gap\n    beta: 5\n  multiplier: {kind: averaged}\nsweep: {kind: independent}",
     "epsilon:\n    ¤kind: constraint-gap\n    beta: 5\n  multiplier: {kind: averaged}", "a curve does not use it"),
    ("lr: 1e-4", "lr: ¤1e-4x", "expected a number, got the text '1e-4x'"),
    ("betas: [0.9, 0.95]", "betas: ¤[0.9]", "expected 2 entries, got 1"),
    ("batch_size: 32", "batch_size: 32\n  ¤batch_size: 64", "duplicate key 'batch_size'; the first is at"),
    ("epochs: 8", "epochs: 8\n  ¤steps: 100", "give steps or epochs, not both"),
    ("precision: bf16", "precision: ¤bf-16", "did you mean 'bf16'?"),
    ("device: cuda", "device: ¤gpu", "a numbered device"),
    ("{kind: composite, alpha: 0.25}", "{kind: composite, alpha: ¤.inf}", "expected a finite number"),
    ("- kind: max-loss", "- kind: ¤*other", "aliases are not allowed"),
    ("evaluate:\n", "¤evalute: 1\nevaluate:\n", "did you mean 'evaluate'?"),
    ("{kind: ssim}", "{kind: ssim, ¤window: 3}", "the keys here are kind"),
    ("images: 8", "images: ¤800", "expected a number of at most 64"),
    ("images: 8", "images: 8\n  ¤1: 2", "a key has to be a text"),
]  # fmt: skip


@pytest.fixture
def check(tmp_path: Path, plugins: Plugins) -> Check:
    """Return a function that loads a text."""

    def load_text(text: str, *overrides: str, plugins: Plugins = plugins) -> Loaded:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, plugins, overrides)

    return load_text


def refused(check: Check, text: str, *overrides: str, **options: Plugins) -> RecipeError:
    """Return the error of a recipe that has to be refused."""
    with pytest.raises(RecipeError) as caught:
        check(text, *overrides, **options)
    return caught.value


def unmarked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return `text` without its marks, and the line and column of each."""
    places = [
        (number, mark.start() + 1 - earlier)
        for number, line in enumerate(text.split("\n"), start=1)
        for earlier, mark in enumerate(re.finditer("¤", line))
    ]
    return text.replace("¤", ""), places


def spoilt(good: str, mistakes: list[tuple[str, str, str]], count: int) -> tuple[str, list[str]]:
    """Return the good recipe with `count` of the mistakes, and the words of each."""
    said: list[str] = []
    for before, after, words in mistakes:
        if before in good and len(said) < count:
            good = good.replace(before, after or "", 1)
            if not after:  # a missing key is reported where its mapping starts
                good = good.replace("\nseed:", "\n¤seed:", 1)
            said.append(words)
    assert len(said) == count
    return good, said


def assert_exactly(error: RecipeError, places: list[tuple[int, int]], words: list[str]) -> None:
    """Assert one problem at each place, and the words of each in one of them."""
    assert [(problem.line, problem.column) for problem in error.problems] == sorted(places), str(error)
    for said in words:
        assert sum(said in str(problem).split("\n")[0] for problem in error.problems) >= 1, (said, str(error))


@pytest.mark.parametrize("mistake", MISTAKES, ids=[words for _, _, words in MISTAKES])
def test_one_mistake_is_one_problem(check: Check, good: str, mistake: tuple[str, str, str]) -> None:
    text, places = unmarked(spoilt(good, [mistake], 1)[0])
    error = refused(check, text)
    assert_exactly(error, places, [mistake[2]])
    assert error.code == Exit.RECIPE
    assert str(error).endswith("\n1 problem")


@pytest.mark.parametrize("count", range(2, 11))
def test_no_mistake_hides_or_doubles_another(check: Check, good: str, count: int) -> None:
    for seed in range(20):
        mistakes = random.Random(f"{count} {seed}").sample(MISTAKES, len(MISTAKES))
        marked, words = spoilt(good, mistakes, count)
        text, places = unmarked(marked)
        assert_exactly(refused(check, text), places, words)


def test_a_guessed_kind_is_not_held_against_the_keys_of_another(check: Check, good: str) -> None:
    text, places = unmarked(good.replace("kind: tiny", "kind: ¤tiny-vq\n  codebook: 64\n  train: ¤most"))
    text = text.replace("  train: encoder\n", "")
    assert_exactly(refused(check, text), places, ["unknown kind 'tiny-vq'", "expected 'encoder', 'all' or 'lora'"])


def test_problem_reads_like_a_compilers(check: Check, good: str, tmp_path: Path) -> None:
    error = refused(check, good.replace("resolution", "resoluton"))
    assert str(error) == (
        f"{tmp_path}/recipe.yaml:9:3: model.resoluton: unknown key; did you mean 'resolution'?\n"
        "      resoluton: 64\n"
        "      ^\n"
        "1 problem"
    )


def test_a_good_recipe_resolves_to_itself_with_every_default(check: Check, good: str) -> None:
    loaded = check(good)
    assert isinstance(loaded.recipe, Recipe)
    assert loaded.resolved["training"]["optimizer"] == {
        "kind": "adamw", "lr": 1e-4, "betas": [0.9, 0.95], "weight_decay": 0.0,
    }  # fmt: skip
    again = type(loaded.recipe).model_validate_json(loaded.recipe.model_dump_json())
    assert again == loaded.recipe


def test_what_may_be_left_out_may_be_left_out(check: Check, good: str) -> None:
    needed = "name: a\nmodel: {kind: mae}\ndata:" + good.split("data:")[1].split("task:")[0]
    assert set(check(needed).resolved) == set(check(good).resolved)


def test_the_key_pretrain_makes_a_pretrain_recipe(check: Check, pretrain: str) -> None:
    assert isinstance(check(pretrain).recipe, PretrainRecipe)
    text, places = unmarked(
        pretrain.replace("[faces, watch]", "[faces, ¤faces]").replace("true", "¤yes").replace("steps: 10", "¤step: 10")
    )
    assert_exactly(refused(check, text), places, ["already entry", "expected true or false", "did you mean 'steps'?"])


def test_classes_may_overlap_where_the_sources_differ(check: Check, good: str) -> None:
    other = good.replace("- watch", "- faces\n    source: {kind: image-folder, path: proxies}")
    assert check(other).resolved["data"]["retain"]["source"] == {"kind": "image-folder", "path": "proxies"}
    same = good.replace("- watch", "- faces\n    source: {kind: sample, name: objects-64}")
    assert "also in data.forget.classes" in str(refused(check, same))


def test_null_withdraws_an_alternative(check: Check, good: str) -> None:
    assert check(good, "training.steps=5", "training.epochs=null").resolved["training"]["steps"] == 5


def test_a_sections_own_check_keeps_its_words(check: Check, good: str) -> None:
    text, places = unmarked(good.replace("model:\n  kind", "model:\n  ¤kind").replace(": 64\n", ": 63\n", 1))
    (problem,) = refused(check, text).problems
    assert (problem.line, problem.column) == places[0]
    assert (problem.path, problem.message) == ("model", "stride (8) must divide resolution (63)")


def test_an_unknown_kind_names_the_broken_plugin(check: Check, good: str, broken_plugins: Plugins) -> None:
    text = good.replace("kind: tiny", "kind: vq-gan")
    error = refused(check, text, plugins=broken_plugins)
    hint = "(the plugin 'diffusers' of package unlearnkit-diffusers failed to load: run `unlearnkit plugins`)"
    assert hint in error.problems[0].message
    assert error.code == Exit.PLUGIN
    assert refused(check, text.replace("seed: 0", "seed: x"), plugins=broken_plugins).code == Exit.RECIPE
    optimizer = refused(check, good.replace("kind: adamw", "kind: adam"), plugins=broken_plugins)
    assert optimizer.code == Exit.RECIPE
    assert "plugin" not in str(optimizer)
    assert check(good, plugins=broken_plugins)


def test_without_any_plugin_no_kind_is_known(check: Check, good: str) -> None:
    error = refused(check, good, plugins=Plugins([], pluggy.PluginManager("unlearnkit")))
    assert {problem.path.removesuffix(".kind") for problem in error.problems} == {
        "model", "data.source", "task", "forget", "retain", "control.boundary", "control.epsilon",
        "control.multiplier", "compare[0]", "compare[1]", "evaluate.metrics[0]", "evaluate.metrics[1]",
    }  # fmt: skip


def test_a_kind_that_is_alone_in_its_section_behaves_as_one_of_many(check: Check, good: str, plugins: Plugins) -> None:
    for kind in ("tiny", "random-mask", "max-loss"):
        sections = [cls for cls in plugins.all[0].sections if get_args(cls.model_fields["kind"].annotation)[0] != kind]
        fewer = Plugins([Plugin("test", "test-package", "1", sections)], pluggy.PluginManager("unlearnkit"))
        text = good.replace("kind: center-crop", "kind: random-mask")
        error = refused(check, text, plugins=fewer)
        assert any(f"unknown kind '{kind}'" in problem.message for problem in error.problems) or kind != "tiny"
        assert len({problem.path for problem in error.problems}) == len(error.problems)


def mutated(text: str, rng: random.Random) -> bytes:
    """Return `text` with a few bytes, lines or tokens changed."""
    for _ in range(rng.randint(1, 3)):
        sort = rng.randrange(3)
        if sort == 0:
            raw = bytearray(text.encode(errors="surrogateescape"))
            at = rng.randrange(len(raw) + 1)
            raw[at : at + rng.randint(0, 2)] = rng.choice([b"", b":", b"[", b"}", b"\t", b"\xff", b"\0", b"'", b"#"])
            text = raw.decode(errors="surrogateescape")
        elif sort == 1:
            lines = text.split("\n")
            at = rng.randrange(len(lines))
            other = rng.choice(lines)
            lines[at : at + 1] = rng.choice([[], [lines[at]] * 2, [" " * rng.randint(1, 4) + lines[at]], [other]])
            text = "\n".join(lines)
        else:
            tokens = re.split(r"(\W+)", text)
            tokens[rng.randrange(len(tokens))] = rng.choice(TOKENS)
            text = "".join(tokens)
    return text.encode(errors="surrogateescape")


TOKENS = [
    "null", "true", "[]", "{}", "-1", "1e400", ".nan", "9" * 50, "9" * 5000, "&a 1", "*a", "!!int 3", "? ",
    "<<: {a: 1}", "'", '"\\ud800"', '"\\UFFFFFFFF"', "- " * 30, "[" * 30, "{a: " * 30, "\u2028", "é", "|", ">-",
    "%", "@", "kind", "kind: ", "\n---\n", "\n...\n", "model: ", "0x", "1_000", "data", "[kind]",
    "{kind: {kind: tiny}}", "",
]  # fmt: skip


def test_no_text_raises_anything_but_a_recipe_error(plugins: Plugins, pretrain: str, tmp_path: Path) -> None:
    short = (
        "name: a\nmodel: {kind: tiny, width: [8]}\ndata:\n  source: {kind: sample, name: x}\n  forget: {classes: [a]}\n"
        "  retain:\n    classes: [b]\nepsilons: {fractions: [0, 1]}\ntraining: {optimizer: {kind: sgd, lr: 1e-4}}\n"
    )
    path = tmp_path / "recipe.yaml"
    refusals = []
    for seed in range(2000):
        rng = random.Random(seed)
        path.write_bytes(mutated(pretrain if seed % 4 == 0 else short, rng))
        override = mutated("training.optimizer={kind: sgd, lr: 1}", rng).decode(errors="surrogateescape")
        try:
            load(path, plugins, [override] if seed % 4 == 1 else [])
        except RecipeError as error:
            refusals.append(error)
    for refusal in refusals:
        assert refusal.problems
        assert all(problem.message and problem.line >= 1 and problem.column >= 1 for problem in refusal.problems)
        assert len(set(refusal.problems)) == len(refusal.problems), str(refusal)
        str(refusal).encode()
    assert 1000 < len(refusals) < 1950


def test_every_pattern_of_the_core_has_words() -> None:
    def patterns(annotation: Any) -> set[str]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found = {
                getattr(part, "pattern", None) for info in annotation.model_fields.values() for part in info.metadata
            }
            nested = [patterns(info.annotation) for info in annotation.model_fields.values()]
            return {str(pattern) for pattern in found - {None}}.union(*nested)
        return set[str]().union(*map(patterns, get_args(annotation)))

    assert patterns(Recipe) | patterns(PretrainRecipe) == set(PATTERNS)


def sections_of(value: Any) -> list[Section]:
    """Return all sections in a value, itself among them."""
    match value:
        case Section():
            return [value, *(found for _, part in value for found in sections_of(part))]
        case list():
            return [found for part in value for found in sections_of(part)]
        case _:
            return []


def test_every_section_that_builds_knows_the_recipes_folder(
    plugins: Plugins, good: str, pretrain: str, tmp_path: Path
) -> None:
    """Those that the recipe leaves out too, and wherever its text lies."""
    path = tmp_path / "recipe.yaml"
    short = re.sub(r"(?ms)^(control|training|task|forget|retain):.*?(?=^\w)", "", good)
    for text, count in ((good, 12), (short, 12), (pretrain, 4)):
        path.write_text(text)
        for folder, wanted in ((None, tmp_path), (tmp_path / "elsewhere", tmp_path / "elsewhere")):
            found = sections_of(load(path, plugins, folder=folder).recipe)
            built = [one for one in found if hasattr(one, "build") or hasattr(one, "open")]
            assert len(built) == count
            assert {one.folder for one in built} == {wanted}


def test_validation_imports_no_torch() -> None:
    program = (
        "import sys, unlearnkit.recipe.validate, unlearnkit.recipe.schema;"
        "sys.exit(', '.join({'torch', 'torchvision', 'numpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_recipe_class_is_assembled_once(plugins: Plugins) -> None:
    assert recipe_class(Recipe, plugins) is recipe_class(Recipe, plugins)
    assert recipe_class(Recipe, plugins) is not Recipe
