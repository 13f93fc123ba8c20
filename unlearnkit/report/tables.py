"""The report's tables as text, so that the page and the Markdown can't disagree."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from typing import Any, NamedTuple, cast

from unlearnkit.report import reading
from unlearnkit.report.numbers import NONE, agreed, figure, listed, percent, rounded, whole
from unlearnkit.report.shape import SETS, Audit, Finding, Held, Over, Results, Score, Solution


class Column(NamedTuple):
    """A column's heading, what it means, the heading it shares with its neighbours, and the name of what it shows."""

    head: str
    meaning: str = ""
    group: str = ""
    name: str = ""

    @property
    def whole(self) -> str:
        """The heading with the shared one, where a table has one row of headings."""
        return f"{self.head}, {self.group}" if self.group else self.head


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; `ids` names each row's solution, `notes` are reasons of failures."""

    title: str
    columns: list[Column]
    rows: list[list[str]]
    ids: list[str]
    notes: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    best: frozenset[tuple[int, int]] = frozenset()
    """Row and column of the cells that stand out."""

    def groups(self) -> list[tuple[str, int]]:
        """Return the shared headings and how many columns each one spans; none where no column has one."""
        spans = [(group, len(list(columns))) for group, columns in groupby(self.columns, key=lambda c: c.group)]
        return spans if any(group for group, _ in spans) else []


Write = Callable[[Any, list[str], str], str]
READING = (
    "Arrows say which way is better. For the retain set, better scores mean better kept; "
    "for the forget set, worse scores mean outputs farther from the truth, and no more than that: PSNR can stay while "
    "all detail goes, so look at the pictures too."
)
FURTHER = "The same solutions on the same images under tasks beside the training task, against the truth."
WORST = 3
"""How many single images of a set are tabulated for each solution."""
SINGLE = (
    f"For each solution, the {WORST} images of the forget set that come back best, and the {WORST} of the "
    "retain set that lost most: what a mean hides."
)
AUDITING = (
    "Did it really forget? Arrows point to more forgotten; the first row is what a model shows that has forgotten "
    "nothing, and a retrained one, where there is one, what a model shows that never saw the images."
)
GAPS = (
    "Score against the truth minus that of a model retrained without the forget set for as many steps as the original: "
    "0 where they agree. No model was trained on unseen images, those of validation."
)
UNSEEN = {"train": "training", "validation": "unseen"}
LIMITED = (
    "What the recipe asks of these figures, and whether each model keeps it; one that is broken speaks against it."
)
VERDICTS = {True: "pass", False: "FAIL", None: "not told"}
"""What is said of a limit that is kept, broken, or held against no figure."""
SOLUTION_COLUMNS = [
    Column("solution"),
    Column("id", "its name in results.json, and in the page's address as #solution=ID"),
    Column("ε", "the bound on f1 in phase 2"),
    Column("fraction", "where ε lies in the valid range: 0 % is the highest completeness, 100 % the lowest"),
    Column("f1", "forget loss on the whole training forget set; lower means more forgotten"),
    Column("gap", "(f1 − ε) / ε; at or below zero the bound holds, and above it by so much it is exceeded"),
    Column("gap before landing", "the same where the rule for λ ended, before landing moved the solution to its ε"),
    Column("satisfied", "whether f1 keeps to ε within the run's tolerance"),
    Column("f2", "retain loss on the whole training retain set; 0 means the retain set is treated as before"),
    Column("residual", "min over λ ≥ 0 of ‖∇f2 + λ∇f1‖ at the end; 0 at a stationary point"),
    Column("λ", "the last multiplier that mixes the two gradients; 0 where the constraint did not act"),
    Column("steps", "updates made"),
    Column(
        "ended", "why training stopped: the constraint was satisfied, the steps were spent, or none was kept: found"
    ),
    Column("seconds", "time spent on this solution, from the manifest"),
    Column("dominated by", "solutions at least as good in both f1 and f2 and better in one"),
]

INTERVAL = 1.96
"""Standard errors to either side that hold nineteen times in twenty."""
TARGET_COLUMNS = [
    Column("target"),
    Column("wanted", f"what the value found is held against; {NONE} where it is to be as small as can be"),
    Column("found", "the value at its solution"),
    Column("95 % interval", f"{INTERVAL} standard errors over images, of what was found against what was wanted"),
    Column("met", "whether it was met anywhere between the highest completeness and the original model"),
    Column("ε found", "the bound on f1 that serves it"),
    Column("place in the valid range", "0 % is the highest completeness, 100 % the lowest; beyond lies the original"),
    Column("f2", "retain loss on the whole training retain set"),
]


def solutions(results: Results, times: dict[str, Any]) -> Table:
    """Tabulate every solution, the original model first."""
    rows = []
    for s in reading.shown(results):
        dominating = ", ".join(s.get("dominated_by") or [NONE])
        rows.append([s["label"], s["id"], *facts(s).values(), whole(times.get(s["id"]), 1), dominating])
    return Table("Solutions", SOLUTION_COLUMNS, rows, [row[1] for row in rows])


