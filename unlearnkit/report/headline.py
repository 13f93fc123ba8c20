"""What was achieved, in two plain sentences: from the scores, from what they are held against, and from the audits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import stdev
from typing import cast

from unlearnkit.report import limits, reading
from unlearnkit.report.numbers import figure, known, listed_words, percent, rounded
from unlearnkit.report.shape import Figure, Finding, Limit, Over, Results, Solution
from unlearnkit.report.tables import INTERVAL

TELLS = 0.02
"""A metric tells a difference that is more than this part of the original model's score."""
GONE, PART = 0.75, 0.25
"""Shares of what the original model shows beyond a fill that are lost where a set no longer comes back, or in part."""
HIDDEN = "come back", "no longer come back", "no longer show in the outputs", "come back in part", "still come back"
WHOLE = "are restored", "are no longer restored", "are not restored", "are restored in part", "are still restored"
"""What is said of images of which a part was hidden, and of those that were degraded as a whole, which always show:
the question, gone, gone from the outputs alone, gone in part, and not gone."""
SAME, NEAR = 40.0, 30.0
"""PSNR between two pictures in dB: lossy compression that nobody notices keeps 40, one that is good 30."""


@dataclass(frozen=True)
class Held:
    """One set's score by one metric under a solution, and what it is held against."""

    metric: str
    split: str
    unit: str
    sign: int
    """1 where more is better, −1 where less is."""
    original: float
    now: float
    fill: float | None
    retrained: float | None
    error: float | None
    """Standard error of the difference of the first two over images."""

    @property
    def lost(self) -> float | None:
        """Share of what the original model has over a fill, or a retrained model; None where the metric can't tell."""
        least = self.retrained if self.fill is None else self.fill
        if least is None or (span := self.sign * (self.original - least)) <= TELLS * abs(self.original):
            return None
        return self.sign * (self.original - self.now) / span

    def text(self, value: float) -> str:
        """Write a score of its kind with the digits that the difference resolves."""
        return f"{rounded(value, self.error)} {self.unit}".rstrip()

    def change(self) -> str:
        """Write what became of the original model's score."""
        return f"{rounded(self.original, self.error)} → {self.text(self.now)}"


def held(results: Results, solution: Solution, of: str, metric: str) -> Held | None:
    """Hold a set's score against the others, on validation images where there are some; None where one is lacking."""
    sign = {"higher": 1, "lower": -1}.get(results["metrics"][metric].get("better", ""))
    # What the retain set scores under a retrained model is nothing to lose it down to.
    gold = _gold(results, solution["id"]) if of == "forget" else []
    for split in reading.splits(results) if sign else ():
        original, now = (reading.score(s, of, split, "truth", metric) for s in (reading.original(results), solution))
        if known(original) and known(now):
            fill, retrained = (
                reading.yardstick([reading.score(s, of, split, "truth", metric) for s in models if s])
                for models in ([reading.fill(results)], gold)
            )
            error = _error(results, solution, of, metric) if split == reading.seen(results, of) else None
            unit = reading.unit(results, metric)
            return Held(metric, split, unit, sign or 1, original, now, fill, retrained, error)
    return None


def telling(results: Results, solution: Solution) -> tuple[Held, Held] | None:
    """Hold both sets by the first metric that tells the original model's forget images from a fill, or by the first."""
    pairs = ([held(results, solution, of, metric) for of in ("forget", "retain")] for metric in results["metrics"])
    found = [(forget, retain) for forget, retain in pairs if forget and retain]
    return next((pair for pair in found if pair[0].lost is not None), next(iter(found), None))


def headline(results: Results, solution: Solution) -> str:
    """Say what of the forget set still comes back under a solution, what audits find, and what the others lost."""
    if solution["id"] == "original":
        return "Nothing was forgotten: there is no solution beside the original model."
    if (pair := telling(results, solution)) is None:
        return f"No metric says whether {_who(results)} come back: look at the pictures{_audited(results, solution)}."
    forget, retain = pair
    first = _forgotten(results, solution, forget) + _audited(results, solution)
    judged = f" {limits.said(entries, solution['id'])}" if (entries := _limits(results)) else ""
    return f"{first[:1].upper()}{first[1:]}. {_kept(results, solution, retain)}{judged}"


