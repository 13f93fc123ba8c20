"""The report's tables as text, so that the page and the Markdown can't disagree."""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, cast

from unlearnkit.report import results as shape
from unlearnkit.report.numbers import NONE, agreed, figure, percent, seconds, whole
from unlearnkit.report.results import Results, Score, Solution
from unlearnkit.report.verdict import name, unit


class Column(NamedTuple):
    """A column's heading, what it means, and the heading it shares with its neighbours."""

    head: str
    meaning: str = ""
    group: str = ""

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

    def groups(self) -> list[tuple[str, int]]:
        """Return the shared headings and how many columns each one spans; none where no column has one."""
        spans = [(group, len(list(columns))) for group, columns in groupby(self.columns, key=lambda c: c.group)]
        return spans if any(group for group, _ in spans) else []


READING = (
    "Arrows say which way is better. For the retain set, better scores mean better kept; "
    "for the forget set, worse scores mean more forgotten."
)
FURTHER = "The same solutions on the same validation images under tasks beside the training task, against the truth."
AUDITING = (
    "Did it really forget? Arrows point to more forgotten; the first row is what a model shows that has forgotten "
    "nothing, and a retrained one, where there is one, what a model shows that never saw the images."
)
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
    Column("ended", "why training stopped: the constraint was satisfied, or the budget of steps was spent"),
    Column("seconds", "time spent on this solution, from the manifest"),
    Column("dominated by", "solutions at least as good in both f1 and f2 and better in one"),
]


def solutions(results: Results, times: dict[str, Any]) -> Table:
    """Tabulate every solution, the original model first."""
    shown = shape.shown(results)
    rows = [_solution(s, times.get(s["id"])) for s in shown]
    return Table("Solutions", SOLUTION_COLUMNS, rows, [s["id"] for s in shown])


def scores(results: Results, of: str, split: str) -> Table:
    """Tabulate every metric of one set and split, against the truth and against the original model."""
    shown, names = shape.shown(results), shape.metric_names(results)
    keys = [(against, metric) for against in ("truth", "original") for metric in names]
    heads = [Column(_head(results, m), group=f"against the {a}{' model' * (a == 'original')}") for a, m in keys]
    reasons: list[str] = []
    rows = []
    for s in shown:
        found = [cell(shape.score(s, of, split, a, m), reasons, name(results, m)) for a, m in keys]
        rows.append([s["label"], *found])
    count = whole(results["sets"].get(of, {}).get(split))
    title = f"{of.capitalize()} set, {count} {'training' if split == 'train' else split} images"
    return Table(title, [Column("solution"), *heads], rows, [s["id"] for s in shown], reasons)


def further(results: Results) -> list[Table]:
    """Tabulate, for each further task, every metric of both sets against the truth; nothing where there are none."""
    shown, names = shape.shown(results), shape.metric_names(results)
    keys = [(of, metric) for of in shape.SETS for metric in names]
    columns = [Column("solution"), *(Column(_head(results, m), group=f"{of} set") for of, m in keys)]
    tables = []
    for entry in results.get("tasks", []) if names else []:
        measured = {"original": entry["original"], **entry["solutions"]}
        reasons: list[str] = []
        rows = []
        for s in shown:
            found = [measured.get(s["id"], {}).get(of, {}).get("truth", {}).get(m) for of, m in keys]
            texts = [cell(score, reasons, name(results, m)) for score, (_, m) in zip(found, keys, strict=True)]
            rows.append([s["label"], *texts])
        tables.append(Table(entry["label"], columns, rows, [s["id"] for s in shown], reasons))
    return tables


def audits(results: Results) -> list[Table]:
    """Tabulate what each audit found for every model; nothing where none was asked for."""
    shown = shape.shown(results)
    tables = []
    for entry in results.get("audits", []):
        figures, measured = entry["figures"], {"original": entry["original"], **entry["solutions"]}
        columns = [Column("solution"), *audit_columns(entry)]
        reasons: list[str] = []
        rows = []
        for s in shown:
            found = [(f["name"], measured.get(s["id"], {}).get(key)) for key, f in figures.items()]
            rows.append([s["label"], *(finding(value, reasons, head) for head, value in found)])
        about = [entry["about"], _of(entry)]
        tables.append(Table(entry["label"], columns, rows, [s["id"] for s in shown], reasons, about))
    return tables


def _audit_head(figure: shape.Figure) -> str:
    aim = figure["forgotten"]
    arrow = f" → {aim:g}" if isinstance(aim, float) else {"higher": " ↑", "lower": " ↓", None: ""}[aim]
    return figure["name"] + (f" ({figure['unit']})" if figure["unit"] else "") + arrow


def _of(entry: shape.Audit) -> str:
    """Say of how many images the figures are, from which seeds, and with what."""
    seeds = f"Seed{'s' * (len(entry['seeds']) > 1)} {', '.join(map(str, entry['seeds']))}."
    facts = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in entry["facts"].items())
    return " ".join(filter(None, [entry["samples"], seeds, facts and f"{facts}."]))


def audit_columns(entry: shape.Audit) -> list[Column]:
    """Return a column for each figure of an audit."""
    return [Column(_audit_head(figure), figure["meaning"]) for figure in entry["figures"].values()]


def finding(value: shape.Finding, reasons: list[str], head: str) -> str:
    """Write one figure of an audit; a failure points to its reason, which is added to `reasons` once."""
    if not isinstance(value, dict) or "over" not in value:
        return whole(value) if isinstance(value, int) else cell(value, reasons, head)
    return f">{whole(cast('shape.Over', value)['over'])}"


def cell(score: Score, reasons: list[str], metric: str) -> str:
    """Write one score; a failure points to its reason, which is added to `reasons` once."""
    if not isinstance(score, dict):
        return figure(score)
    reason = f"{metric}: {score['failed']}"
    if reason not in reasons:
        reasons.append(reason)
    return f"failed [{reasons.index(reason) + 1}]"


def _solution(s: Solution, spent: object) -> list[str]:
    return [
        s["label"],
        s["id"],
        figure(s.get("epsilon")),
        percent(s.get("fraction"), signed=False),
        figure(s["f1"]),
        percent(s.get("gap")),
        percent(landing["gap"]) if (landing := s.get("landing")) else NONE,
        agreed(s.get("satisfied")),
        figure(s["f2"]),
        figure(s.get("residual")),
        figure(s.get("lam")),
        whole(s.get("steps")),
        s.get("ended") or NONE,
        seconds(spent),
        ", ".join(s.get("dominated_by") or []) or NONE,
    ]


def _head(results: Results, metric: str) -> str:
    arrow = {"higher": " ↑", "lower": " ↓"}.get(results["metrics"].get(metric, {}).get("better", ""), "")
    measure = unit(results, metric)
    return name(results, metric) + (f" ({measure.strip()})" if measure else "") + arrow
