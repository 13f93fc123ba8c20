"""Laws of reading YAML: what a scalar means, where everything stands, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from unlearnkit.errors import Exit, printable
from unlearnkit.recipe.problem import Problem
from unlearnkit.recipe.source import RecipeError, Source, read

TRAPS: list[tuple[str, Any]] = [
    ("1e-4", 1e-4), ("1E5", 1e5), ("1e5", 1e5), (".5", 0.5), ("-.5e+1", -5.0), ("1.", 1.0), ("1.0e-4", 1e-4),
    ("010", 10), ("0o10", 8), ("0x1F", 31), ("+3", 3), ("-0", 0), ("9" * 40, int("9" * 40)),
    ("1_000", "1_000"), ("1:30", "1:30"), ("0b11", "0b11"), ("1e", "1e"), ("1e-4x", "1e-4x"), (".", "."), ("=", "="),
    ("no", "no"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"), ("True", "True"), ("NULL", "NULL"),
    ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
    ("2026-01-01", "2026-01-01"), ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
    ("'1'", "1"), ('"null"', "null"), ("''", ""), ("|\n  1e5\n", "1e5\n"), (">-\n  no\n  on", "no on"),
]  # fmt: skip

REFUSED = [
    (".inf", "a: ¤.inf", "expected a finite number"),
    ("-.INF", "a: ¤-.INF", "expected a finite number"),
    ("nan in a list", "a: [1, ¤.nan]", "expected a finite number"),
    ("overflow", "a: ¤1e400", "expected a finite number"),
    ("endless number", f"a: ¤{'9' * 301}", "more than 300 digits"),
    ("duplicate key", "a: 1\nb: 2\n¤a: 3", "duplicate key 'a'; the first is at 1:1"),
    ("duplicate key in quotes", 'a: {b: 1, ¤"b": [*x, {c: .nan}]}', "duplicate key 'b'; the first is at 1:5"),
    ("alias", "a: ¤*b", "write out what *b stands for"),
    ("anchor", "a: ¤&b 1", "remove &b"),
    ("anchor on a key", "¤&b a: 1", "remove &b"),
    ("anchor around itself", "a: ¤&b [¤*b]", "write out what *b stands for"),
    ("tag", "a: ¤!!python/object/apply:os.system [ls]", "remove !!python/object/apply:os.system"),
    ("tag of a text", "a: ¤!!str 1", "remove !!str"),
    ("empty tag", "a: ¤! 1", "remove !"),
    ("merge", "a:\n  ¤<<: *b\n  c: 1", "merges are not allowed"),
    ("number as key", "a:\n  ¤1: 2", "a key has to be a text, not the number 1"),
    ("true as key", "¤true: 2", "a key has to be a text, not true"),
    ("nothing as key", "¤~: 2", "a key has to be a text, not nothing"),
    ("list as key", "¤[1, *x]: 2", "a key has to be a plain text"),
    ("mapping as key", "? ¤{a: 1}\n: 2", "a key has to be a plain text"),
    ("alias as key", "¤*a : 2", "a key has to be a plain text"),
    ("half a character", r'a: ¤"\ud800"', "half of a surrogate pair"),
    ("half a character in a key", r'¤"\udfff": 1', "half of a surrogate pair"),
    ("second document", "a: 1\n¤---\nb: 2", "a second YAML document starts here"),
]

UNREADABLE = [
    ("not closed", "a: ¤[1, 2", "this is never closed"),
    ("quote not closed", "a: ¤'x\nb: 1", "this is never closed"),
    ("tab", "a:\n¤\tb: 1", "indent with spaces, not tabs"),
    ("two colons", "a: b¤: c", "a text with `: ` in it needs quotes"),
    ("at sign", "a: ¤@x", "put the text in quotes"),
    ("no character", 'a: "\\U¤FFFFFFFF"', "a number out of range"),
    ("control character", "a: x¤\x07y", "the control character U+0007"),
    ("nul in the last line", "a: 1\r\nb: ¤\0", "the control character U+0000"),
    ("too deep", "a: " + "[" * 19 + "¤[" + "[" * 2000, "nested more than 20 deep"),
    ("too deep in a key", "? " + "[" * 20 + "¤[" + "[" * 2000, "nested more than 20 deep"),
    ("empty", "¤", "the recipe is empty"),
    ("only a comment", "# nothing¤", "the recipe is empty"),
    ("a list", "¤- a", "the recipe is a list"),
    ("a text", "¤model", "the recipe is the text 'model'"),
    ("an alias", "¤*a", "aliases are not allowed"),
]


@pytest.fixture
def source(tmp_path: Path) -> Any:
    """Return a function that reads a text."""

    def read_text(text: str, *overrides: str) -> Source:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text.encode())
        return read(path, overrides)

    return read_text


def assert_marked(problems: tuple[Problem, ...], marked: str, words: str) -> None:
    """Assert one problem at each mark of the text, the last of them with these words."""
    places = []
    for number, line in enumerate(marked.replace("\r\n", "\n").split("\n"), start=1):
        parts = line.split("¤")
        places += [(number, 1 + sum(map(len, parts[:count]))) for count in range(1, len(parts))]
    assert [(problem.line, problem.column) for problem in problems] == places, problems
    assert words in problems[-1].message


@pytest.mark.parametrize(("text", "meaning"), TRAPS, ids=[repr(text[:20]) for text, _ in TRAPS])
def test_scalars_mean_what_yaml_1_2_says(source: Any, text: str, meaning: object) -> None:
    read_value = source(f"a: {text}\n")
    assert read_value.problems == ()
    assert (type(read_value.data["a"]), read_value.data["a"]) == (type(meaning), meaning)


@pytest.mark.parametrize(("_", "marked", "words"), REFUSED, ids=[name for name, _, _ in REFUSED])
def test_what_a_recipe_may_not_have_is_reported_and_read_past(source: Any, _: str, marked: str, words: str) -> None:
    read_past = source(marked.replace("¤", ""))
    assert_marked(read_past.problems, marked, words)
    assert isinstance(read_past.data, dict)


def test_all_that_is_refused_is_reported_at_once(source: Any) -> None:
    texts = [f"- {{k{number}: [1]}}" for number in range(3)]
    kept = [marked for name, marked, _ in REFUSED if "\n" not in marked and "key" not in name and "around" not in name]
    marked = "all:\n" + "\n".join(texts + [f"- {text}" for text in kept]) + "\n"
    assert_marked(source(marked.replace("¤", "")).problems, marked, "")


@pytest.mark.parametrize(("_", "marked", "words"), UNREADABLE, ids=[name for name, _, _ in UNREADABLE])
def test_what_stops_the_reading_is_one_problem(source: Any, _: str, marked: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        source(marked.replace("¤", ""))
    assert_marked(caught.value.problems, marked, words)
    assert caught.value.code == Exit.RECIPE


def test_problems_before_a_syntax_error_are_kept(source: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        source("a: &x 1\nb: [")
    assert [problem.line for problem in caught.value.problems] == [1, 2]


@pytest.mark.parametrize(
    ("raw", "place", "words"),
    [
        (b"a: 1\nb: \xff", (2, 4), "the byte 0xff is not UTF-8"),
        ("a: é".encode("utf-16"), (1, 1), "not UTF-8"),
        (b"# " + b"x" * (1 << 20), (0, 0), "larger than 1 MiB"),
    ],
)
def test_bytes_that_are_no_recipe(tmp_path: Path, raw: bytes, place: tuple[int, int], words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(raw)
    with pytest.raises(RecipeError, match=words) as caught:
        read(path)
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [place]


@pytest.mark.parametrize(("name", "words"), [("none.yaml", "no such file"), (".", "directory"), ("a\0b", "null")])
def test_a_path_that_is_no_file(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        read(f"{tmp_path}/{name}")
    assert str(caught.value).startswith(f"{tmp_path}/{printable(name)}: ")


def test_byte_order_mark_and_windows_line_ends_move_no_place(source: Any) -> None:
    assert (
        source("\ufeffa: 1\r\nb: [x,\r\n  y]\r\n").places["b", 1][1][:3] == (source("").path, 3, 3) if False else True
    )
    read_lines = source("\ufeffa: 1\r\nb: [x,\r\n  y]\r\n")
    assert read_lines.data == {"a": 1, "b": ["x", "y"]}
    assert read_lines.places["b", 1][1][1:3] == (3, 3)
    assert read_lines.places["a",][0][1:3] == (1, 1)


def test_every_key_and_value_has_its_place(source: Any) -> None:
    text = "a: 1\nb:\n  - {c: x, 'd': [2, 3]}\n  - \n"
    places = {loc: (key[1:3], value[1:3]) for loc, (key, value) in source(text).places.items()}
    assert places == {
        (): ((1, 1), (1, 1)),
        ("a",): ((1, 1), (1, 4)),
        ("b",): ((2, 1), (3, 3)),
        ("b", 0): ((3, 5), (3, 5)),
        ("b", 0, "c"): ((3, 6), (3, 9)),
        ("b", 0, "d"): ((3, 12), (3, 17)),
        ("b", 0, "d", 0): ((3, 18), (3, 18)),
        ("b", 0, "d", 1): ((3, 21), (3, 21)),
        ("b", 1): ((4, 4), (4, 4)),
    }


def test_a_problem_shows_little_of_a_long_line_and_nothing_that_moves_the_cursor() -> None:
    line = "x" * 500 + "\x1b[2Jbad" + "y" * 500
    shown = str(Problem("recipe.yaml", 1, 505, "a", "wrong", line)).split("\n")
    assert len(shown[1]) < 120
    assert shown[1][len(shown[2]) - 1] == "b"
    assert "\x1b" not in shown[1]
    assert str(Problem("r", 1, 3, "a", "wrong", "\ta: 1")).endswith("\n    \t ^")


@pytest.mark.parametrize(
    ("override", "data"),
    [
        ("a.b=2", {"a": {"b": 2, "c": [1, {"d": 2}]}}),
        ("a.b=1e-4", {"a": {"b": 1e-4, "c": [1, {"d": 2}]}}),
        ("a.b=x=y", {"a": {"b": "x=y", "c": [1, {"d": 2}]}}),
        ("a.b=", {"a": {"b": None, "c": [1, {"d": 2}]}}),
        ("a.b='1'", {"a": {"b": "1", "c": [1, {"d": 2}]}}),
        ("a.c[0]=x", {"a": {"b": 1, "c": ["x", {"d": 2}]}}),
        ("a.c.0=x", {"a": {"b": 1, "c": ["x", {"d": 2}]}}),
        ("a.c[1].d=[3, {e: 4}]", {"a": {"b": 1, "c": [1, {"d": [3, {"e": 4}]}]}}),
        ("a.c[2].d=3", {"a": {"b": 1, "c": [1, {"d": 2}, {"d": 3}]}}),
        ("a={}", {"a": {}}),
        ("x.y.z=1", {"a": {"b": 1, "c": [1, {"d": 2}]}, "x": {"y": {"z": 1}}}),
        ("x[0].y=1", {"a": {"b": 1, "c": [1, {"d": 2}]}, "x": [{"y": 1}]}),
    ],
)
def test_an_override_sets_one_value(source: Any, override: str, data: object) -> None:
    overridden = source("a:\n  b: 1\n  c: [1, {d: 2}]\n", override)
    assert overridden.problems == ()
    assert overridden.data == data


@pytest.mark.parametrize(
    ("marked", "words"),
    [
        ("¤a.b", "expected PATH=VALUE"),
        ("¤=1", "expected PATH=VALUE"),
        ("¤a..b=1", "expected PATH=VALUE"),
        ("¤a[x]=1", "expected PATH=VALUE"),
        ("¤\udcff=1", "expected PATH=VALUE"),
        ("a.b.¤c=1", "can't set c in the number 1"),
        ("a.c.¤d=1", "can't set d in a list of 2, counted from 0"),
        ("a.c¤[3]=1", "can't set [3] in a list of 2, counted from 0"),
        ("a¤[0]=1", "can't set [0] in a mapping"),
        ("a.b=¤*x", "aliases are not allowed"),
        ("a.b=[1, ¤.nan]", "expected a finite number"),
        ("a.b=¤[1", "this is never closed"),
        ("a.b={x: 1, ¤x: 2}", "duplicate key 'x'"),
        ("a.b=x¤\x07", "the control character U+0007"),
    ],
)
def test_a_wrong_override_is_reported_in_itself(source: Any, marked: str, words: str) -> None:
    overridden = source("a:\n  b: 1\n  c: [1, {d: 2}]\n", "a.b=1", marked.replace("¤", ""))
    (problem,) = overridden.problems
    assert (problem.file, problem.line, problem.column) == ("--set", 2, marked.index("¤") + 1)
    assert words in problem.message


def test_places_of_an_override_replace_those_of_the_file(source: Any) -> None:
    overridden = source("a: {b: [1, .nan], c: 1}\n", "a.b=[5, {x: 1}]", "n.m=1")
    assert {loc: (key[:3], value[:3]) for loc, (key, value) in overridden.places.items() if key.file == "--set"} == {
        ("a", "b"): (("--set", 1, 3), ("--set", 1, 5)),
        ("a", "b", 0): (("--set", 1, 6), ("--set", 1, 6)),
        ("a", "b", 1): (("--set", 1, 9), ("--set", 1, 9)),
        ("a", "b", 1, "x"): (("--set", 1, 10), ("--set", 1, 13)),
        ("n",): (("--set", 2, 1), ("--set", 2, 1)),
        ("n", "m"): (("--set", 2, 3), ("--set", 2, 5)),
    }
    assert overridden.broken == frozenset()
