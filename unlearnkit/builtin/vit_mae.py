"""A masked autoencoder for small images (He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022).

The encoder sees the visible patches only; the decoder gets their embeddings, a learned mask token in each hidden
place, and predicts the pixels of the hidden patches. Shape suffixes: B images, N patches, V visible patches,
D encoder width, P values of a patch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.patches import placed, sincos_positions, taken


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


def trunk(width: int, depth: int, heads: int) -> nn.ModuleList:
    """Return the blocks of one half of the model."""
    return nn.ModuleList(Block(width, heads) for _ in range(depth))


class Encoder(nn.Module):
    """Embed the visible patches: values [B, V, P] at places [B, V] to [B, V, D]."""

    positions: Tensor

    def __init__(self, values: int, side: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(values, width)
        self.register_buffer("positions", sincos_positions(width, side), persistent=False)
        self.blocks = trunk(width, depth, heads)
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
        self.blocks = trunk(width, depth, heads)
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

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        decoder_width: int,
        decoder_depth: int,
        decoder_heads: int,
    ) -> None:
        super().__init__()
        self.image_size, self.patch_size = image_size, patch_size
        side, values = image_size // patch_size, 3 * patch_size**2
        self.encoder = Encoder(values, side, width, depth, heads)
        self.decoder = Decoder(values, side, width, decoder_width, decoder_depth, decoder_heads)
        self.apply(_initialise)
        nn.init.normal_(self.decoder.mask_token, std=0.02)

    def patchify(self, images: Tensor) -> Tensor:
        """Cut images [B, 3, H, W] into patches [B, N, P]."""
        return F.pixel_unshuffle(images, self.patch_size).flatten(2).transpose(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """Join patches [B, N, P] to images [B, 3, H, W]."""
        side = self.image_size // self.patch_size
        return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (side, side)), self.patch_size)

    def encode(self, images: Tensor, places: Tensor, keep: Tensor | None) -> Tensor:
        """Embed the patches at `places`; padding gets zeros."""
        chosen = taken(self.patchify(images), places) - 0.5
        if keep is None:
            return self.encoder(chosen, places, None)
        return self.encoder(chosen, places, keep[:, None, None, :]) * keep[..., None]

    def decode(self, embedding: Tensor, places: Tensor, keep: Tensor | None) -> Tensor:
        """Predict images [B, 3, H, W] from the embeddings of the visible patches."""
        return self.unpatchify(self.decoder(embedding, places, keep) + 0.5)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
