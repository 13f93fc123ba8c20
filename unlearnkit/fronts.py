"""How good a set of solutions is as a whole: front, hypervolume and inverted generational distance in two dimensions.

Both coordinates of a point are to be made small, as f1 and f2 are; negate what is to be made large.
"""

import math
from collections.abc import Iterable, Sequence

Point = tuple[float, float]

METHOD = "epsilon-constraint"
"""The method of both phases in results.json."""
CURVE = "front-curve"
"""What the run folder calls the front as one curve, which results.json has as its dial."""
HIGHEST, LOWEST = "boundary-highest", "boundary-lowest"
"""The solutions of phase 1 in results.json: the ends of the front of highest and of lowest completeness."""


def dominates(one: Point, other: Point) -> bool:
    """Tell whether `one` is at least as good in both coordinates and better in one of them."""
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other dominates, by their first coordinate, each once; raise `ValueError` for a NaN."""
    found: list[Point] = []
    for point in sorted(_finite(points)):  # a point is dominated by one to its left that is no higher, or by none
        if not found or point[1] < found[-1][1]:
            found.append(point)
    return found


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """Return the area that `points` dominate up to `reference` (Zitzler & Thiele 1998); 0 without a point below it.

    Its unit is that of the first coordinate times that of the second. Points that are not below the reference in both
    coordinates add nothing. Raise `ValueError` for a coordinate that is not finite.
    """
    _finite([reference])
    area, right = 0.0, reference[0]
    # From the right, each point of the front owns the strip up to its neighbour's left edge.
    for x, y in reversed(front(points)):
        if y >= reference[1]:
            break
        if x < right:
            area, right = area + (right - x) * (reference[1] - y), x
    return area


def inverted_generational_distance(points: Iterable[Point], target: Iterable[Point]) -> float:
    """Return the mean over `target` of the Euclidean distance to its nearest of `points` (Coello & Reyes 2004), IGD.

    `target` stands for the true front. Scale both coordinates alike before, or the larger one decides alone. Raise
    `ValueError` where one of the sets is empty or a coordinate is not finite.
    """
    near, wanted = _finite(points), _finite(target)
    if not near or not wanted:
        raise ValueError("a distance between fronts needs at least one point in each")
    return math.fsum(min(math.dist(point, other) for other in near) for point in wanted) / len(wanted)


def _finite(points: Iterable[Point]) -> Sequence[Point]:
    found = list(points)
    for point in found:
        if not all(map(math.isfinite, point)):
            raise ValueError(f"the point {point} of a front is not finite")
    return found
