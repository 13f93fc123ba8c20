"""YAML text to plain data with a place for every key and value, and every problem of the text in one pass."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from unlearnkit.recipe.problem import MAX_PROBLEMS, OVERRIDE, Loc, Place, Problem, RecipeError, describe, shown

__all__ = ["Problem", "RecipeError", "Source", "read", "resolve"]

# PyYAML takes up to a second for a MiB of spaces or words, and as long for so many events: ten thousand names in a
# list are ten thousand events.
MAX_BYTES = 1 << 20
MAX_EVENTS = 40_000
MAX_DEPTH = 20
TOO_DEEP = f"nested more than {MAX_DEPTH} deep"

# The core schema of YAML 1.2: PyYAML's own rules are those of 1.1, where `1e-4` is a text and `no` is false.
WORDS: Mapping[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
ADVICE = {
    "'\\t'": "; indent with spaces, not tabs",
    "mapping values": "; a text with `: ` in it needs quotes, and a key the same indent as its neighbours",
    "cannot start any token": "; put the text in quotes",
}
PATH = re.compile(r"[^.\[\]\s\ud800-\udfff]+(\.[^.\[\]\s\ud800-\udfff]+|\[[0-9]{1,6}\])*")
STEP = re.compile(r"\[([0-9]+)\]|[^.\[\]]+")


@dataclass(frozen=True)
class Source:
    """A recipe as it was written: plain data, and where each part of it stands.

    `problems` are those of the text alone; the values they are about are null in `data` and named in `broken`.
    """

    path: Path
    text: str
    data: dict[str, Any]
    places: Mapping[Loc, tuple[Place, Place]]
    broken: frozenset[Loc]
    problems: tuple[Problem, ...]

    def problem(self, loc: Loc, message: str, at: Loc, *, key: bool) -> Problem:
        """Return a problem about `loc`, placed at the key or the value of `at`.

        What has no place, such as a default, gets that of the nearest mapping or list around it.
        """
        while at not in self.places:
            at = at[:-1]
        return self.places[at][0 if key else 1].problem(loc, message)


def read(path: Path | str, overrides: Sequence[str] = ()) -> Source:
    """Read a recipe and apply the `--set` overrides; raise `RecipeError` where the text can't be read to its end."""
    text = _text(str(path))
    if len(text) + sum(map(len, overrides)) > MAX_BYTES:
        raise RecipeError([Problem(OVERRIDE, 0, 0, "", "the recipe and its overrides are larger than 1 MiB together")])
    lines = [*BREAK.split(text), ""]

    def place(line: int, column: int) -> Place:
        return Place(str(path), line + 1, column + 1, lines[line])

    draft = _Draft(place)
    try:
        data = draft.compose(text, ())
    except yaml.YAMLError as error:
        raise RecipeError([*draft.problems, _unreadable(error, text, place)]) from None
    if not isinstance(data, dict):
        said = "empty" if data is None else describe(data)
        draft.complain((), f"the recipe is {said}; write sections such as `model:` and `data:`", draft.places[()][1])
        raise RecipeError(draft.problems[:1])
    for number, override in enumerate(overrides, start=1):
        _override(draft, data, number, override)
    return Source(Path(path), text, data, draft.places, frozenset(draft.broken), tuple(draft.problems))


