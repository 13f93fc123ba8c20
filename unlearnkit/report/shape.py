"""The shape of results.json."""

import json
from pathlib import Path
from typing import Any, Literal, NotRequired, cast

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic makes schemas of these alone before Python 3.12

from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.seal import Sealed

FORMAT = 1
SETS: tuple[Literal["forget", "retain"], ...] = ("forget", "retain")


class Failed(TypedDict):
    """A metric that could not be computed, and why."""

    failed: str


Score = float | None | Failed
Metrics = dict[str, dict[str, dict[str, dict[str, Score]]]]
"""set ("forget", "retain") → split ("train", "validation") → "truth" or "original" → metric → score."""


class History(TypedDict):
    """What every n-th step saw on its batch; lists of equal length."""

    step: list[int]
    f1: list[float | None]
    f2: list[float | None]
    lam: list[float | None]


class Check(TypedDict):
    """The losses on the whole training sets at one step, or on the images of `training.look`."""

    step: int
    f1: float | None
    f2: float | None
    gap: float | None
    residual: float | None
    lam: float | None
    f1_within: NotRequired[float]
    """Half-width of a 95 % interval of f1 on the whole set, where it was not looked at as a whole."""
    f2_within: NotRequired[float]
    """The same of f2."""


class Landing(TypedDict):
    """Where a solution of phase 2 was before it landed on ε, on the whole forget set, and whether it moved."""

    f1: float
    gap: float
    moved: bool


class Served(TypedDict):
    """How a point of the dial became a solution."""

    dial: Literal["curve", "polyline"]
    polish: int
    """Steps that were taken from there; 0 also where they made it no better."""


class Target(TypedDict):
    """One of `epsilons.targets`, and what was found for it."""

    place: int
    """Which of them, from 0."""
    kind: str
    label: str
    """What it asks for, in one line."""
    wanted: float | None
    """What `value` is held against; None where it is to be as small as can be."""
    value: float
    """What was found, in `unit`."""
    error: float | None
    """Standard error of `value` against `wanted` over images; None where the measure has none."""
    unit: str
    met: bool
    note: str
    """What a reader has to know, such as why it could not be met; may be empty."""


class Brief(TypedDict):
    """Steps of a model that was retrained, and those of the original model, None where these are not known."""

    steps: int
    of: int | None


class Solution(TypedDict):
    """One set of weights and all that is known about it; the original model has the first keys only."""

    id: str
    label: str
    f1: float | None
    f2: float | None
    metrics: NotRequired[Metrics]
    method: NotRequired[str]
    retrained: NotRequired[bool]
    """Whether it was trained without the forget set for as many steps as the original; not said of the others."""
    brief: NotRequired[Brief]
    """Of what was trained without it for fewer, or for what are as many for all that is known: no yardstick."""
    phase: NotRequired[Literal[1, 2] | None]
    epsilon: NotRequired[float | None]
    fraction: NotRequired[float | None]
    gap: NotRequired[float | None]
    residual: NotRequired[float | None]
    lam: NotRequired[float | None]
    lam_stationary: NotRequired[float | None]
    steps: NotRequired[int | None]
    ended: NotRequired[str | None]
    landing: NotRequired[Landing | None]
    """None without landing."""
    satisfied: NotRequired[bool | None]
    dominated_by: NotRequired[list[str]]
    history: NotRequired[History | None]
    """None where the steps were taken on other losses than f1 and f2."""
    part: NotRequired[Literal["encoder", "all"]]
    """What was trained."""
    stages: NotRequired[list[dict[str, Any]]]
    """Of each stage its `steps` and whether it was `stopped` before they were spent."""
    checks: NotRequired[list[Check]]
    frozen_unchanged: NotRequired[bool | None]
    served: NotRequired[Served]
    """Where on the dial it was found; absent for what was solved by itself."""
    target: NotRequired[Target]
    """What it was looked for by; absent for an ε that was given."""
    digest: NotRequired[str]
    """The hash of all that it was computed from; its `origin` stands beside its weights in the run folder."""


class Stop(TypedDict):
    """A place of the dial between solutions, with f1 and f2 on the whole training sets."""

    id: str
    label: str
    t: float
    """Its place from 0, the tightest, to 1, the original model."""
    f1: float
    f2: float
    fraction: float
    """Place of f1 in the valid range of ε; more than 1 beyond the lowest completeness."""


class Dial(TypedDict):
    """The way that leads to any ε: one curve that was trained, or the polyline through the solutions."""

    kind: Literal["curve", "polyline"]
    stops: list[Stop]


class Front(TypedDict):
    """How much of the rectangle from 0 to `reference` (f1, f2) the solutions of both phases dominate."""

    reference: list[float]
    hypervolume: float
    share: float


class Further(TypedDict):
    """What was measured under one of `evaluate.tasks`, on the images shown: set → "truth" or "original" → metric."""

    task: dict[str, Any]
    label: str
    original: dict[str, dict[str, dict[str, Score]]]
    fill: NotRequired[dict[str, dict[str, dict[str, Score]]]]
    solutions: dict[str, dict[str, dict[str, dict[str, Score]]]]


class Fill(TypedDict):
    """What needs no model: hidden pixels in the mean colour of the visible ones, or else the input as it is."""

    label: Literal["mean-colour fill", "input as it is"]
    metrics: Metrics