def against(results: Results, solution: Solution) -> list[str]:
    """Return the findings of audits that speak against a solution."""
    spoken = speaking(results, solution["id"])
    found = _figures(results, solution["id"])
    return [_told(audit, its, values) for audit, key, its, values in found if (audit, key) in spoken]


def speaking(results: Results, model: str) -> set[tuple[str, str]]:
    """Return the figures of audits that speak against a model of an id, each by its audit and its name there.

    They break a limit of the recipe, or are farther from a retrained model's, or else from the value that stands for
    one, than chance allows, or where that is not known than half of the original model's. Without either they are no
    farther than the original model's.
    """
    every = ((limit["figure"], {"original": limit["original"], **limit["solutions"]}) for limit in _limits(results))
    broken = {its for its, of in every if of[model]["kept"] is False}
    return {
        (audit, key)
        for audit, key, its, values in _figures(results, model)
        if f"{audit}/{key}" in broken or (its["forgotten"] is not None and _speaks(its, *map(_number, values)))
    }


def _limits(results: Results) -> list[Limit]:
    return results.get("limits", [])


def _speaks(its: Figure, now: float | None, original: float | None, least: float | None) -> bool:
    if now is None:
        return False
    aim = its["forgotten"]
    if isinstance(aim, float):  # a trace shows on both sides of it, or above it alone
        least = aim if least is None else least
        far = now - least if its.get("one_sided") else abs(now - least)
        chance = its.get("chance") or (None if original is None else abs(original - least) / 2)
        return chance is not None and far > chance
    if original is None:
        return False
    if least is None:
        return now >= original if aim == "lower" else now <= original
    return (now - least) * (original - least) > (original - least) ** 2 / 2


def _figures(results: Results, model: str) -> Iterator[tuple[str, str, Figure, list[Finding]]]:
    """Return the figures of audits, with what was found of the model, the original and the retrained ones."""
    gold = _gold(results, model)
    for entry in results.get("audits", []):
        every = {"original": entry["original"], **entry["solutions"]}
        rows = [every.get(model, {}), every["original"]]
        for key, its in entry["figures"].items():
            least = _least([every.get(s["id"], {}).get(key) for s in gold])
            yield entry["id"], key, its, [*(row.get(key) for row in rows), least]


def _gold(results: Results, model: str) -> list[Solution]:
    """Return the retrained models that one of an id is held against: the others, and itself where it is alone."""
    return reading.retrained(results, model) or reading.retrained(results)


def _least(values: list[Finding]) -> Finding:
    """Return the mean of what an audit found of retrained models, of which bounds are the least that it can be."""
    mean = reading.yardstick([*map(_number, values)])
    if len(values) == 1 or mean is None:
        return values[0] if len(values) == 1 else None
    return cast("Over", {"over": mean}) if any(isinstance(value, dict) for value in values) else mean


def _audited(results: Results, solution: Solution) -> str:
    # An audit that could not be built has one figure without a name, which is its reason.
    every = [one for one in _figures(results, solution["id"]) if one[2]["forgotten"] is not None or not one[1]]
    if said := against(results, solution):
        more = f", and {len(said) - 1} more figures" if len(said) > 1 else ""
        return f"; but audits speak against calling them forgotten: {said[0]}{more}"
    found = [one for one in every if _number(one[3][0]) is not None]
    telling = speaking(results, "original")
    if first := next((one for one in found if one[2].get("one_sided") or one[:2] in telling), None):
        return f"; no audit speaks against it: {_told(first[0], *first[2:])}"
    if found:
        return "; no audit speaks against it, and none against the original model either, so that they tell nothing"
    if any(values[0] is not None for *_, values in every):
        return "; the audits of what the weights still hold failed"
    return "; no audit looked for what the weights still hold"


def _told(label: str, its: Figure, values: list[Finding]) -> str:
    now, original, least = values
    marks = [f"original {_finding(original)}"]
    if _number(least) is not None:
        marks.append(f"retrained {_finding(least)}")
    if isinstance(aim := its["forgotten"], float):
        marks.append(f"without a trace {aim:g}" + (f" ± {chance:.2f}" if (chance := its.get("chance")) else ""))
    unit = f" {its['unit']}".rstrip()
    return f"{label}, {its['name']} {_finding(now)}{unit} ({', '.join(marks)})"


