r"""`python -m benchmarks.convergence --to FOLDER`: how fast control functions converge where the optimum is known.

The problem is convex: $h(x) = \tfrac14\lVert u\rVert^4$ of the first coordinates u of x, and
$f(x) = \tfrac12\sum_i c_i (x_i - a_i)^2$, c and a of the seed, so that the gradients are in conflict. Phase 1 is min f
s.t. h ≤ inf h, with the optimum u = 0 and a elsewhere; phase 2 is min f s.t. h ≤ ε, with
$u_i = c_i a_i / (c_i + \lambda)$ and the λ at which h is ε. Steps are x ← x − μg by the published closed form of λ,
from a point near a, without noise. Rates are of the time t = μ · steps. Each ψ is scaled so that all begin alike.

A step lowers h by ψ where λ > 0, so that $\dot h = -\psi$. In phase 2, ψ = β(h − ε)^δ, the violation is
$e^{-\beta t}$ for δ = 1 and $\sim t^{-1/(\delta-1)}$ above; below it is gone in a finite time. In phase 1,
ψ = α‖∇h‖^δ, the sum of ψ is bounded, hence min ‖∇h‖ = O(t^{-1/δ}) for any h; for this one ‖∇h‖ = (4h)^{3/4} and so
$\sim t^{-1/(\delta-4/3)}$, in a finite time where δ ≤ 4/3.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.optimize import brentq
from torch import Tensor

from unlearnkit import control
from unlearnkit.control import ClosedForm, Facts

DELTAS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
SIZE, CONSTRAINED = 12, 4
RATE, STEPS, POINTS = 0.01, 40_000, 240
EPSILON = 0.1
"""ε as a part of h at the start."""
CLOSE = {"constraint": 0.01, "objective": 0.1, "step": 0.1}
"""What h − ε (in phase 1 ‖∇h‖), |f − f*| and ‖g‖ have to come below for good, as parts of what they were at first."""
FLOOR = 1e-8
"""What is not fitted, as a part of the start: below it is rounding, or in phase 1 the bound on λ."""
STILL = 3.0
"""Of ‖∇h‖ in phase 1 what is not fitted, as a multiple of where the bound on λ ends it."""


class Form(NamedTuple):
    """A family of control functions."""

    name: str
    phase: int
    psi: Callable[..., Tensor]
    """Of h, ε, ‖∇h‖², ‖∇f‖², α or β, and δ."""
    rate: Callable[[float], float | None]
    """The exponent of t for a δ, None where it ends in a finite time; 0 for an exponential."""


def _powers(delta: float) -> float | None:
    return None if delta < 1 else -1 / (delta - 1) if delta > 1 else 0.0


FORMS = (
    Form("phase 1: α‖∇h‖^δ, published", 1, lambda h, e, n, o, a, d: control.gradient_norm(n, a, d),
         lambda delta: -1 / (delta - 4 / 3) if delta > 4 / 3 else None),
    Form("phase 2: β(h − ε)^δ, published", 2, lambda h, e, n, o, b, d: control.constraint_gap(h, e, b, d), _powers),
    Form("phase 2: β‖∇f‖‖∇h‖((h − ε)/ε)^δ, ours", 2, control.relative_gap, _powers),
)  # fmt: skip


class Convex(NamedTuple):
    """One problem a row: curvatures c [S, D] and minima a [S, D] of f, and a start [S, D] near these."""

    curvature: Tensor
    target: Tensor
    start: Tensor

    @classmethod
    def drawn(cls, seeds: Sequence[int]) -> "Convex":
        """Return the problem of each seed."""
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        unit = torch.stack([torch.rand(3, SIZE, generator=draw, dtype=torch.float64) for draw in draws])
        curvature, target = 0.5 + 1.5 * unit[:, 0], 0.5 + 0.5 * unit[:, 1]
        return cls(curvature, target, target + 0.2 * (unit[:, 2] - 0.5))

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return h, f [S], ∇h and ∇f [S, D] at x."""
        u, off = x.clone(), x - self.target
        u[:, CONSTRAINED:] = 0
        square = (u**2).sum(1)
        return square**2 / 4, (self.curvature * off**2).sum(1) / 2, square[:, None] * u, self.curvature * off

    def least(self, epsilon: Tensor) -> Tensor:
        """Return the smallest f [S] where h is at most ε [S]."""
        found = []
        for c, a, bound in zip(*(part[:, :CONSTRAINED].numpy() for part in self[:2]), epsilon.tolist(), strict=True):
            lam = brentq(lambda lam, c=c, a=a, r=(4 * bound) ** 0.5: ((c * a / (c + lam)) ** 2).sum() - r, 0, 1e12)
            found.append(float((c * (a * lam / (c + lam)) ** 2).sum() / 2))
        return torch.tensor(found, dtype=torch.float64)


