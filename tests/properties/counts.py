"""How many cases are drawn: as many as are promised with `make properties`, a sample of them in the suite."""

import os

WHOLE = os.environ.get("PROPERTIES") == "whole"


def cases(whole: int, sample: int) -> range:
    """Return the seeds of the cases."""
    return range(whole if WHOLE else sample)


def told(broken: list[str], count: int) -> str:
    """Return what does not hold, for an assertion."""
    return "\n".join([f"{len(broken)} of {count} cases do not hold", *broken[:20]])
