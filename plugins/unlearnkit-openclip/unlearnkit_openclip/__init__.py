"""CLIP's image encoders: the similarity of output and target, and an extractor for other metrics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unlearnkit import contracts, hookimpl
from unlearnkit.recipe.sections import ExtractorSection, MetricSection

if TYPE_CHECKING:
    import torch


class OpenClip(ExtractorSection):
    """The image encoder of a CLIP model of OpenCLIP (Radford et al. 2021; Cherti et al. 2023)."""

    kind: Literal["openclip"] = "openclip"
    """An image encoder of OpenCLIP."""
    model: str = "ViT-B-32"
    """OpenCLIP's name of the model, such as `ViT-L-14` or `ViT-B-32-quickgelu`, which OpenAI's weights need."""
    weights: str | None = None
    """A file of weights in a layout that OpenCLIP reads, relative to the recipe, or `hub:OWNER/NAME/FILE@COMMIT`; it
    must be given, as nothing is fetched that is not named."""

    def build(self, base: Path, device: torch.device) -> contracts.Extractor:
        from unlearnkit_openclip.encoder import encoder

        return encoder(self.model, self.weights, base, device)


class ClipSimilarity(MetricSection):
    """Cosine of CLIP's embeddings of output and target, mean over images."""

    kind: Literal["clip-similarity"]
    """Similarity as CLIP sees it."""
    extractor: OpenClip = OpenClip()
    """Which CLIP model."""

    def build(self, base: Path, device: torch.device) -> contracts.Metric:
        from unlearnkit.features import Cosine, shared

        return Cosine(shared(self.extractor, base, device), "CLIP similarity", distance=False)


@hookimpl
def register_extractors() -> list[type[ExtractorSection]]:
    """Return the extractors of this package."""
    return [OpenClip]


@hookimpl
def register_metrics() -> list[type[MetricSection]]:
    """Return the metrics of this package."""
    return [ClipSimilarity]