def targets(results: Results) -> Table | None:
    """Tabulate what each target asked for and what was found for it; None where there are none."""
    rows, reasons = [], list[str]()
    for s, target in ((s, s["target"]) for s in reading.targets(results)):
        unit = f" {target['unit']}".rstrip()
        wanted = NONE if target["wanted"] is None else figure(target["wanted"]) + unit
        error = target["error"]
        around = NONE if error is None else f"± {figure(INTERVAL * error, 2)}{unit}"
        note = f"{target['label']}: {target['note']}"
        met = agreed(target["met"]) + (f" {pointer(note, reasons)}" if target["note"] else "")
        place = percent(s.get("fraction"), signed=False)
        found = figure(target["value"]) + unit
        rows.append([target["label"], wanted, found, around, met, figure(s.get("epsilon")), place, figure(s["f2"])])
    ids = [s["id"] for s in reading.targets(results)]
    return Table("Targets", TARGET_COLUMNS, rows, ids, reasons) if rows else None


def facts(s: Solution) -> dict[str, str]:
    """Write what training found out about a solution, in the order of its columns."""
    return {
        "epsilon": figure(s.get("epsilon")), "fraction": percent(s.get("fraction"), signed=False),
        "f1": figure(s["f1"]), "gap": percent(s.get("gap")),
        "landing": percent(landing["gap"]) if (landing := s.get("landing")) else NONE,
        "satisfied": agreed(s.get("satisfied")), "f2": figure(s["f2"]), "residual": figure(s.get("residual")),
        "lam": figure(s.get("lam")), "steps": whole(s.get("steps")), "ended": s.get("ended") or NONE,
    }  # fmt: skip


def scores(results: Results, of: str, split: str) -> Table:
    """Tabulate every metric of one set and split, against the truth and against the original model."""
    keys = [(against, metric) for against in ("truth", "original") for metric in results["metrics"]]
    columns = [_column(results, m, f"against the {a}{' model' * (a == 'original')}") for a, m in keys]
    count = whole(results["sets"].get(of, {}).get(split))
    title = f"{of.capitalize()} set, {count} {'training' if split == 'train' else split} images"
    shown = [s for s in (*reading.shown(results), reading.fill(results)) if s]
    values = {s["id"]: [reading.score(s, of, split, a, m) for a, m in keys] for s in shown}
    return _measured(results, title, columns, values)


def singles(results: Results) -> Table | None:
    """Tabulate under every solution the forget images that come back best and the retain images that lost most."""
    if not (its := results.get("each")):
        return None
    metric, better = its["metric"], results["metrics"][its["metric"]].get("better")
    sign, rows, ids = (-1 if better == "lower" else 1), list[list[str]](), list[str]()
    for s, of in product(reading.shown(results)[1:], SETS):
        found = reading.singles(results, of)
        if found is None or not (now := found["scores"].get(s["id"])) or not (start := found["scores"].get("original")):
            continue
        fill = found["scores"].get("fill")
        kept = [sign * (value if of == "forget" else first - value) for value, first in zip(now, start, strict=True)]
        for i, _ in sorted(enumerate(kept), key=lambda one: -one[1])[:WORST]:
            place = f"image {found['shown'].index(i) + 1}" if i in found["shown"] else NONE
            scored = [figure(value[i] if value else None) for value in (now, start, fill)]
            lost, places = sign * (start[i] - now[i]), len(scored[0].partition(".")[2])
            rows.append([s["label"], of, found["images"][i], place, *scored, rounded(lost, 10.0**-places)])
            ids.append(s["id"])
    heads = ["solution", "set", "image", "among the pictures", "score", "original model"]
    columns = [*map(Column, heads), Column(results["fill"]["label"] if "fill" in results else "fill"), Column("lost")]
    unit = reading.unit(results, metric)
    of = f"{reading.name(results, metric)}{f' ({unit})' * bool(unit)}, against the {its['against']}"
    return Table("Single images", columns, rows, ids, about=[of])


def sections(results: Results) -> list[tuple[str, str, list[Table]]]:
    """Return title, introduction and tables of what was measured beside the metrics, where there is something."""
    alone = [table] if (table := singles(results)) else []
    every = [
        ("Limits", LIMITED, _limits(results)),
        ("Gap to the retrained model", GAPS, _gaps(results)),
        ("Single images", SINGLE, alone),
        ("Other tasks", FURTHER, _further(results)),
        ("Audits", AUDITING, audits(results)),
    ]
    return [section for section in every if section[-1]]


def _limits(results: Results) -> list[Table]:
    """Tabulate what each model shows of every limit; nothing where none was set."""
    entries = results.get("limits", [])
    columns = [Column(entry["label"]) for entry in entries]
    values = {
        s["id"]: [entry["original"] if s["id"] == "original" else entry["solutions"].get(s["id"]) for entry in entries]
        for s in reading.shown(results)
    }
    return [_measured(results, "What is kept", columns, values, _held)] if entries else []


