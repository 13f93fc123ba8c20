"""What the run shows, in one paragraph computed from its results, and which solution to look at first."""

from typing import Any

from unlearnkit.fronts import HIGHEST
from unlearnkit.report import reading
from unlearnkit.report.headline import PART, held
from unlearnkit.report.numbers import figure, known, percent
from unlearnkit.report.shape import SETS, Results, Solution

LITTLE = 0.1
"""Share of what the original model shows of the retain set beyond a fill that may be lost: 0.3 dB of 3 dB."""


def verdict(results: Results) -> str:
    """Say in plain language whether each ε was met, what was forgotten and what it cost."""
    sentences = [_satisfied(results), *_aimed(results)]
    if (last := tightest(results)) is not None:
        sentences.append(_changed(results, last))
    if front := results.get("front"):
        sentences.append(
            f"The front dominates {percent(front['share'], signed=False)} of the area below the original model's f1 "
            f"and the f2 of the highest completeness (hypervolume {figure(front['hypervolume'], 3)})."
        )
    labels = {s["id"]: s["label"] for s in reading.shown(results)}
    ours = [s for s in results["solutions"] if s.get("phase") is not None and s.get("dominated_by")]
    if dominated := [f"{s['label']} (by {', '.join(labels.get(d, d) for d in s['dominated_by'])})" for s in ours]:
        sentences.append(f"Dominated, so not part of the front: {'; '.join(dominated)}.")
    return " ".join(sentences)


def tightest(results: Results) -> Solution | None:
    """Return the most complete solution that keeps an ε that was given; without one, the highest boundary."""
    kept = [s for s in reading.epsilons(results) if s.get("satisfied") and "target" not in s]
    return next(iter([*reversed(kept), *(s for s in results["solutions"] if s["id"] == HIGHEST)]), None)


def recommended(results: Results) -> tuple[Solution, str]:
    """Return the solution to look at first, and why it is that one, in one sentence.

    It is the first target that is met, else the ε that takes most from the forget set of those that take little from
    the retain set, by a metric that tells both from a fill, else the bend of the front, else the most complete one.
    """
    if met := [s for s in reading.targets(results) if s["target"]["met"]]:
        first = met[0]
        return first, f"Start with “{first['label']}”: it is the first of the targets that are met."
    if (apart := _apart(results)) is not None:
        return apart
    if (bent := _bend(results)) is not None:
        first, *ends = bent
        chord = " and ".join(s["label"] for s in ends)
        why = f"the bend of the front, farthest below the line between {chord}, with both losses scaled to these ends"
    elif (last := tightest(results)) is not None:
        first, why = last, "the most complete one" + " that keeps its ε" * bool(last.get("satisfied"))
    else:
        first, why = reading.original(results), "there is no other model along this trade-off"
    return first, f"Start with {first['label']}: {why}."


def _apart(results: Results) -> tuple[Solution, str] | None:
    """Return the ε that takes most from the forget set and little from the other, and why; None where none does."""
    for metric in results["metrics"] if "fill" in results else ():
        found = list[tuple[float, float, Solution]]()
        for s in (s for s in reading.epsilons(results) if s.get("satisfied") and "target" not in s):
            pair = (held(results, s, "forget", metric), held(results, s, "retain", metric))
            gone, lost = (max(its.lost, 0.0) if its and its.lost is not None else None for its in pair)
            if gone is not None and lost is not None and gone >= PART and lost <= LITTLE:
                found.append((gone, lost, s))
        if found:
            gone, lost, s = max(found, key=lambda one: one[0])  # of equals the looser
            shares = [percent(round(share, 2), signed=False) for share in (gone, lost, LITTLE)]
            return s, (
                f"Start with {s['label']}: it takes most from the forget set, {shares[0]} of what the original model "
                f"has over the {results['fill']['label']}, of all that take at most {shares[2]} from the retain set; "
                f"it takes {shares[1]} ({reading.name(results, metric)})."
            )
    return None


