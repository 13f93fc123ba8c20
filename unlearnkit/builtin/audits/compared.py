"""What audits share that hold a model against the original and the retrained ones: features, kernels, tests."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from unlearnkit.builtin.audits.chunks import NO_VALIDATION
from unlearnkit.contracts import Case, ModelAdapter, View, parts

NONE = "there is no other retrained model; add {kind: retrain} to `compare`, with several seeds for its own row"


def yardsticks(case: Case) -> Sequence[ModelAdapter]:
    """Return the retrained models; raise `ValueError` where there are none."""
    if not case.retrained:
        raise ValueError(NONE)
    return case.retrained


@torch.no_grad()
def rows(views: Iterable[View], found: Callable[[View], Iterable[Tensor]]) -> list[Tensor]:
    """Return what is `found` in each of the views, tensor by tensor, one flat row [N, D] an image, on the CPU.

    Chunks that differ in width, such as by tokens for padding, are filled up with zeros.
    """
    chunks = [[part.float().flatten(1).cpu() for part in found(view)] for view in views]
    if not chunks:
        raise ValueError(NO_VALIDATION)
    return [_stacked(list(one)) for one in zip(*chunks, strict=True)]


def _stacked(chunks: list[Tensor]) -> Tensor:
    widest = max(chunk.shape[1] for chunk in chunks)
    return torch.cat([torch.nn.functional.pad(chunk, (0, widest - chunk.shape[1])) for chunk in chunks])


def embedded(model: ModelAdapter, views: Iterable[View]) -> Tensor:
    """Return the embeddings of a model's encoder, one row an image."""
    return torch.cat(rows(views, lambda view: parts(model.embed(view))), 1)


def kernel(features: Tensor) -> Tensor:
    """Return the centred linear kernel [N, N] of features [N, D], which no rotation of them changes."""
    centred = (features - features.mean(0)).double()
    return centred @ centred.T


def cka(one: Tensor, other: Tensor) -> float:
    """Return linear CKA of two centred kernels, 1 where one is a rotation of the other (Kornblith et al. 2019)."""
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-30))


def alignment(one: Tensor, other: Tensor) -> Tensor:
    """Return for each image [N] the cosine of its similarities to all others under two centred kernels."""
    apart = ~torch.eye(len(one), dtype=torch.bool)
    first, second = ((kernel * apart) for kernel in (one, other))
    return torch.nn.functional.cosine_similarity(first, second, dim=1)


def nearer(to_retrained: Tensor, to_original: Tensor) -> tuple[float, float]:
    """Return the part of images whose distance to the first is the smaller one, ties half, and a sign test's p.

    p is the chance of as large a part where a model is as near to the one as to the other.
    """
    from scipy.stats import binom  # slow to import

    won, lost = int((to_retrained < to_original).sum()), int((to_retrained > to_original).sum())
    share = 0.5 + (won - lost) / (2 * len(to_original))
    return share, float(binom.sf(won - 1, won + lost, 0.5))


def band(count: int) -> float:
    """Return how far a part of so many images strays from a half nineteen times in twenty."""
    return 0.98 / math.sqrt(max(count, 1))


def auc_error(members: int, others: int) -> float:
    """Return the standard deviation of an AUC of so many against so many that say nothing.

    It is that of Mann and Whitney's statistic without ties, sqrt((m + n + 1)/(12 m n)).
    """
    return math.sqrt((members + others + 1) / (12 * members * others))


def auc_band(members: int, others: int) -> float:
    """Return how far such an AUC strays from a half nineteen times in twenty."""
    return 2 * auc_error(members, others) if members and others else 0.5
