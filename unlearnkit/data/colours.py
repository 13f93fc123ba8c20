"""What a set of images is as a whole: its hash and its colours."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from unlearnkit.contracts import Statistics
from unlearnkit.data.pixels import CHUNK, Pixels


def _parts(images: Tensor | Pixels) -> Iterable[Tensor]:
    return images.chunks() if isinstance(images, Pixels) else images.split(CHUNK)


def digest(*sets: Tensor | Pixels) -> str:
    """Return the SHA-256 of decoded images, one set after the other."""
    if len(sets) == 1 and isinstance(sets[0], Pixels):
        return sets[0].hashes[0]
    hashed = hashlib.sha256()
    for images in sets:
        for part in _parts(images):
            hashed.update(part.cpu().numpy().tobytes())
    return hashed.hexdigest()


def colour_statistics(images: Tensor | Pixels) -> Statistics:
    """Return mean [3] and covariance [3, 3] of the pixel colours of uint8 images [N, 3, H, W], N · H · W > 1.

    The sums are of whole numbers and exact, so that it does not matter where the images are or what the parts are.
    """
    count, sums, products = 0, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int64)
    for part in _parts(images):
        channels = part.permute(1, 0, 2, 3).flatten(1).double()
        count += channels.shape[1]
        sums += channels.sum(1).long().cpu()
        products += (channels @ channels.T).long().cpu()
    single, joint = sums.tolist(), products.tolist()
    mean = [total / (count * 255) for total in single]
    covariance = [
        [(count * joint[a][b] - single[a] * single[b]) / (count * (count - 1) * 255**2) for b in range(3)]
        for a in range(3)
    ]
    return Statistics(torch.tensor(mean), torch.tensor(covariance))