class Singles(TypedDict):
    """Scores of the images of a set that pictures are of, by "fill", "original" or solution."""

    images: list[str]
    """Their names in the source."""
    shown: list[int]
    """Which of them the pictures are of."""
    scores: dict[str, list[float]]


class Each(TypedDict):
    """What single images score by one metric, against "truth" or "original"."""

    metric: str
    against: Literal["truth", "original"]
    forget: NotRequired[Singles]
    retain: NotRequired[Singles]


class Over(TypedDict):
    """A count that was not reached within so many."""

    over: float


Finding = float | None | Failed | Over


class Figure(TypedDict):
    """One figure of an audit: its heading, what it means, and where it points when more is forgotten."""

    name: str
    meaning: str
    forgotten: Literal["higher", "lower"] | float | None
    unit: str
    chance: NotRequired[float | None]
    """Half of the width of the interval around `forgotten` in which it stays nineteen times in twenty by chance."""
    one_sided: NotRequired[bool]
    """Whether a trace shows above `forgotten` alone."""


class Audit(TypedDict):
    """What one of `evaluate.audits` found: figure → value, for the original model and by solution."""

    id: str
    label: str
    about: str
    samples: str
    seeds: list[int]
    facts: dict[str, Any]
    figures: dict[str, Figure]
    original: dict[str, Finding]
    solutions: dict[str, dict[str, Finding]]


class Held(TypedDict):
    """What was found of a model for a limit, and whether it keeps it."""

    found: Finding
    kept: bool | None
    """None where there is no figure, or a count that ended before the bound."""


class Limit(TypedDict):
    """One of `evaluate.limits` with what every model shows of it."""

    figure: str
    at_least: float | None
    at_most: float | None
    label: str
    """What it asks for, in one line."""
    original: Held
    solutions: dict[str, Held]


Apart = dict[str, dict[str, dict[str, float | None]]]
"""set → split → metric → difference of scores against the truth; None where one is lacking."""


class Gap(TypedDict):
    """How far scores are from those of models that were retrained without the forget set, a mean where several are."""

    to: list[str]
    """Their ids; each of them is held against the others."""
    original: Apart
    solutions: dict[str, Apart]


class Strips(TypedDict):
    """Paths of PNG strips: what one set looks like to each solution."""

    truth: str
    input: str
    original: str
    solutions: dict[str, str]
    dial: NotRequired[dict[str, str]]
    """Of the stops of the dial."""


class Images(TypedDict):
    """The pictures: every strip holds `count` of them, whose longer side is `size` pixels, or less of the inputs."""

    count: int
    size: int
    forget: NotRequired[Strips]
    """Validation images, or training images where a set has no others."""
    retain: NotRequired[Strips]


class Plane(TypedDict):
    """Where the pictures of all models lie in a plane that is 1 wide."""

    name: str
    points: NotRequired[dict[str, dict[str, list[list[float]]]]]
    """set → "truth", "original" or solution → x and y of each picture, up is up."""
    failed: NotRequired[str]
    """Why there is none."""


class Maps(TypedDict):
    """The pictures by the features of a network, in one plane of each kind."""

    extractor: dict[str, Any]
    planes: list[Plane]


class Controlled(TypedDict):
    """How a figure of the solutions goes with ε."""

    rank: float
    """Spearman's rank correlation, from −1 to 1; equal values share their rank."""
    monotone: bool
    """Whether it never falls, or never rises, from one ε to the next."""


class Results(TypedDict):
    """The whole of results.json."""

    format: int
    name: str
    seed: int
    mode: dict[str, str]
    sets: dict[str, dict[str, Any]]
    range: dict[str, float] | None
    front: NotRequired[Front | None]
    dial: NotRequired[Dial]
    original: dict[str, Any]
    fill: NotRequired[Fill]
    each: NotRequired[Each | None]
    solutions: list[Solution]
    tasks: NotRequired[list[Further]]
    audits: NotRequired[list[Audit]]
    limits: NotRequired[list[Limit]]
    gap: NotRequired[Gap | None]
    """None where no model was retrained for as many steps as the original."""
    controlled: NotRequired[dict[str, Controlled]]
    """By `f1`, `f2`, set/split/against/metric or audit/figure; what fewer than three ε have is left out."""
    outside: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    warnings: list[str]
    tolerance: NotRequired[float]
    images: NotRequired[Images | None]
    maps: NotRequired[Maps | None]


def load(run: Sealed) -> tuple[Results, dict[str, Any]]:
    """Read a finished run's results and its manifest; raise `UserError` for what is none, or not as it was."""
    if "results.json" not in run.files:
        raise UserError(f"{run.folder}: this is no run; give a folder that `unlearnkit run` wrote", Exit.FOLDER)
    return parsed(run.read("results.json"), run.folder), run.json("manifest.json")


def parsed(data: bytes, run: Path) -> Results:
    """Return results as they were written; raise `UserError` for another format or shape."""
    path = run / "results.json"
    try:
        results = json.loads(data)
        found = results.get("format")
        if found == FORMAT:
            TypeAdapter(Results).validate_python(results)
    except (ValueError, AttributeError, RecursionError) as error:
        wrong = f"these are no results of a run ({first_line(error)})"
        raise UserError(f"{path}: {wrong}; write them again with `unlearnkit run`", Exit.FOLDER) from None
    if found != FORMAT:
        raise UserError(f"{path}: format {found!r} is not {FORMAT}, the one read here", Exit.FOLDER)
    return cast("Results", results)
