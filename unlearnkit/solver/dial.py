"""Any ε without training: its point on the way from the highest completeness to the original model.

The way is the curve that was trained as a whole, or the polyline through what was solved ε by ε, on which f1 is nearly
straight between neighbours. It ends at the original model: whoever holds it holds the original.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import scipy  # whose packages are imported when they are used
import torch
from torch import Tensor

from unlearnkit.fronts import front
from unlearnkit.solver.curve import at, bernstein
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.landing import LANDED, LOOKS
from unlearnkit.solver.origin import digest
from unlearnkit.solver.problem import Solution, gap
from unlearnkit.solver.side import Side

NOTICE = (
    "This leads back to the original model, forget set included: keep it with the original, and publish the exported "
    "model of one ε alone."
)
"""What the file of a dial says."""


@dataclass(frozen=True)
class Dial:
    """A way θ(t) through weights on which f1 rises from the highest completeness, t = 0, to the original, t = 1."""

    kind: Literal["curve", "polyline"]
    at: Callable[[float], Tensor]
    """Return θ(t)."""
    reach: Callable[[float], float]
    """Return how much of a step of the points that were trained reaches θ(t): Σ w², w being their weights there."""
    knots: Sequence[tuple[float, float]]
    """f1 on the whole forget set at places over t, from 0 to 1."""
    digest: str
    """The hash of all that it was computed from."""

    @property
    def range(self) -> tuple[float, float]:
        """f1 at its tightest place and at its loosest, the original model."""
        return min(f1 for _, f1 in self.knots), self.knots[-1][1]

    def rate(self, epsilon: float) -> float:
        """Return the factor of the learning rate for steps from ε on, as long as those that led there.

        f2 falls towards the original model, and whole steps would cost more of it than a few of them win back.
        """
        for (a, low), (b, high) in reversed(list(pairwise(self.knots))):
            if low <= epsilon:
                return self.reach(b if high <= epsilon else a + (b - a) * (epsilon - low) / (high - low))
        return self.reach(self.knots[0][0])

    def find(self, flat: Flat, forget: Side, epsilon: float) -> float:
        """Return the loosest t where f1 on the whole forget set is ε, to `LANDED` of it, or else the nearest to it."""

        def off(f1: float) -> float:
            found = gap(f1, epsilon)
            return 0.0 if abs(found) <= LANDED else found

        seen = {t: off(f1) for t, f1 in self.knots}

        def look(t: float) -> float:
            if t not in seen:
                flat.set(self.at(t))
                seen[t] = off(forget.seen()[0])
            return seen[t]

        around = [(a, b) for (a, _), (b, _) in pairwise(self.knots) if seen[a] < 0 < seen[b]]
        if around and 0.0 not in seen.values():
            scipy.optimize.brentq(look, *around[-1], maxiter=LOOKS, disp=False)
        return max(seen, key=lambda t: (-abs(seen[t]), t))


def of_curve(curve: Solution, original: Tensor) -> Dial:
    """Return the dial of a curve that was trained."""
    degree = len(curve.theta) // len(original)

    def reach(t: float) -> float:
        return sum(weight**2 for weight in bernstein(degree, t)[:-1])

    return Dial("curve", partial(at, curve.theta, original), reach, curve.facts["table"], curve.digest)


def through(solutions: Sequence[Solution], original: Tensor, f1: float) -> Dial:
    """Return the dial through the solutions of both phases that no other dominates, to the original model, at `f1`.

    t is the place of f1 between both ends. Where none has a lower f1 than the original model, that is all there is.
    """
    corners = front([*((one.last.f1, one.last.f2) for one in solutions), (f1, 0.0)])
    ours = {(one.last.f1, one.last.f2): one for one in solutions if one.last.f1 < f1}
    ways = [ours[corner] for corner in corners if corner in ours]
    if not ways:
        return Dial("polyline", lambda t: original, lambda t: 0.0, [(0.0, f1), (1.0, f1)], digest([f1]))
    ends = [*((one.last.f1, one.theta) for one in ways), (f1, original)]
    least = ends[0][0]
    knots = [((value - least) / (f1 - least), value) for value, _ in ends]
    places = torch.tensor([t for t, _ in knots], dtype=torch.float64)

    def spot(t: float) -> tuple[int, float]:
        place = min(int(torch.searchsorted(places, t, right=True)), len(places) - 1)
        (a, _), (b, _) = knots[place - 1], knots[place]
        return place, (t - a) / (b - a)

    def on_line(t: float) -> Tensor:
        place, share = spot(t)
        return torch.lerp(ends[place - 1][1], ends[place][1], share)

    def reach(t: float) -> float:
        place, share = spot(t)
        return (1 - share) ** 2 + (share**2 if place < len(ways) else 0.0)

    return Dial("polyline", on_line, reach, knots, digest([one.digest for one in ways]))
