"""What is claimed of an exported model: an in-toto statement, of which its card and its bill of materials are made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic makes schemas of these alone before Python 3.12

from unlearnkit import __version__
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.report.shape import SETS, Results, Solution
from unlearnkit.report.verdict import verdict
from unlearnkit.seal import Sealed

STATEMENT, FORGOTTEN = "statement.json", "forgotten.txt"
"""In an exported folder: the statement, and the keys of the forget set's images, one a line, which a run has too."""
SORT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://unlearnkit/unlearning/v1"
"""Names the shape of `Claims`; like that of model signing it is a name and no page."""

RUN = ("format", "name", "seed", "mode", "tolerance", "sets", "range", "original", "metrics", "warnings")
NEEDED = {
    "metrics", "epsilon", "gap", "residual", "steps", "ended", "satisfied", "part", "frozen_unchanged", "digest",
}  # fmt: skip
"""What a solution has that was trained and evaluated."""
LONG = ("history", "checks", "stages")
"""What of a solution says how it was trained, and nothing of what it is."""


class Weights(TypedDict):
    """The original model: what the recipe calls it, and the SHA-256 of what that was."""

    ref: str | None
    sha256: str | None


class Source(TypedDict):
    """Where the images of a set came from, and the hashes of their names and of their pixels."""

    set: str
    name: str
    digest: str
    files: int
    files_sha256: str
    title: NotRequired[str]
    licence: NotRequired[str]
    attribution: NotRequired[str]


class Device(TypedDict):
    """What it ran on."""

    kind: str


class Made(TypedDict):
    """What of the run's manifest is told: no path of the machine but what the recipe calls its weights."""

    unlearnkit: str
    started: str
    finished: str
    python: str
    torch: str
    device: Device
    recipe_sha256: str
    weights: Weights
    data: list[Source]


class Claims(TypedDict):
    """The predicate of the statement."""

    unlearnkit: str
    """The version that exported it."""
    solution: str
    """Its id among the solutions of `results`; the others are retrained models, to hold it against."""
    results: Results
    """As results.json, of these solutions alone and without curves and pictures."""
    manifest: Made
    verdict: str
    """The whole trade-off of the run, in words."""


class Digest(TypedDict):
    """The hash of a file."""

    sha256: str


class Subject(TypedDict):
    """A file of the model."""

    name: str
    digest: Digest


class Statement(TypedDict):
    """An in-toto statement, version 1."""

    _type: str
    subject: list[Subject]
    predicateType: str
    predicate: Claims


def claims(results: Results, manifest: Mapping[str, Any], solution: str) -> Claims:
    """Return what a finished run says of one of its solutions."""
    chosen = [s for s in results["solutions"] if s["id"] == solution or s.get("retrained")]
    names = {s["id"] for s in chosen}

    def of_these(entry: Any) -> Any:
        return {**entry, "solutions": {name: its for name, its in entry["solutions"].items() if name in names}}

    every: Any = results
    some: Any = {key: value for key, value in every.items() if key in RUN}
    some |= {"outside": [], "solutions": [{k: v for k, v in s.items() if k not in LONG} for s in chosen]}
    some |= {key: [of_these(entry) for entry in every.get(key, [])] for key in ("audits", "limits")}
    made: Any = {key: manifest[key] for key in Made.__annotations__}
    made["data"] = [{k: v for k, v in source.items() if k in Source.__annotations__} for source in manifest["data"]]
    return Claims(unlearnkit=__version__, solution=solution, results=some, manifest=made, verdict=verdict(results))


def forgotten(its: Claims) -> Source:
    """Return what was asked to be unlearned."""
    return next(source for source in its["manifest"]["data"] if source["set"] == "forget")


def statement(its: Claims, files: Mapping[str, str]) -> Statement:
    """Return the statement of these claims about the files of a model, which come with their SHA-256."""
    subject = [Subject(name=name, digest={"sha256": digest}) for name, digest in files.items()]
    return Statement(_type=SORT, subject=subject, predicateType=PREDICATE, predicate=its)


def read(folder: Sealed) -> Statement:
    """Return the statement of an exported folder; raise `UserError` for another one than `export` writes."""
    path = folder.folder / STATEMENT
    if STATEMENT not in folder.files:
        nothing = "nothing is stated here; give a folder that `unlearnkit export` wrote"
        raise UserError(f"{folder.folder}: {nothing}", Exit.FOLDER)
    return parsed(folder.read(STATEMENT), path)


def parsed(data: bytes, path: Path) -> Statement:
    """Return a statement from its bytes; raise `UserError` where it is none of ours."""
    try:
        found = TypeAdapter(Statement).validate_python(json.loads(data, parse_constant=_no_number))
        if (found["_type"], found["predicateType"]) != (SORT, PREDICATE):
            raise ValueError(f"it is of {found['predicateType']}, and {PREDICATE} is read here")
        _refuse_lacking(found["predicate"])
    except (ValueError, RecursionError) as error:
        wrong = f"this is no statement of unlearnkit ({first_line(error)})"
        raise UserError(f"{path}: {wrong}; export the model again", Exit.FOLDER) from None
    return cast("Statement", json.loads(data))


def _no_number(written: str) -> None:
    raise ValueError(f"{written} is no number of JSON")


def _refuse_lacking(its: Claims) -> None:
    """Raise `ValueError` for claims without what every exported model has, so that all who read them can rely on it."""
    results, names = its["results"], {s["id"] for s in its["results"]["solutions"]}
    sets = {source["set"] for source in its["manifest"]["data"]}
    lacking = {"audits", "limits", "tolerance"} - results.keys() | {"f1", "f2", "metrics"} - results["original"].keys()
    lacking |= {key for its in results["sets"].values() for key in {"classes", "train", "validation"} - its.keys()}
    lacking |= {key for s in results["solutions"] for key in NEEDED - s.keys()}
    if lacking or its["solution"] not in names or sets != set(SETS) or results["sets"].keys() != sets:
        raise ValueError(f"it lacks {', '.join(sorted(lacking)) or 'its solution or a set'}")
    entries: list[Any] = [*results["audits"], *results["limits"]]
    if any(entry["solutions"].keys() != names for entry in entries):
        raise ValueError("an audit or a limit is not of its solutions")


def solution(its: Claims) -> Solution:
    """Return the solution that is claimed."""
    return next(s for s in its["results"]["solutions"] if s["id"] == its["solution"])


def files(its: Statement) -> dict[str, str]:
    """Return the SHA-256 of each file of the model."""
    return {file["name"]: file["digest"]["sha256"] for file in its["subject"]}
