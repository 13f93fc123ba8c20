"""What the run shows, in one paragraph computed from its results."""

from typing import Any

from unlearnkit.fronts import HIGHEST
from unlearnkit.report import reading
from unlearnkit.report.numbers import figure, known, percent
from unlearnkit.report.shape import SETS, Results, Solution


def verdict(results: Results) -> str:
    """Say in plain language whether each ε was met, what was forgotten and what it cost."""
    sentences = [_satisfied(results)]
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
    """Return the most complete solution that keeps its ε; without one, the highest boundary."""
    kept = [s for s in reading.epsilons(results) if s.get("satisfied")]
    return next(iter([*reversed(kept), *(s for s in results["solutions"] if s["id"] == HIGHEST)]), None)


def cautions(results: Results, manifest: dict[str, Any]) -> list[str]:
    """Return the warnings of the results and of the run that led to them, and what else a reader must not miss."""
    lines = [*results["warnings"], *manifest.get("warnings", [])]
    lines += [f"ε = {figure(o['epsilon'], 3)} was not run: {o['reason']}." for o in results["outside"]]
    if moved := [s["label"] for s in results["solutions"] if s.get("frozen_unchanged") is False]:
        lines.append(f"Weights that should have stayed frozen changed in: {', '.join(moved)}.")
    return list(dict.fromkeys(lines))


def _satisfied(results: Results) -> str:
    if not (run := reading.epsilons(results)):
        return "No ε was run." if results["range"] else "Phase 1 found no valid range of ε, so no ε was run."
    missed = [figure(s.get("epsilon"), 3) for s in run if not s.get("satisfied")]
    gaps = [gap for s in run if known(gap := s.get("gap"))]
    largest = f" (largest gap {percent(max(gaps))})" if gaps else ""
    tail = f"; missed: ε = {', '.join(missed)}" if missed else ""
    return f"{len(run) - len(missed)} of {len(run)} ε satisfied{largest}{tail}."


def _changed(results: Results, last: Solution) -> str:
    """Tell it by the losses, and by the first metric that worked for both models on both sets."""
    start = reading.original(results)
    said = (
        f"From the original model to {last['label']}, the forget loss f1 {_change(start['f1'], last['f1'])} "
        f"and the retain loss f2 {_change(start['f2'], last['f2'])}."
    )
    for metric in results["metrics"]:
        pairs = [[reading.score(s, of, "validation", "truth", metric) for s in (start, last)] for of in SETS]
        if all(known(score) for pair in pairs for score in pair):
            forget, retain = (f"{_change(*pair)} {reading.unit(results, metric)}".rstrip() for pair in pairs)
            return (
                f"{said} On validation images the forget set's {reading.name(results, metric)} against the truth "
                f"{forget}, while the retain set's {retain}."
            )
    return said


def _change(before: object, after: object) -> str:
    first, second = figure(before, 3), figure(after, 3)
    if first == second:
        return f"stays at {first}"
    if not (known(before) and known(after)):
        return f"goes from {first} to {second}"
    return f"{'falls' if after < before else 'rises'} from {first} to {second}"
