"""All randomness: generators and batches as pure functions of what they are for."""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor


def seeded(*purpose: object) -> torch.Generator:
    """Return a CPU generator whose seed is a hash of `purpose`, such as (seed, phase, step, "noise")."""
    digest = hashlib.sha256(repr(purpose).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@lru_cache(maxsize=4)
def _permutation(count: int, *purpose: object) -> Tensor:
    return torch.randperm(count, generator=seeded(*purpose))


def batch_index(step: int, count: int, size: int, *purpose: object) -> Tensor:
    """Return the rows of batch `step`, `size` out of `count`: epochs follow one another without a gap."""
    size = min(size, count)
    places = range(step * size, (step + 1) * size)
    rows = [_permutation(count, *purpose, place // count)[place % count] for place in places]
    return torch.stack(rows)