def _gaps(results: Results) -> list[Table]:
    """Tabulate how far every score is from the yardstick's; nothing without one."""
    if (its := results.get("gap")) is None:
        return []
    keys = [(of, split, m) for of in SETS for split in reading.splits(results) for m in results["metrics"]]
    columns = [_column(results, m, f"{of} set, {UNSEEN.get(split, split)} images") for of, split, m in keys]
    columns = [column._replace(head=column.head.rstrip(" ↑↓")) for column in columns]
    apart = {"original": its["original"], **its["solutions"]}
    values = {name: [found[of][split][m] for of, split, m in keys] for name, found in apart.items()}
    count = f"Held against the mean of {len(its['to'])} retrained models, each of them against the others."
    return [replace(_measured(results, "Apart", columns, values), about=[count] * (len(its["to"]) > 1))]


def _held(its: Held, reasons: list[str], head: str) -> str:
    """Write pass or fail with the figure."""
    return f"{VERDICTS[its['kept']]}, {finding(its['found'], reasons, head)}"


def _further(results: Results) -> list[Table]:
    """Tabulate, for each further task, every metric of both sets against the truth; nothing where there are none."""
    keys = [(of, metric) for of in SETS for metric in results["metrics"]]
    columns = [_column(results, m, f"{of} set") for of, m in keys]
    tables = []
    for entry in results.get("tasks", []) if keys else []:
        scored = {"": entry.get("fill", {}), "original": entry["original"], **entry["solutions"]}
        values = {key: [sets.get(of, {}).get("truth", {}).get(m) for of, m in keys] for key, sets in scored.items()}
        tables.append(_measured(results, entry["label"], columns, values))
    return tables


def audits(results: Results) -> list[Table]:
    """Tabulate what each audit found for every model; nothing where none was asked for."""
    tables = []
    for entry in results.get("audits", []):
        scored = {"original": entry["original"], **entry["solutions"]}
        values = {key: [findings.get(figure) for figure in entry["figures"]] for key, findings in scored.items()}
        # Of how many images the figures are, from which seeds, and with what.
        seeds = f"Seed{'s' * (len(entry['seeds']) > 1)} {', '.join(map(str, entry['seeds']))}."
        of = " ".join(filter(None, [entry["samples"], seeds, f"{listed(entry['facts'])}." * bool(entry["facts"])]))
        table = _measured(results, entry["label"], audit_columns(entry), values, finding)
        tables.append(replace(table, about=[entry["about"], of]))
    return tables


def audit_columns(entry: Audit) -> list[Column]:
    """Return a column for each figure of an audit."""
    columns = []
    for name, its, aim in ((its["name"], its, its["forgotten"]) for its in entry["figures"].values()):
        arrow = f" → {aim:g}" if isinstance(aim, float) else reading.ARROWS.get(aim or "", "")
        unit = f" ({its['unit']})" if its["unit"] else ""
        columns.append(Column(name + unit + arrow, its["meaning"], name=name))
    return columns


def finding(value: Finding, reasons: list[str], head: str) -> str:
    """Write one figure of an audit; a failure points to its reason, which is added to `reasons` once."""
    if isinstance(value, dict) and "over" in value:
        return f">{whole(cast('Over', value)['over'])}"
    return whole(value) if isinstance(value, int) else cell(value, reasons, head)


def cell(score: Score, reasons: list[str], metric: str) -> str:
    """Write one score; a failure points to its reason, which is added to `reasons` once."""
    return "failed " + pointer(f"{metric}: {score['failed']}", reasons) if isinstance(score, dict) else figure(score)


def pointer(reason: str, reasons: list[str]) -> str:
    """Point to a reason below the table, which is added to `reasons` once."""
    if reason not in reasons:
        reasons.append(reason)
    return f"[{reasons.index(reason) + 1}]"


def _measured(
    results: Results, title: str, columns: list[Column], values: Mapping[str, list[Any]], write: Write = cell
) -> Table:
    """Tabulate the values of every solution by its id, and those of a fill under none.

    What failed is explained under the names of the columns, and a column that failed throughout has nothing else.
    """
    shown, reasons = reading.shown(results), list[str]()
    if (fill := reading.fill(results)) is not None and "" in values:
        shown.insert(1, fill)
    failed = [{_reason(values[s["id"]][place]) for s in shown if s["id"] in values} for place in range(len(columns))]
    kept = [place for place, reason in enumerate(failed) if "" in reason or len(reason) != 1]
    for place in sorted({*range(len(columns))} - {*kept}):
        pointer(f"{columns[place].whole}: {', '.join(failed[place])}", reasons)
    rows = []
    for s in shown:
        its = values.get(s["id"], [None] * len(columns))
        rows.append([s["label"], *(write(its[place], reasons, columns[place].name) for place in kept)])
    heads = [Column("solution"), *(columns[place] for place in kept)]
    return Table(title, heads, rows, [s["id"] for s in shown], reasons)


def _reason(value: Any) -> str:
    return str(value["failed"]) if isinstance(value, dict) and "failed" in value else ""


def _column(results: Results, metric: str, group: str) -> Column:
    name, unit = reading.name(results, metric), reading.unit(results, metric)
    return Column(name + f" ({unit})" * bool(unit) + reading.arrow(results, metric), "", group, name)
