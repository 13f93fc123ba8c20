"""The code of the built-in model adapters."""

from torch import Tensor

from unlearnkit.builtin.vit_mae import MaskedAutoencoder
from unlearnkit.contracts import Embedding, ModelAdapter, View
from unlearnkit.patches import visible


class VitMaeAdapter(ModelAdapter):
    """The masked autoencoder as encoder and decoder; a patch with one hidden pixel is hidden."""

    module: MaskedAutoencoder

    def __init__(self, module: MaskedAutoencoder) -> None:
        self.module, self.encoder, self.image_size = module, module.encoder, module.image_size

    def embed(self, view: View) -> Embedding:
        """Return the embeddings of the visible patches, [B, V, D]."""
        return self.module.encode(view.images, *visible(view, self.module.patch_size))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        """Return the predicted images [B, 3, H, W]."""
        assert isinstance(embedding, Tensor)
        return self.module.decode(embedding, *visible(view, self.module.patch_size))

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the hidden pixels (He et al. 2022, without normalised targets).

        Where nothing is hidden, that of all pixels.
        """
        error = (self.decode(self.embed(view), view).float() - images).square()
        weight = view.region.expand_as(images).float()
        return (error * weight).sum() / weight.sum()