def _text(file: str) -> str:
    def refuse(message: str, line: int = 0, column: int = 0) -> RecipeError:
        return RecipeError([Problem(file, line, column, "", message)])

    try:
        with open(file, "rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("there is no such file; `unlearnkit init` writes a recipe to start from") from None
    except (OSError, ValueError) as error:
        raise refuse(f"can't be read: {getattr(error, 'strerror', None) or error}; name a recipe file") from None
    if len(raw) > MAX_BYTES:
        raise refuse("is larger than 1 MiB, which no recipe is")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = BREAK.split(raw[: error.start].decode(errors="replace"))
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise refuse(message, len(before), len(before[-1]) + 1) from None


class _ScalarError(Exception):
    """A scalar that a recipe can't have; the message says why."""


@dataclass
class _Draft:
    """The places and problems of one recipe while it is read."""

    place: Callable[[int, int], Place]
    places: dict[Loc, tuple[Place, Place]] = field(default_factory=dict)
    broken: set[Loc] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    events: int = 0
    """How many there were so far."""

    def complain(self, loc: Loc, message: str, place: Place) -> None:
        """Note a problem about `loc`."""
        self.note(place.problem(loc, message))

    def note(self, problem: Problem) -> None:
        """Note a problem; raise `RecipeError` where there are too many to go on."""
        self.problems.append(problem)
        if len(self.problems) >= MAX_PROBLEMS:
            raise RecipeError(self.problems)

    def forget(self, loc: Loc, value: Any) -> None:
        """Drop what is noted of the `value` at `loc`, which is replaced."""
        self.places.pop(loc, None)
        self.broken -= {loc, (*loc, "<<")}
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for step, part in parts:
            self.forget((*loc, step), part)

    def compose(self, text: str, loc: Loc) -> Any:
        """Return the YAML document in `text`, which stands at `loc` of the recipe, as plain data."""
        events = self._counted(_events(text))
        next(events)
        if isinstance(start := next(events), yaml.StreamEndEvent):
            self.places[loc] = (self._at(start), self._at(start))
            return None
        value = self._node(events, next(events), loc)
        next(events)
        if not isinstance(more := next(events), yaml.StreamEndEvent):
            self.complain((), "a second YAML document starts here; a recipe is one document", self._at(more))
        return value

    def _counted(self, events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
        for event in events:
            self.events += 1
            if self.events > MAX_EVENTS:
                many = f"more than {MAX_EVENTS} keys, values and brackets up to here, which no recipe has"
                raise RecipeError([*self.problems, self._at(event).problem((), many)])
            yield event

    def _at(self, event: yaml.Event) -> Place:
        return self.place(event.start_mark.line, event.start_mark.column)  # type: ignore[union-attr]

    def _node(self, events: Iterator[yaml.Event], event: yaml.Event, loc: Loc, key: Place | None = None) -> Any:
        here = self._at(event)
        self.places[loc] = (key or here, here)
        self._refuse_marks(event, loc)
        if isinstance(event, yaml.ScalarEvent) and not event.tag:
            try:
                return _value(event)
            except _ScalarError as error:
                self.complain(loc, str(error), here)
        if not isinstance(event, yaml.CollectionStartEvent):
            self.broken.add(loc)
            return None
        if len(loc) >= MAX_DEPTH:
            raise _too_deep(event)
        return self._list(events, loc) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(events, loc)

    def _refuse_marks(self, event: yaml.Event, loc: Loc) -> None:
        here = self._at(event)
        if isinstance(event, yaml.AliasEvent):
            self.complain(loc, f"aliases are not allowed; write out what *{event.anchor} stands for", here)
        elif anchor := getattr(event, "anchor", None):
            self.complain(loc, f"anchors are not allowed; remove &{anchor}", here)
        if tag := getattr(event, "tag", None):
            self.complain(loc, f"tags are not allowed; remove {tag.replace('tag:yaml.org,2002:', '!!')}", here)

    def _list(self, events: Iterator[yaml.Event], loc: Loc) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            values.append(self._node(events, event, (*loc, len(values))))
        return values

    def _mapping(self, events: Iterator[yaml.Event], loc: Loc) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            try:
                name = self._key(events, event, loc)
            except _ScalarError as error:
                self.complain(loc, str(error), self._at(event))
                _skip(events, next(events))
            else:
                values[name] = self._node(events, next(events), (*loc, name), self._at(event))
        return values

    def _key(self, events: Iterator[yaml.Event], event: yaml.Event, loc: Loc) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            _skip(events, event)
            raise _ScalarError("a key has to be a plain text")
        self._refuse_marks(event, loc)
        if not isinstance(name := _value(event), str):
            raise _ScalarError(f"a key has to be a text, not {describe(name)}; put it in quotes")
        if name == "<<" and event.style is None:
            self.broken.add((*loc, name))
            raise _ScalarError("merges are not allowed; write the keys out")
        if first := self.places.get((*loc, name)):
            raise _ScalarError(f"duplicate key {shown(name)}; the first is at {first[0].line}:{first[0].column}")
        return name


def resolve(text: str) -> str | int | float | bool | None:
    """Return what a scalar without quotes means."""
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        if len(text) > 300:
            raise _ScalarError("a number of more than 300 digits; write a shorter one")
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    number = float(text) if NUMBER.fullmatch(text) else None
    if number == math.inf or number == -math.inf or NOT_FINITE.fullmatch(text):
        raise _ScalarError(f"expected a finite number, got {shown(text)}; put it in quotes if it is a text")
    return text if number is None else number


def _value(event: yaml.ScalarEvent) -> str | int | float | bool | None:
    if re.search("[\ud800-\udfff]", event.value):
        raise _ScalarError("half of a surrogate pair, which is no character; write the character itself")
    return resolve(event.value) if event.style is None else str(event.value)


def _events(text: str) -> Iterator[yaml.Event]:
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    except (ValueError, OverflowError):  # PyYAML lets them out of `"\UFFFFFFFF"` and of a `%YAML` version
        raise yaml.MarkedYAMLError(problem="a number out of range", problem_mark=loader.get_mark()) from None


def _too_deep(event: yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=event.start_mark)  # type: ignore[arg-type]


def _skip(events: Iterator[yaml.Event], event: yaml.Event) -> None:
    """Pass over the rest of the node that `event` starts."""
    depth = 0
    while depth := depth + isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent):
        if depth > MAX_DEPTH:  # PyYAML takes milliseconds for each open bracket
            raise _too_deep(event)
        event = next(events)


def _unreadable(error: yaml.YAMLError, text: str, place: Callable[[int, int], Place]) -> Problem:
    """Return the problem that stopped the reading of `text`."""
    if isinstance(error, yaml.reader.ReaderError):
        *above, last = BREAK.split(text[: error.position])
        line, column = len(above), len(last)
        message = f"the control character U+{ord(text[error.position]):04X} is not allowed; remove it"
    else:
        assert isinstance(error, yaml.MarkedYAMLError)
        problem, mark = error.problem or "", error.problem_mark
        if "end" in problem and "stream" in problem and error.context_mark:  # mend it where it opens
            problem, mark = f"this is never closed ({error.context})", error.context_mark
        advice = next((advice for sign, advice in ADVICE.items() if sign in problem), "")
        line, column = (mark.line, mark.column) if mark else (0, 0)
        message = f"not valid YAML: {problem}{advice}"
    return place(line, column).problem((), message)


def _override(draft: _Draft, data: dict[str, Any], number: int, override: str) -> None:
    """Apply one `PATH=VALUE` to `data`."""
    path, equals, text = override.partition("=")
    here = Place(OVERRIDE, number, 1, override)
    if not equals or not PATH.fullmatch(path):
        draft.complain((), "expected PATH=VALUE, such as training.steps=100 or data.forget.classes[0]=faces", here)
        return
    inside: Any = data
    loc: Loc = ()
    for step in STEP.finditer(path):
        if loc and inside[loc[-1]] is None:
            inside[loc[-1]] = [] if step[1] else {}
            draft.places[loc] = (here, here)
            draft.broken.discard(loc)
        inside = inside[loc[-1]] if loc else data
        here = here._replace(column=step.start() + 1)
        key = step_into(inside, step)
        if key is None:
            said = f"a list of {len(inside)}, counted from 0" if isinstance(inside, list) else describe(inside)
            draft.complain(loc, f"can't set {step[0]} in {said}", here)
            return
        loc = (*loc, key)
        if len(loc) > MAX_DEPTH:
            draft.complain((), TOO_DEEP, here)
            return
    draft.forget(loc, inside[loc[-1]])
    draft.place = lambda line, column: here._replace(column=column + 1 + (0 if line else len(path) + 1))
    inside[loc[-1]] = None
    try:
        inside[loc[-1]] = draft.compose(text, loc)
    except yaml.YAMLError as error:
        draft.note(_unreadable(error, text, draft.place))
        draft.broken.add(loc)
    draft.places[loc] = (here, draft.places.get(loc, (here, here))[1])


def step_into(inside: Any, step: re.Match[str]) -> str | int | None:
    """Return the key or index that one step of a path means in `inside`, making room; None for nothing."""
    name = step[1] or step[0]
    if isinstance(inside, dict) and step[1] is None:
        inside.setdefault(name, None)
        return name
    if not isinstance(inside, list) or not re.fullmatch("[0-9]{1,6}", name) or int(name) > len(inside):
        return None
    inside.extend([None] * (int(name) == len(inside)))
    return int(name)
