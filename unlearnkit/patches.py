"""What adapters of masked autoencoders share: which patches are visible, where tokens go, and positions.

Shape suffixes: B images, N patches, V visible patches of the image that has most, D width of a token.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sincos_positions(width: int, side: int) -> Tensor:
    """Return the fixed 2-D sine-cosine position embedding, [side * side, width] (He et al. 2022, appendix A.1)."""
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = axis[:, None, :].expand(side, side, -1)
    columns = axis[None, :, :].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width).float()


def visible(hidden: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    """Return places [B, V] of the patches without a hidden pixel, and which of them are no padding [B, V].

    `hidden` is [B, 1, H, W]. A row with fewer visible patches than V is padded with places of hidden ones.
    """
    seen = ~F.max_pool2d(hidden.float(), patch_size).flatten(1).bool()
    count = int(seen.sum(1).max())
    places = torch.argsort((~seen).to(torch.uint8), dim=1, stable=True)[:, :count]
    return places, seen.gather(1, places)


def taken(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens [B, V, D] of [B, N, D] at `places`."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def placed(background: Tensor, tokens: Tensor, places: Tensor, keep: Tensor) -> Tensor:
    """Return `background` [B, N, D] with `tokens` [B, V, D] at `places`, but for padding, which changes nothing."""
    index = places[..., None].expand(-1, -1, background.shape[-1])
    return background.scatter(1, index, torch.where(keep[..., None], tokens, background.gather(1, index)))
