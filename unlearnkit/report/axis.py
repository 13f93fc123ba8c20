"""One axis of a plot: from values to pixels, with round ticks."""

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator


@dataclass(frozen=True)
class Axis:
    """Values `low` to `high` laid over pixels `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, pad: float = 0.06) -> "Axis":
        """Return an axis that holds all values with some room; without values, 0 to 1."""
        found = list(values) or [0.0, 1.0]
        low, high = min(found), max(found)
        room = pad * (high - low or abs(high) or 1.0)
        return cls(low - room, high + room, start, end)

    def at(self, value: float) -> float:
        """Return where a value lies; one beyond the axis lies on its end."""
        share = (self.inside(value) - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * share, 1)

    def inside(self, value: float) -> float:
        """Return the nearest value on the axis."""
        return min(max(value, self.low), self.high)

    def holds(self, value: float) -> bool:
        """Tell whether a value lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Return round values on the axis: where each lies, and its text."""
        values = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        return [(self.at(v), f"{round(v, 12) + 0.0:g}".replace("-", "−")) for v in values if self.holds(float(v))]
