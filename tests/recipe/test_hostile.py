"""A recipe of a MiB of anything is refused after little work, in a message for people; a long honest one is read."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from unlearnkit.plugins import discover
from unlearnkit.recipe.problem import MAX_PROBLEMS
from unlearnkit.recipe.source import MAX_EVENTS, RecipeError, read
from unlearnkit.recipe.validate import Loaded, load

MIB = 2**20
GOOD = """\
model: {kind: vit-mae}
data:
  source: {kind: image-folder, root: pictures}
  forget: {classes: [red]}
  retain: {classes: [blue]}
"""
ENTRIES = 190_000


def classes(*names: object) -> str:
    return GOOD.replace("red", ", ".join(map(str, names)))


HOSTILE = {
    "keys": GOOD + "".join(f"k{number}: 1\n" for number in range(100_000)),
    "keys on one line": "{" + ", ".join(f"k{number}: 1" for number in range(80_000)) + "}",
    "one key": "a: 1\n" * (MIB // 5),
    "keys without values": "a: {" + "b," * (MIB // 2 - 10) + "}",
    "keys that are numbers": "{" + ", ".join(map(str, range(100_000))) + "}",
    "keys of a mapping each": "? {a: 1}\n: 2\n" * (MIB // 13),
    "long keys": GOOD + "".join(f"{'x' * 900}{number}: 1\n" for number in range(1000)),
    "a long key": GOOD + f"? {'x' * 900_000}\n: 1\n",
    "brackets": "[" * MIB,
    "braces": "{a: " * (MIB // 4),
    "dashes": "- " * (MIB // 2),
    "entries": GOOD + "compare: [" + "1, " * ENTRIES + "]",
    "classes": classes(*["red"] * ENTRIES),
    "classes twice": classes(*["red"] * 9000),
    "classes in both": classes(*(f"c{number}" for number in range(9000))).replace(
        "[blue]", f"[{', '.join(f'c{number}' for number in range(9000))}]"
    ),
    "numbers as classes": classes(*[1] * 15_000),
    "mappings as classes": classes(*["{}"] * 15_000),
    "a text": GOOD + "name: " + "x" * 1_000_000,
    "words": GOOD + "name: " + "x " * 500_000,
    "quotes": GOOD + "name: '" + "''" * 500_000 + "'",
    "lines": GOOD + "name: |\n" + "  x\n" * 250_000,
    "digits": GOOD + "seed: " + "9" * 1_000_000,
    "a kind": GOOD + "task: {kind: " + "center-crop" * 90_000 + "}",
    "anchors": "".join(f"k{number}: &a{number} 1\n" for number in range(60_000)),
    "a long anchor": "a: &" + "a" * 1_000_000 + " 1",
    "aliases": "a: [" + "*a, " * (MIB // 4 - 10) + "]",
    "tags": "a: [" + "!!str 1, " * 100_000 + "]",
    "a long tag": "a: !" + "a" * 1_000_000 + " 1",
    "merges": "<<: 1\n" * (MIB // 6),
    "documents": "---\n" * (MIB // 4),
    "unknown keys": GOOD + "".join(f"x{number}: 1\n" for number in range(15_000)),
    "misspelt keys": GOOD + "training:\n" + "".join(f"  batch_siz{number}: 1\n" for number in range(15_000)),
    "wrong values": GOOD + "epsilons: {fractions: [" + "x, " * 15_000 + "]}",
    "misspelt kinds": GOOD + "compare: [" + "{kind: composit}, " * 9000 + "]",
    "misspelt keys below": GOOD + "compare: [" + "{kind: composite, alhpa: 1}, " * 5000 + "]",
    "no kinds": GOOD + "evaluate: {metrics: [" + "{}, " * 15_000 + "]}",
}

Check = Callable[..., Loaded]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    path, plugins = tmp_path_factory.mktemp("hostile") / "recipe.yaml", discover(installed=False)

    def load_(text: str, *overrides: str) -> Loaded:
        path.write_text(text)
        return load(path, plugins, overrides)

    return load_


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the number of events that were taken from YAML."""
    taken, get = [0], yaml.SafeLoader.get_event

    def count(loader: yaml.SafeLoader) -> yaml.Event:
        taken[0] += 1
        return get(loader)

    monkeypatch.setattr(yaml.SafeLoader, "get_event", count)
    return taken


def refused(check: Check, text: str, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        check(text, *overrides)
    assert str(caught.value).count("\n") < 100
    assert len(str(caught.value)) < 100_000
    assert len(caught.value.problems) <= 2 * MAX_PROBLEMS + 1
    return caught.value


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_after_little_work(check: Check, events: list[int], what: str) -> None:
    refused(check, HOSTILE[what])
    assert events[0] <= MAX_EVENTS + 1


@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_within_two_seconds(check: Check, what: str) -> None:
    began = time.process_time()
    refused(check, HOSTILE[what])
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=1"] * 20_000,
        ["nonsense"] * 100_000,
        ["name=" + "x" * 1_100_000],
        ["name=" + "x " * 500_000],
        ["x" * 1_000_000 + "=1"],
        ["a" + ".a" * 400_000 + "=1"],
        ["data.forget.classes=[" + "x, " * 300_000 + "]"],
        ["a=["] * 20_000,
    ],
    ids=range(8),
)
def test_so_are_overrides(check: Check, events: list[int], overrides: list[str]) -> None:
    refused(check, GOOD, *overrides)
    assert events[0] <= MAX_EVENTS + 1


def test_an_override_forgets_what_it_replaces_and_looks_at_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: [{b: .nan, <<: 1}, 2]\nc: .nan\n")
    found = read(path, ["a=[]", "a[0]=3"])
    assert found.data == {"a": [3], "c": None}
    assert set(found.places) == {(), ("a",), ("a", 0), ("c",)}
    assert found.broken == {("c",)}


def test_ten_thousand_names_in_each_set_are_read(check: Check) -> None:
    one, other = ([f"n{number:08}" for number in range(start, start + 10_000)] for start in (0, 10_000))
    loaded = check(classes(*one).replace("blue", ", ".join(other)))
    assert loaded.recipe.data.forget.classes == one
    assert loaded.recipe.data.retain.classes == other


def test_the_message_says_that_there_are_more(check: Check) -> None:
    few = refused(check, GOOD + "".join(f"x{number}: 1\n" for number in range(40)))
    assert str(few).endswith("\n40 problems; the first 30 are shown")
    assert str(few).count("unknown key") == 30
    many = refused(check, HOSTILE["unknown keys"])
    assert str(many).endswith("1000 problems or more; the first 30 are shown")


def test_a_misspelling_inside_one_is_found_all_the_same(check: Check) -> None:
    error = refused(check, GOOD + "evalute: {metircs: [{kind: featur-distance, extracter: {knd: mobilenet-v2}}]}\n")
    assert [problem.path for problem in error.problems] == [
        "evalute", "evalute.metircs", "evalute.metircs[0].kind", "evalute.metircs[0].extracter",
        "evalute.metircs[0].extracter.knd",
    ]  # fmt: skip
