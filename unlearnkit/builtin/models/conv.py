"""A plain convolutional autoencoder: no quantiser, no divergence, no normalisation, and nothing handed across.

Each level halves the side. Shape suffixes: B images, L latent channels, h and w the latents' sides.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from unlearnkit.contracts import Embedding, ModelAdapter, Size, View
from unlearnkit.weights import load


class Autoencoder(nn.Module):
    """Convolutions of stride 2 down to latents, as many transposed ones up again, ReLUs between."""

    def __init__(self, channels: Sequence[int], latent: int) -> None:
        super().__init__()
        down, up = list[nn.Module](), list[nn.Module]()
        for outer, inner in pairwise((3, *channels)):
            down += [nn.Conv2d(outer, inner, 4, 2, 1), nn.ReLU()]
            up[:0] = [nn.ReLU(), nn.ConvTranspose2d(inner, outer, 4, 2, 1)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(channels[-1], latent, 3, 1, 1))
        self.decoder = nn.Sequential(nn.Conv2d(latent, channels[-1], 3, 1, 1), *up)


class ConvAdapter(ModelAdapter):
    """The autoencoder over images in [−½, ½]."""

    module: Autoencoder

    def __init__(self, weights: Path | None, image_size: Size, channels: Sequence[int], latent: int) -> None:
        """Build the model with weights where there are some; raise `UserError` where they do not fit."""
        self.module, self.image_size = Autoencoder(channels, latent), image_size
        self.encoder = self.module.encoder
        if weights is not None:
            load(self.module, weights)

    def embed(self, view: View) -> Embedding:
        """Return the latents [B, L, h, w]."""
        return self.encoder(view.images - 0.5)

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        assert isinstance(embedding, Tensor)
        return self.module.decoder(embedding) + 0.5

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of what is to be made, the whole image where nothing is hidden."""
        error = (self.decode(self.embed(view), view).float() - images).square()
        weight = view.region.expand_as(images).float()
        return (error * weight).sum() / weight.sum()