def _bend(results: Results) -> tuple[Solution, Solution, Solution] | None:
    """Return the ε that keeps farthest below the chord of all that are kept, and its ends; None where none is below."""
    kept = [
        (s, f1, f2)
        for s in reading.epsilons(results)
        if s.get("satisfied") and "target" not in s and known(f1 := s["f1"]) and known(f2 := s["f2"])
    ]
    if len(kept) < 3:
        return None
    (loose, right, low), (tight, left, high) = kept[0], kept[-1]
    if not (left < right and low < high):
        return None
    # With both axes scaled to the ends, the chord is where both coordinates add up to 1.
    below = [round(1 - (f1 - left) / (right - left) - (f2 - low) / (high - low), 9) for _, f1, f2 in kept]
    best = below.index(max(below))  # of equals the looser
    return (kept[best][0], loose, tight) if below[best] > 0 else None


def cautions(results: Results, manifest: dict[str, Any]) -> list[str]:
    """Return the warnings of the results and of the run that led to them, and what else a reader must not miss."""
    lines = [*results["warnings"], *manifest.get("warnings", [])]
    lines += [f"ε = {figure(o['epsilon'], 3)} was not run: {o['reason']}." for o in results["outside"]]
    if moved := [s["label"] for s in results["solutions"] if s.get("frozen_unchanged") is False]:
        lines.append(f"Weights that should have stayed frozen changed in: {', '.join(moved)}.")
    return list(dict.fromkeys(lines))


def _satisfied(results: Results) -> str:
    if not (run := [s for s in reading.epsilons(results) if "target" not in s]):
        return "No ε was run." if results["range"] else "Phase 1 found no valid range of ε, so no ε was run."
    missed = [figure(s.get("epsilon"), 3) for s in run if not s.get("satisfied")]
    gaps = [gap for s in run if known(gap := s.get("gap"))]
    largest = f" (largest gap {percent(max(gaps))})" if gaps else ""
    tail = f"; missed: ε = {', '.join(missed)}" if missed else ""
    return f"{len(run) - len(missed)} of {len(run)} ε satisfied{largest}{tail}."


def _aimed(results: Results) -> list[str]:
    """Say how many targets are met, and which are not; nothing where there are none."""
    if not (targets := [s["target"] for s in reading.targets(results)]):
        return []
    missed = [target["label"] for target in targets if not target["met"]]
    tail = f"; not met: {'; '.join(missed)}" if missed else ""
    return [f"{len(targets) - len(missed)} of {len(targets)} targets met{tail}."]


def _changed(results: Results, last: Solution) -> str:
    """Tell it by the losses, and by the first metric that worked for both models on both sets."""
    start = reading.original(results)
    said = (
        f"From the original model to {last['label']}, the forget loss f1 {_change(start['f1'], last['f1'])} "
        f"and the retain loss f2 {_change(start['f2'], last['f2'])}."
    )
    for metric in results["metrics"]:
        halves = [(of, reading.seen(results, of)) for of in SETS]
        pairs = [[reading.score(s, of, half, "truth", metric) for s in (start, last)] for of, half in halves]
        if all(known(score) for pair in pairs for score in pair):
            forget, retain = (f"{_change(*pair)} {reading.unit(results, metric)}".rstrip() for pair in pairs)
            on, other = (reading.seen_images(results, of) for of in SETS)
            return (
                f"{said} On {on} the forget set's {reading.name(results, metric)} against the truth {forget}, "
                f"while the retain set's {retain}{f' on {other}' * (on != other)}."
            )
    return said


def _change(before: object, after: object) -> str:
    first, second = figure(before, 3), figure(after, 3)
    if first == second:
        return f"stays at {first}"
    if not (known(before) and known(after)):
        return f"goes from {first} to {second}"
    return f"{'falls' if after < before else 'rises'} from {first} to {second}"
