"""From where a rule ends to ε itself, along lines on which f1 is looked at on the forget set.

That is the whole set, or the images of `training.look`, and ε is met there.
"""

import scipy  # whose packages are imported when they are used
import torch
from torch import Tensor
from torch.optim import Optimizer

from unlearnkit.control import dot
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.problem import End, gap
from unlearnkit.solver.side import Side

LANDED = 0.002
"""Largest relative gap of a point that is looked for on a line between two solutions."""

RESTORATIONS = 4
"""Steps down the gradient of f1 that landing from above takes before it turns to the highest completeness."""

LEAST_SCALE = 0.01
"""Part of the optimiser's mean scale of a gradient that no coordinate's scale is taken to be below."""

LOOKS = 20
"""Looks at the whole forget set after which the search on a line ends where it is."""


def between(flat: Flat, forget: Side, low: End, high: End, epsilon: float) -> Tensor:
    """Return the point between two weight vectors where f1 on the whole forget set is ε, to `LANDED` of it.

    f1 is at most ε at `low` and at least ε at `high`; where it is not, the end that is nearer to ε is returned.
    Brent's method takes two or three looks at the set, as f1 is nearly a straight line between two solutions.
    """

    def relative(f1: float) -> float:
        off = gap(f1, epsilon)
        return 0.0 if abs(off) <= LANDED else off

    gaps = {0.0: relative(low[1]), 1.0: relative(high[1])}

    def at(share: float) -> float:
        if share not in gaps:
            flat.set(torch.lerp(low[0], high[0], share))
            gaps[share] = relative(forget.seen()[0])
        return gaps[share]

    if gaps[0.0] < 0 < gaps[1.0]:
        scipy.optimize.brentq(at, 0.0, 1.0, maxiter=LOOKS, disp=False)
    nearest = min(gaps, key=lambda share: abs(gaps[share]))
    return torch.lerp(low[0], high[0], nearest)


def land(
    flat: Flat, forget: Side, retain: Side, optimizer: Optimizer, epsilon: float, highest: End, lowest: End
) -> dict[str, float | bool]:
    r"""Move along a line to where f1 on the whole forget set is ε; return f1 and gap before, and whether it moved.

    $$\theta \leftarrow \theta + t(\theta_b - \theta),\qquad f_1(\theta + t(\theta_b - \theta)) = \epsilon,$$

    from below ε with the lowest completeness as θ_b, and from above as in `_lowered`. It stays where it is at ε to
    `LANDED`, and from below where f2 would not fall.
    """
    here = (flat.theta.detach().clone(), forget.seen()[0])
    off = gap(here[1], epsilon)
    moved = abs(off) > LANDED
    if moved and off > 0:
        flat.set(_lowered(flat, forget, optimizer, epsilon, here, highest))
    elif moved:
        f2 = retain.seen()[0]
        flat.set(between(flat, forget, here, lowest, epsilon))
        moved = retain.seen()[0] < f2
        if not moved:
            flat.set(here[0])
    return {"f1": here[1], "gap": off, "moved": moved}


def _lowered(flat: Flat, forget: Side, optimizer: Optimizer, epsilon: float, here: End, highest: End) -> Tensor:
    r"""Return weights near `here` where f1 on the whole forget set is ε, which is below f1 there.

    Steps of feasibility restoration, each the shortest in the optimiser's metric that reaches ε to first order,

    $$\theta \leftarrow \theta - \frac{f_1 - \epsilon}{\nabla f_1^\top D\nabla f_1}D\nabla f_1,\qquad
      D = 1/\sqrt{v},$$

    with v the optimiser's mean of squared gradients, or D = 1 without one; where f1 does not fall, the line to the
    highest completeness. Both end by a search on the line between the last two points.
    """
    squares = optimizer.state[flat.theta].get("exp_avg_sq")
    scale = torch.ones_like(flat.theta) if squares is None else squares.sqrt()
    scale = scale + LEAST_SCALE * scale.mean()
    for _ in range(RESTORATIONS):
        _, gradient = forget.look().gradient(flat, 1)
        steep = gradient / scale
        flat.set(here[0] - (here[1] - epsilon) / dot(gradient, steep).to(steep.dtype) * steep)
        ahead = flat.theta.detach().clone(), forget.seen()[0]
        if not ahead[1] < here[1]:
            break
        if gap(ahead[1], epsilon) <= LANDED:
            return between(flat, forget, ahead, here, epsilon)
        here = ahead
    return between(flat, forget, highest, here, epsilon)