def _number(value: Finding) -> float | None:
    if isinstance(value, dict):
        return float(cast("Over", value)["over"]) if "over" in value else None
    return value if known(value) else None


def _finding(value: Finding) -> str:
    number = _number(value)
    return f">{number:g}" if isinstance(value, dict) and number is not None else figure(value, 3)


def _forgotten(results: Results, solution: Solution, its: Held) -> str:
    who, name = _who(results), reading.name(results, its.metric)
    whole = _label(results) == "input as it is"
    come, gone, unseen, partly, still = WHOLE if whole else HIDDEN
    marks = f"{name}: {its.change()}{_marks(results, its)}"
    if (lost := its.lost) is None:
        return f"{name} alone does not tell whether {who} {come} ({marks}); {_seen(results, solution, 'forget')}"
    least = f"the {_label(results)}" if its.fill is not None else "a retrained model"
    part = "all" if lost >= 1 else "nothing" if lost <= 0 else percent(round(lost, 2), signed=False)
    said = f"of what the original model shows of them beyond {least}, {part} is gone ({marks})"
    if lost < GONE:
        gone = partly if lost >= PART else still
    elif against(results, solution):
        gone = unseen
    seen = f"; {_seen(results, solution, 'forget')}" if whole or lost < PART else ""
    return f"{who} {gone}: {said}{seen}"


def _kept(results: Results, solution: Solution, its: Held) -> str:
    classes = _apart(results)[1]
    who = f"The other classes ({listed_words(classes)})" if classes else "The retained images"
    loss = its.sign * (its.original - its.now)
    marks = its.change() + _marks(results, its)
    if loss <= INTERVAL * (its.error or 0.0):
        count = results["sets"].get("retain", {}).get(its.split)
        seen = f" that {count} images can show" if its.error and count else ""
        said = f"{who} lost nothing{seen} ({marks})"
    else:
        around = f" ± {rounded(INTERVAL * its.error, its.error)}" if its.error else ""
        share = f", {percent(round(its.lost, 2), signed=False)} of what they had" if its.lost is not None else ""
        much = " suffer too: they" if (its.lost or 0.0) >= PART else ""
        said = f"{who}{much} lost {rounded(loss, its.error)}{around} {its.unit}".rstrip() + f"{share} ({marks})"
    return f"{said}; {_seen(results, solution, 'retain')}." if its.lost is None else f"{said}."


def _marks(results: Results, its: Held) -> str:
    several = len(reading.retrained(results)) > 1
    marks = [(_label(results), its.fill), ("mean of retrained models" if several else "retrained model", its.retrained)]
    return "".join(f"; {label} {its.text(value)}" for label, value in marks if value is not None)


def _seen(results: Results, solution: Solution, of: str) -> str:
    """Say how far pictures moved, as a person sees it: by the first metric in dB between them and the original's."""
    for metric in (metric for metric in results["metrics"] if reading.unit(results, metric) == "dB"):
        for split in reading.splits(results):
            if known(between := reading.score(solution, of, split, "original", metric)):
                look = "like" if between >= SAME else "almost like" if between >= NEAR else "visibly other than"
                return f"to the eye they look {look} the original model's ({figure(between, 3)} dB between them)"
    return "look at the pictures"


def _error(results: Results, solution: Solution, of: str, metric: str) -> float | None:
    singles = reading.singles(results, of)
    if singles is None or (its := results.get("each")) is None or (its["metric"], its["against"]) != (metric, "truth"):
        return None
    pair = [singles["scores"].get(key) for key in ("original", solution["id"])]
    if not (pair[0] and pair[1]) or len(pair[0]) < 2:
        return None
    return stdev(b - a for a, b in zip(*pair, strict=True)) / math.sqrt(len(pair[0])) or None


def _who(results: Results) -> str:
    return listed_words(classes) if (classes := _apart(results)[0]) else "the images of the forget set"


def _apart(results: Results) -> list[list[str]]:
    """Return the classes of both sets; none where they share one or are too many to be told."""
    both = [[str(label) for label in results["sets"].get(of, {}).get("classes") or []] for of in ("forget", "retain")]
    told = all(0 < len(classes) <= 4 for classes in both) and not set.intersection(*map(set, both))
    return both if told else [[], []]


def _label(results: Results) -> str:
    return results["fill"]["label"] if "fill" in results else ""
