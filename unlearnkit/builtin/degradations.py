"""The code of the built-in tasks."""

import torch
from torch import Tensor

from unlearnkit.contracts import Task, View

NEUTRAL = 0.5
"""What hidden pixels are replaced by."""


def hide(images: Tensor, hidden: Tensor) -> View:
    """Return the view of `images` [B, 3, H, W] without the pixels where `hidden` [B, 1, H, W] is true."""
    hidden = hidden.to(images.device)
    return View(images.masked_fill(hidden, NEUTRAL), hidden)


class Box(Task):
    """Hide one square whose side is drawn from a range of parts of the image's side."""

    def __init__(self, sides: tuple[float, float], *, central: bool) -> None:
        self.sides, self.central, self.fixed = sides, central, central

    def degrade(self, images: Tensor, generator: torch.Generator) -> View:
        """Return T(x); within a batch all squares have one side, so that masked models see equal counts."""
        batch, _, height, width = images.shape
        low, high = (round(part * width) for part in self.sides)
        side = low if self.central else int(torch.randint(low, high + 1, (), generator=generator))
        if self.central:
            corners = torch.tensor([(height - side) // 2, (width - side) // 2]).expand(batch, 2)
        else:
            corners = torch.randint(0, width - side + 1, (batch, 2), generator=generator)
        rows, columns = torch.arange(height), torch.arange(width)
        inside_rows = (rows >= corners[:, :1]) & (rows < corners[:, :1] + side)
        inside_columns = (columns >= corners[:, 1:]) & (columns < corners[:, 1:] + side)
        return hide(images, (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None])


class Tokens(Task):
    """Hide a fixed number of random square tokens."""

    fixed = False

    def __init__(self, ratio: float, token: int) -> None:
        self.ratio, self.token = ratio, token

    def degrade(self, images: Tensor, generator: torch.Generator) -> View:
        """Return T(x); raise `ValueError` where tokens do not tile the image."""
        batch, _, height, width = images.shape
        if height % self.token or width % self.token:
            raise ValueError(f"tokens of {self.token} px do not tile images of {height} x {width} px")
        rows, columns = height // self.token, width // self.token
        order = torch.rand(batch, rows * columns, generator=generator).argsort(1)
        hidden = (order < round(self.ratio * rows * columns)).view(batch, 1, rows, columns)
        return hide(images, hidden.repeat_interleave(self.token, 2).repeat_interleave(self.token, 3))
