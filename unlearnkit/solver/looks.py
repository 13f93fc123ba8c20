"""What a look at some of a set's images tells of all of them."""

import torch
from scipy.special import stdtrit
from torch import Tensor

PARTS = 16
"""Random parts at least, from whose differences an interval is made; a part is one image at least."""
LEVEL = 0.95
"""How often an interval covers the value of the whole set."""


def parted(rows: Tensor, most: int) -> tuple[Tensor, ...]:
    """Return rows that were drawn at random in `PARTS` parts at least, of at most so many rows each."""
    return rows.tensor_split(min(len(rows), max(PARTS, -(-len(rows) // most))))


def half_width(means: Tensor, sizes: Tensor, count: int) -> float:
    r"""Return the half-width of a mean over `count` images, from the means over random parts of n of them.

    $$t_{G-1}\sqrt{\Big(1-\frac nN\Big)\frac1n\,\frac1{G-1}\sum_{g=1}^G n_g(\bar x_g-\bar x)^2},$$

    with n_g images in each of the G parts, N in all, and Student's t (Cochran, Sampling Techniques, 1977, ch. 2).
    """
    seen, freedom = sizes.sum(), len(sizes) - 1
    mean = (sizes * means).sum() / seen
    variance = (sizes * (means - mean) ** 2).sum() / freedom
    quantile = stdtrit(freedom, (1 + LEVEL) / 2)
    return float(quantile * torch.sqrt((1 - seen / count) * variance / seen))
