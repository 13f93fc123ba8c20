"""What adapters of masked autoencoders share: which patches are visible, where tokens go, and positions.

Shape suffixes: B images, N patches, V visible patches of the image that has most, D width of a token.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.contracts import View
from unlearnkit.device import send


def sincos_positions(width: int, side: int) -> Tensor:
    """Return fixed 2-D sine-cosine positions, [side * side, width] (He et al. 2022, appendix A.1).

    The first half of the width tells the row, the second the column; the authors' code has them the other way round.
    """
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = torch.broadcast_tensors(axis[:, None], axis[None])
    return torch.cat([rows, columns], dim=2).reshape(side * side, width).float()


def visible(view: View, patch_size: int) -> tuple[Tensor, Tensor | None]:
    """Return places [B, V] of the patches without a hidden pixel, and which are no padding [B, V], None for all.

    A row with fewer visible patches than V is padded with places of hidden ones.
    """
    seen = ~F.max_pool2d(view.on_host.float(), patch_size).flatten(1).bool()
    count = int(seen.sum(1).max())
    places = torch.argsort((~seen).to(torch.uint8), dim=1, stable=True)[:, :count]
    keep, device = seen.gather(1, places), view.images.device
    return send(places, device), None if bool(keep.all()) else send(keep, device)


def taken(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens [B, V, D] of [B, N, D] at `places`."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def placed(background: Tensor, tokens: Tensor, places: Tensor, keep: Tensor | None) -> Tensor:
    """Return `background` [B, N, D] with `tokens` [B, V, D] at `places`, but for padding, which changes nothing."""
    index = places[..., None].expand(-1, -1, background.shape[-1])
    if keep is not None:
        tokens = torch.where(keep[..., None], tokens, background.gather(1, index))
    return background.scatter(1, index, tokens)
