"""What a set of images is as a whole: its colours, and its hash as it was."""

import hashlib
import json
from collections.abc import Iterable

import torch
from torch import Tensor

from unlearnkit.contracts import Statistics
from unlearnkit.data import memo
from unlearnkit.data.pixels import CHUNK, Pixels


def _parts(images: Tensor | Pixels) -> Iterable[Tensor]:
    return images.chunks() if isinstance(images, Pixels) else images.split(CHUNK)


def whole_digest(pixels: Pixels) -> str:
    """Return the SHA-256 of all pixels of a set and that of its targets: what 0.2.0 took in place of its `digest`."""
    hashed = hashlib.sha256()
    for part in pixels.chunks():
        hashed.update(part.cpu().numpy().tobytes())
    if pixels.targets is not None:
        hashed.update(whole_digest(pixels.targets).encode())
    return hashed.hexdigest()


def colour_statistics(images: Tensor | Pixels) -> Statistics:
    """Return mean [3] and covariance [3, 3] of the pixel colours of uint8 images [N, 3, H, W], N · H · W > 1.

    The sums are of whole numbers and exact, so that it does not matter where the images are or what the parts are.
    Those of a set that this machine has seen are remembered.
    """
    key = ("colours", images.digest, images.size) if isinstance(images, Pixels) else None
    if key is None or (known := memo.recall(*key)) is None:
        known = json.dumps(_sums(images)).encode()
        if key is not None:
            memo.remember(known, *key)
            memo.flush()
    count, single, joint = json.loads(known)
    mean = [total / (count * 255) for total in single]
    covariance = [
        [(count * joint[a][b] - single[a] * single[b]) / (count * (count - 1) * 255**2) for b in range(3)]
        for a in range(3)
    ]
    return Statistics(torch.tensor(mean), torch.tensor(covariance))


def _sums(images: Tensor | Pixels) -> tuple[int, list[int], list[list[int]]]:
    """Return the number of pixels, the sum of each channel and those of the products of each two."""
    count, sums, products = 0, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int64)
    for part in _parts(images):
        channels = part.permute(1, 0, 2, 3).flatten(1).double()
        count += channels.shape[1]
        sums += channels.sum(1).long().cpu()
        products += (channels @ channels.T).long().cpu()
    return count, sums.tolist(), products.tolist()
