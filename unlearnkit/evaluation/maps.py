"""The pictures of a run as points of a plane, by the features of a network: PCA, and scikit-learn's t-SNE."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unlearnkit.contracts import Failed
from unlearnkit.disk import sha256
from unlearnkit.evaluation import kept
from unlearnkit.evaluation.instruments import Watcher, tried
from unlearnkit.features import shared
from unlearnkit.recipe.sections import ExtractorSection
from unlearnkit.solver.workbench import SETS, Workbench

FILE = "evaluations/maps.json"
DIGITS = 4
"""Decimals of a place that are kept; a plane is 1 wide."""
COMPONENTS = 50
"""Principal components that t-SNE sees, about as many as scikit-learn advises."""
PERPLEXITY = 30.0
"""How many neighbours of a point count: scikit-learn's default, and a third of the points where these are few."""


def mapped(
    folder: Path, bench: Workbench, section: ExtractorSection, images: Mapping[str, Any], watcher: Watcher
) -> dict[str, Any]:
    """Return where the pictures of `images` of results.json lie in each plane, or find it again.

    All of them share it: truth, original model and solutions, of both sets. What cannot be had gives its reason.
    """
    paths = {
        (of, name): path
        for of in SETS
        for name, path in {**{key: images[of][key] for key in ("truth", "original")}, **images[of]["solutions"]}.items()
    }
    facts = [images["count"], _sklearn(), {path: sha256(folder / path) for path in paths.values()}]
    origin = kept.origin(bench, None, {"maps": section}, facts)
    if (known := kept.load(folder, FILE, origin, watcher)) is not None:
        return dict(known)
    embedded = tried(partial(_embedded, [folder / path for path in paths.values()], images["count"], section, bench))
    if isinstance(embedded, Failed):
        return {"extractor": {}, "planes": [{"name": section.kind, "failed": embedded.reason}]}
    extractor, components, shares = embedded
    share = f"{100 * float(shares[:2].sum()):.0f} % of the variance"
    pca = _plane(f"PCA, {share}", components[:, :2], [*paths])
    near = tried(partial(neighbours, components, bench.recipe.seed))
    if isinstance(near, Failed):
        return {"extractor": extractor, "planes": [pca, {"name": "t-SNE", "failed": near.reason}]}
    found = {"extractor": extractor, "planes": [pca, _plane("t-SNE", near, [*paths])]}
    kept.save(folder / FILE, origin, found)
    return found


def _embedded(
    strips: Iterable[Path], count: int, section: ExtractorSection, bench: Workbench
) -> tuple[dict[str, object], Tensor, Tensor]:
    """Return what is said of the network, and the principal components of its features of all pictures."""
    extractor = shared(section, bench.base, bench.device)
    with torch.no_grad():
        features = [extractor.features(_squares(strip, count).to(bench.device)).cpu() for strip in strips]
    return dict(extractor.describe()), *principal(torch.cat(features))


def principal(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the principal components [N, min(N, D)] of features [N, D], and each one's share of the variance.

    The sign of each is such that the largest entry of its axis is positive.
    """
    centred = features.double() - features.double().mean(0)
    left, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()[:, 0]
    return left * (sizes * signs), sizes.square() / sizes.square().sum().clamp(min=torch.finfo().tiny)


def neighbours(components: Tensor, seed: int) -> Tensor:
    """Return t-SNE [N, 2] (van der Maaten and Hinton 2008) of principal components, on one thread for the same bytes.

    Raise `ValueError` where scikit-learn is not there.
    """
    try:
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ValueError(f"needs `pip install 'unlearnkit[maps]'`: {error}") from None
    seen = components[:, :COMPONENTS].numpy()
    perplexity = min(PERPLEXITY, (len(seen) - 1) / 3)
    with threadpool_limits(1):
        found = TSNE(perplexity=perplexity, init="pca", random_state=seed % 2**32).fit_transform(seen)
    return torch.from_numpy(found)


def _sklearn() -> str | None:
    try:
        return version("scikit-learn")
    except PackageNotFoundError:
        return None


def _squares(path: Path, count: int) -> Tensor:
    """Return the squares of a strip as images [count, 3, H, W] in [0, 1]."""
    with Image.open(path) as strip:
        pixels = torch.from_numpy(np.array(strip)).permute(2, 0, 1).float() / 255
    return torch.stack(pixels.chunk(count, dim=2))


def _plane(name: str, points: Tensor, strips: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return x and y of each picture by set and model, where the wider side of all goes from 0 to 1."""
    low = points.min(0).values
    scaled = (points - low) / (points - low).max().clamp(min=torch.finfo().tiny)
    placed: dict[str, dict[str, list[list[float]]]] = {of: {} for of, _ in strips}
    for (of, model), each in zip(strips, scaled.chunk(len(strips)), strict=True):
        placed[of][model] = [[round(value, DIGITS) for value in place] for place in each.tolist()]
    return {"name": name, "points": placed}
