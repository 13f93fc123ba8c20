"""Images that look alike: a perceptual hash of each, and the pairs whose hashes are near."""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
from imagehash import phash
from numpy.typing import NDArray
from PIL import Image

from unlearnkit.data import memo

SIDE, NEAR = 16, 38
"""A hash has SIDE² bits, one a frequency; those of one picture differ in at most NEAR (docs/data.md says how often)."""
FLAT = 2
"""Standard deviation of grey, of 255 levels, below which noise alone would tell images apart."""
BLOCK = 2048
"""Hashes that are compared with as many others at a time."""


def perceptual(image: NDArray[np.uint8]) -> bytes:
    """Return the perceptual hash of an image [3, S, S], which is empty where the image is nearly flat."""
    grey = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).convert("L")
    return b"" if np.asarray(grey).std() < FLAT else np.packbits(phash(grey, SIDE).hash).tobytes()


def alike(ours: Sequence[bytes], theirs: Sequence[bytes]) -> dict[int, int]:
    """Return which of `theirs` are nearly one of `ours`, and which one, by their places; the nearest pairs come first.

    Time grows with the product of both numbers, memory with neither. What was found is remembered.
    """
    key = "alike", SIDE, NEAR, *(hashlib.sha256(repr([*hashes]).encode()).digest() for hashes in (ours, theirs))
    if (known := memo.recall(*key)) is None:
        known = json.dumps([*_near(ours, theirs).items()]).encode()
        memo.remember(known, *key)
        memo.flush()
    return dict(json.loads(known))


def _near(ours: Sequence[bytes], theirs: Sequence[bytes]) -> dict[int, int]:
    best: dict[int, tuple[int, int]] = {}
    for mine, left in _blocks(ours):
        for yours, right in _blocks(theirs):
            apart = (SIDE**2 - right @ left.T) / 2  # whole numbers: signs that agree make 1, others -1
            nearest = apart.argmin(1)
            for row in np.flatnonzero(apart.min(1) <= NEAR):
                found = int(apart[row, nearest[row]]), mine[nearest[row]]
                best[yours[row]] = min(found, best.get(yours[row], found))
    return {place: best[place][1] for place in sorted(best, key=lambda place: (best[place], place))}


def _blocks(hashes: Sequence[bytes]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Yield the places of hashes that are not empty, and their bits as -1 and 1, some at a time."""
    places = [place for place, one in enumerate(hashes) if one]
    for start in range(0, len(places), BLOCK):
        part = places[start : start + BLOCK]
        packed = np.frombuffer(b"".join(hashes[place] for place in part), np.uint8)
        yield part, np.unpackbits(packed).reshape(len(part), -1) * np.float32(2) - 1
