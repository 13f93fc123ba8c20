"""What the run shows, in one paragraph computed from its results."""

from unlearnkit.report import results as shape
from unlearnkit.report.numbers import figure, known, percent
from unlearnkit.report.results import Results, Solution


def verdict(results: Results) -> str:
    """Say in plain language whether each ε was met, what was forgotten and what it cost."""
    sentences = [_satisfied(results)]
    if (last := tightest(results)) is not None:
        sentences += [_losses(results, last), _pictures(results, last)]
    return " ".join(filter(None, [*sentences, _front(results), _dominated(results)]))


def tightest(results: Results) -> Solution | None:
    """Return the most complete solution that keeps its ε; without one, the highest boundary."""
    kept = [s for s in shape.epsilons(results) if s.get("satisfied")]
    bounds = [s for s in results["solutions"] if s["id"] == "boundary-highest"]
    return next(iter([*reversed(kept), *bounds]), None)


def cautions(results: Results) -> list[str]:
    """Return the run's warnings, and what else a reader must not miss."""
    found = list(results["warnings"])
    found += [f"ε = {figure(o['epsilon'], 3)} was not run: {o['reason']}." for o in results["outside"]]
    moved = [s["label"] for s in results["solutions"] if s.get("frozen_unchanged") is False]
    if moved:
        found.append(f"Weights that should have stayed frozen changed in: {', '.join(moved)}.")
    return list(dict.fromkeys(found))


def unit(results: Results, metric: str) -> str:
    """Return a metric's unit with a space before it, or nothing."""
    text = results["metrics"].get(metric, {}).get("unit")
    return f" {text}" if text else ""


def name(results: Results, metric: str) -> str:
    """Return a metric's name as people write it."""
    return str(results["metrics"].get(metric, {}).get("name", metric))


def _satisfied(results: Results) -> str:
    run = shape.epsilons(results)
    if not run:
        return "No ε was run." if results["range"] else "Phase 1 found no valid range of ε, so no ε was run."
    missed = [figure(s.get("epsilon"), 3) for s in run if not s.get("satisfied")]
    gaps = [gap for s in run if known(gap := s.get("gap"))]
    largest = f" (largest gap {percent(max(gaps))})" if gaps else ""
    tail = f"; missed: ε = {', '.join(missed)}" if missed else ""
    return f"{len(run) - len(missed)} of {len(run)} ε satisfied{largest}{tail}."


def _losses(results: Results, last: Solution) -> str:
    start = shape.original(results)
    return (
        f"From the original model to {last['label']}, the forget loss f1 {_change(start['f1'], last['f1'])} "
        f"and the retain loss f2 {_change(start['f2'], last['f2'])}."
    )


def _pictures(results: Results, last: Solution) -> str:
    start, names = shape.original(results), shape.metric_names(results)
    for metric in sorted(names, key=lambda m: m != "psnr"):  # stable: PSNR if there is one, else the first that works
        pairs = [[shape.score(s, of, "validation", "truth", metric) for s in (start, last)] for of in shape.SETS]
        if all(known(score) for pair in pairs for score in pair):
            forget, retain = (_change(*pair) + unit(results, metric) for pair in pairs)
            return (
                f"On validation images the forget set's {name(results, metric)} against the truth {forget}, "
                f"while the retain set's {retain}."
            )
    return ""


def _front(results: Results) -> str:
    found = results.get("front")
    if not found:
        return ""
    return (
        f"The front dominates {percent(found['share'], signed=False)} of the area below the original model's f1 and "
        f"the f2 of the highest completeness (hypervolume {figure(found['hypervolume'], 3)})."
    )


def _dominated(results: Results) -> str:
    ours = [s for s in results["solutions"] if s.get("phase") is not None and s.get("dominated_by")]
    labels = {s["id"]: s["label"] for s in (shape.original(results), *results["solutions"])}
    parts = [f"{s['label']} (by {', '.join(labels.get(d, d) for d in s['dominated_by'])})" for s in ours]
    return f"Dominated, so not part of the front: {'; '.join(parts)}." if parts else ""


def _change(before: object, after: object) -> str:
    first, second = figure(before, 3), figure(after, 3)
    if first == second:
        return f"stays at {first}"
    if not (known(before) and known(after)):
        return f"goes from {first} to {second}"
    return f"{'falls' if after < before else 'rises'} from {first} to {second}"