def measured(form: Form, seeds: Sequence[int], deltas: Sequence[float] = DELTAS, steps: int = STEPS) -> dict[str, Any]:
    """Return the times, and by δ of each seed the constraint, the objective's gap, ‖g‖ and the time to be close."""
    one = Convex.drawn(seeds)
    problem = Convex(*(part.repeat(len(deltas), 1) for part in one))
    delta = torch.tensor(deltas, dtype=torch.float64).repeat_interleave(len(seeds))
    h, f, across, along = problem.losses(x := problem.start)
    epsilon = EPSILON * h if form.phase == 2 else 0 * h
    best, first = problem.least(epsilon if form.phase == 2 else epsilon + 1e-30), f
    facts = (h, epsilon, (across**2).sum(1), (along**2).sum(1))
    scale = (h - epsilon) / form.psi(*facts, 1.0, delta)
    constraint = facts[2].sqrt() if form.phase == 1 else h - epsilon
    begun, rule = (constraint, (first - best).abs()), ClosedForm()
    seen, shown = np.unique(np.geomspace(1, steps, POINTS).astype(int)), list[Tensor]()
    last, moved, bound = torch.zeros(len(delta), dtype=torch.int64), None, torch.tensor([*CLOSE.values()])
    for step in range(1, steps + 1):
        norm, product, objective = (across**2).sum(1), (across * along).sum(1), (along**2).sum(1)
        psi = form.psi(h, epsilon, norm, objective, scale, delta)
        lam = rule.lam(Facts(h, None, lambda *_, psi=psi: psi, norm, product, objective))
        g = along + lam[:, None] * across
        x = x - RATE * g
        h, f, across, along = problem.losses(x)
        constraint = ((across**2).sum(1).sqrt() if form.phase == 1 else (h - epsilon).abs()) / begun[0]
        gap = (f - best).abs() / begun[1]
        moved = g.norm(dim=1) if moved is None else moved
        now = torch.stack([constraint, gap, g.norm(dim=1) / moved])
        last[(now > bound[:, None]).any(0)] = step
        if step in seen:
            shown.append(now)
    curves = torch.stack(shown, dim=-1).reshape(3, len(deltas), len(seeds), -1)
    ends = last.reshape(len(deltas), len(seeds))
    floor = (along.norm(dim=1) / control.LAM_MAX / begun[0]).reshape(len(deltas), len(seeds)) * (form.phase == 1)
    return {
        "t": (RATE * seen).tolist(), "deltas": list(deltas), "seeds": list(seeds),
        "scale": scale.reshape(len(deltas), -1).tolist(), "floor": floor.tolist(),
        **{name: curve.tolist() for name, curve in zip(CLOSE, curves, strict=True)},
        "close": [[RATE * end if end < steps else None for end in row] for row in ends.tolist()],
    }  # fmt: skip


def fitted(t: Sequence[float], values: Sequence[float], floor: float, exponential: bool) -> float:
    """Return q of the C (t + s)^q, or of the C e^(q t), that is nearest in logarithms to what is above the floor."""
    kept = np.array([pair for pair in zip(t, values, strict=True) if pair[1] > max(FLOOR, STILL * floor)])
    time, value = kept[len(kept) // 2 :, 0], np.log(kept[len(kept) // 2 :, 1])
    across = [time] if exponential else [np.log(time + shift) for shift in (0.0, *np.geomspace(1e-2, 1e3, 501))]
    lines = [np.polyfit(one, value, 1, full=True) for one in across]
    return float(min(lines, key=lambda line: line[1][0])[0][0])


def rows(form: Form, found: Mapping[str, Any]) -> list[list[str]]:
    """Return by δ: the fitted rate over the seeds, that of theory, and the time to be close."""
    told = []
    for place, delta in enumerate(found["deltas"]):
        theory = form.rate(delta)
        exponential = theory == 0
        pairs = zip(found["constraint"][place], found["floor"][place], strict=True)
        known = [fitted(found["t"], *pair, exponential) for pair in pairs] if theory is not None else []
        closed = found["close"][place]
        fit = _spread(known) if known else ""
        wanted = "finite time" if theory is None else f"{theory:.3f}"
        if exponential:
            fit, wanted = f"exp({fit} t)", "exponential"
        told.append([f"{delta:g}", wanted, fit, "never" if None in closed else _spread(closed)])
    return told


def _spread(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.3g} ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else f"{mean:.3g}"


def drawn(every: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return constraint, objective and ‖g‖ of each form over t: geometric means over the seeds, in bands of all."""
    plot = Figure(figsize=(10, 3 * len(every)), layout="constrained")
    for row, (name, found) in enumerate(every.items()):
        for column, (key, title) in enumerate(zip(CLOSE, ("constraint", "f − f*", "‖g‖"), strict=True)):
            axes = plot.add_subplot(len(every), 3, 3 * row + column + 1, xscale="log", yscale="log", xlabel="t")
            axes.set_title(f"{name}\n{title}" if column == 0 else title, fontsize=8, loc="left")
            for delta, values in zip(found["deltas"], found[key], strict=True):
                each = np.maximum(np.array(values), 1e-15)
                (line,) = axes.plot(found["t"], np.exp(np.log(each).mean(0)), lw=1, label=f"δ = {delta:g}")
                axes.fill_between(found["t"], each.min(0), each.max(0), color=line.get_color(), alpha=0.2, lw=0)
            if row == column == 0:
                axes.legend(fontsize=7)
    return plot


def main() -> None:
    """Measure every form, print its table, and write numbers and figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convergence", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    every = {form.name: measured(form, given.seeds, steps=given.steps) for form in FORMS}
    for form in FORMS:
        head = ["δ", "theory: exponent of t", "fitted", "t until close"]
        table = [head, [":--", *["--:"] * 3], *rows(form, every[form.name])]
        print(f"\n## {form.name}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in table), flush=True)
    (given.to / "convergence.json").write_text(json.dumps(every) + "\n")
    drawn(every).savefig(given.to / "convergence.png", dpi=130)


if __name__ == "__main__":
    main()
