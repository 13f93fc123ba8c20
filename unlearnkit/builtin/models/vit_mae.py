"""A masked autoencoder for small images (He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022).

The encoder sees the visible patches only; the decoder gets their embeddings, a learned mask token in each hidden
place, and predicts the pixels of the hidden patches. Shape suffixes: B images, N patches, V visible patches,
D encoder width, P values of a patch.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import Embedding, ModelAdapter, View
from unlearnkit.errors import UserError
from unlearnkit.patches import placed, sincos_positions, taken, visible
from unlearnkit.weights import load

Sizes = tuple[int, int, int]
"""Width, depth and heads of one half of the model."""


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Return x [B, V, D] after attention, among the tokens that `keys` allows, and the perceptron."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Encoder(nn.Module):
    """Embed the visible patches: values [B, V, P] at places [B, V] to [B, V, D]."""

    positions: Tensor

    def __init__(self, values: int, side: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(values, width)
        self.register_buffer("positions", sincos_positions(width, side), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor, places: Tensor, keys: Tensor | None) -> Tensor:
        """Return the embeddings of the patches."""
        x = self.embed(patches) + self.positions[places]
        for block in self.blocks:
            x = block(x, keys)
        return self.norm(x)


class Decoder(nn.Module):
    """Predict every patch from the embeddings of the visible ones: [B, V, D] at places [B, V] to [B, N, P]."""

    positions: Tensor

    def __init__(self, values: int, side: int, encoder_width: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("positions", sincos_positions(width, side), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, values)

    def forward(self, embedding: Tensor, places: Tensor, keep: Tensor | None) -> Tensor:
        """Return the values of all patches."""
        batch, patches = embedding.shape[0], self.positions.shape[0]
        x = self.mask_token.to(embedding.dtype).expand(batch, patches, -1)
        x = placed(x, self.embed(embedding), places, keep) + self.positions
        for block in self.blocks:
            x = block(x, None)
        return self.head(self.norm(x))


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder over square patches of images [B, 3, image_size, image_size] with values in [0, 1]."""

    def __init__(self, weights: Path | None, image_size: int, patch_size: int, encoder: Sizes, decoder: Sizes) -> None:
        """Load the weights, or initialise them freshly without any."""
        super().__init__()
        self.image_size, self.patch_size, self.side = image_size, patch_size, image_size // patch_size
        self.encoder = Encoder(3 * patch_size**2, self.side, *encoder)
        self.decoder = Decoder(3 * patch_size**2, self.side, encoder[0], *decoder)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.decoder.mask_token, std=0.02)
        if weights is not None:
            load(self, weights)


class VitMaeAdapter(ModelAdapter):
    """The masked autoencoder as encoder and decoder; a patch with one hidden pixel is hidden."""

    module: MaskedAutoencoder

    def __init__(self, module: MaskedAutoencoder) -> None:
        self.module, self.encoder, self.image_size = module, module.encoder, module.image_size

    def embed(self, view: View) -> Embedding:
        """Return the embeddings of the visible patches, [B, V, D], zeros for padding; raise `UserError` without any."""
        places, keep = visible(view, size := self.module.patch_size)
        if places.shape[1] == 0:
            none = f"no patch of {size} x {size} px is visible in any image"
            raise UserError(f"task: {none}; hide less, or use a model of smaller patches")
        patches = F.pixel_unshuffle(view.images, self.module.patch_size).flatten(2).transpose(1, 2)
        chosen = taken(patches, places) - 0.5
        if keep is None:
            return self.encoder(chosen, places, None)
        return self.encoder(chosen, places, keep[:, None, None, :]) * keep[..., None]

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        assert isinstance(embedding, Tensor)
        side, size = self.module.side, self.module.patch_size
        patches = self.module.decoder(embedding, *visible(view, size)) + 0.5
        return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (side, side)), size)

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean squared error of the hidden pixels (He et al. 2022, without normalised targets).

        Where nothing is hidden, that of all pixels.
        """
        error = (self.decode(self.embed(view), view).float() - images).square()
        weight = view.region.expand_as(images).float()
        return (error * weight).sum() / weight.sum()
