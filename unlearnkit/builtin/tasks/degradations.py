"""The code of the built-in tasks.

Masks are drawn on the CPU, so that a generator's state gives the same one on every device. A mask that would hide
nothing or everything at the size of the images raises `UserError`, named by the field of its section.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.contracts import Degraded, Task, hide, whole
from unlearnkit.errors import Exit, UserError


def misfit(field: str, found: str, instead: str) -> UserError:
    """Return the error of a `field` that does not suit the size of the images."""
    return UserError(f"{field}: {found}; {instead}", Exit.RECIPE)


def pixels(part: float, side: int, field: str) -> int:
    """Return a part of a side in pixels; raise `UserError` where that is nothing or the whole side."""
    count = round(part * side)
    if 0 < count < side:
        return count
    found = f"{part:g} of a side of {side} px is {count} px, which leaves nothing {'visible' if count else 'hidden'}"
    raise misfit(field, found, f"give {1 / side:.3g} to {1 - 1 / side:.3g}, or another task")


def boxes(corners: Tensor, height: int, width: int, size: tuple[int, int]) -> Tensor:
    """Return boxes of `height` by `width` whose upper left is at `corners` [B, 2], as masks [B, 1, *size]."""
    rows, columns = torch.arange(size[0]), torch.arange(size[1])
    inside_rows = (rows >= corners[:, :1]) & (rows < corners[:, :1] + height)
    inside_columns = (columns >= corners[:, 1:]) & (columns < corners[:, 1:] + width)
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def central(batch: int, height: int, width: int, size: tuple[int, int]) -> Tensor:
    """Return a box of `height` by `width` in the middle of each image, as masks [B, 1, *size]."""
    corners = torch.tensor([(size[0] - height) // 2, (size[1] - width) // 2])
    return boxes(corners.expand(batch, 2), height, width, size)


def random_boxes(batch: int, low: int, high: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return a square in a random place of each image, as masks [B, 1, *size].

    Within a batch all squares have one side, drawn from `low` to `high`, so that masked models see equal counts.
    """
    side = int(torch.randint(low, high + 1, (), generator=generator))
    corners = torch.randint(0, min(size) - side + 1, (batch, 2), generator=generator)
    return boxes(corners, side, side, size)


class Box(Task):
    """Hide one square: a central one of a fixed side, or one in a random place of a side drawn from a range.

    Sides are parts of the image's side; a central square may also be given in `pixels`.
    """

    def __init__(self, sides: tuple[float, float], *, central: bool, pixels: int | None = None) -> None:
        self.sides, self.central, self.pixels, self.fixed = sides, central, pixels, central

    def degrade(self, images: Tensor, generator: torch.Generator) -> Degraded:
        """Return T(x); raise `UserError` where the square is smaller than a pixel or as large as the image."""
        batch, _, height, width = images.shape
        end = min(height, width)
        if not self.central:
            ends = zip(self.sides, ("low", "high"), strict=True)
            low, high = (pixels(part, end, f"random-box.{name}") for part, name in ends)
            return hide(images, random_boxes(batch, low, high, (height, width), generator))
        side = self.pixels or pixels(self.sides[0], end, "center-crop.ratio")
        if side >= end:
            found = f"a square of {side} px leaves nothing visible of images of {end} px"
            raise misfit("center-crop.pixels", found, f"give at most {end - 1}, or a ratio")
        return hide(images, central(batch, side, side, (height, width)))


Mask = Callable[[int, tuple[int, int], torch.Generator], Tensor]
"""From how many images B, their height and width, and a CPU generator to what is hidden, [B, 1, H, W]."""


class Masked(Task):
    """Hide what a mask says."""

    def __init__(self, mask: Mask, *, fixed: bool) -> None:
        self.mask, self.fixed = mask, fixed

    def degrade(self, images: Tensor, generator: torch.Generator) -> Degraded:
        return hide(images, self.mask(len(images), (images.shape[2], images.shape[3]), generator))


def tokens(ratio: float, token: int, batch: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Hide a fixed number of square tokens; raise `UserError` where they do not tile the image, or none or all go."""
    height, width = size
    if height % token or width % token:
        found = f"tokens of {token} px do not tile images of {height} x {width} px"
        raise misfit("random-tokens.token", found, f"give a divisor of {math.gcd(height, width)}")
    rows, columns = height // token, width // token
    count = round(ratio * rows * columns)
    if not 0 < count < rows * columns:
        found = f"{ratio:g} of {rows * columns} tokens is {count}, which leaves none"
        instead = "give another ratio, or a smaller token"
        raise misfit("random-tokens.ratio", f"{found} {'visible' if count else 'hidden'}", instead)
    order = torch.rand(batch, rows * columns, generator=generator).argsort(1)
    hidden = (order < count).view(batch, 1, rows, columns)
    return hidden.repeat_interleave(token, 2).repeat_interleave(token, 3)


def frame(border: float, batch: int, size: tuple[int, int], _: torch.Generator) -> Tensor:
    """Hide a frame around a visible centre; `border` is what it takes from both ends of a side together.

    Raise `UserError` where the frame has no width or leaves no centre.
    """
    inner = []
    for side in size:
        edge = round(border * side / 2)
        if not 0 < 2 * edge < side:
            found = f"{border:g} of a side of {side} px is {edge} px at each end, which leaves nothing"
            most = 2 * ((side - 1) // 2) / side
            instead = f"give {2 / side:.3g} to {most:.3g}" if most else "take larger images"
            raise misfit("outpainting.border", f"{found} {'visible' if edge else 'hidden'}", instead)
        inner.append(side - 2 * edge)
    return ~central(batch, inner[0], inner[1], size)


def half(side: str, batch: int, size: tuple[int, int], _: torch.Generator) -> Tensor:
    """Hide the left, right, upper or lower half, the smaller one of an odd side; `UserError` where there are no two."""
    height, width = size
    high, wide = (height, width // 2) if side in ("left", "right") else (height // 2, width)
    if not high or not wide:
        raise misfit("half.side", f"images of {height} x {width} px have no two halves", "take larger images")
    corner = torch.tensor((0, 0) if side in ("left", "up") else (height - high, width - wide))
    return boxes(corner.expand(batch, 2), high, wide, size)


class Whole(Task):
    """Degrade whole images [B, 3, H, W] by a function of them."""

    fixed = True

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def degrade(self, images: Tensor, generator: torch.Generator) -> Degraded:
        return whole(self.change(images), (images.shape[2], images.shape[3]))


def reduced(factor: int, kind: str, images: Tensor) -> Tensor:
    """Reduce images by a factor, bicubic with antialias and not clamped: what super-resolution starts from.

    Raise `UserError` named by the task's kind for an uneven factor.
    """
    height, width = images.shape[2:]
    if height % factor or width % factor:
        found = f"images of {height} x {width} px do not divide by {factor}"
        raise misfit(f"{kind}.factor", found, f"give a divisor of {math.gcd(height, width)}")
    return F.interpolate(images, (height // factor, width // factor), mode="bicubic", antialias=True)


def downscaled(factor: int, images: Tensor) -> Tensor:
    """Reduce images by a factor and enlarge them to their size again, bicubic; raise `UserError` as `reduced`."""
    return F.interpolate(reduced(factor, "downscaling", images), images.shape[2:], mode="bicubic").clamp(0, 1)


def gray(images: Tensor) -> Tensor:
    """Keep the luminance alone (Rec. 601), in all three channels."""
    red, green, blue = images.unbind(1)
    luminance = (0.299 * red + 0.587 * green + 0.114 * blue).clamp(0, 1)
    return torch.stack([luminance] * 3, 1)


Counts = tuple[int, int]
Parts = tuple[float, float]


class Strokes(Task):
    """Hide free-form brush strokes, other ones in each image, and a random square where `box` gives its sides.

    A stroke is a zigzag as in Yu et al., "Free-Form Image Inpainting with Gated Convolution" (2019): from a random
    place on, its segments rise and fall in turn at an angle of 2π/5 ± 2π/15, each of a length from N(d/8, d/16) cut
    to [0, d/4], where d is the image's diagonal; what would leave the image stays on its border. The strokes of an
    image are mirrored at random in either direction.
    """

    fixed = False

    def __init__(self, strokes: Counts, vertices: Counts, width: Parts, box: Parts | None) -> None:
        self.strokes, self.vertices, self.width, self.box = strokes, vertices, width, box

    def degrade(self, images: Tensor, generator: torch.Generator) -> Degraded:
        """Return T(x); raise `UserError` where strokes are thinner than a pixel or an image would be all hidden."""
        batch, _, height, width = images.shape
        side, size = min(height, width), (height, width)
        if self.width[1] * side < 1:
            found = f"{self.width[1]:g} of a side of {side} px is less than a pixel"
            raise misfit("brush.width", found, f"give at least {1 / side:.3g} as its end")
        points, used = self._paths(batch, size, generator)
        low, high = (part * side for part in self.width)
        wide = low + (high - low) * torch.rand(batch, self.strokes[1], 1, generator=generator, dtype=torch.float64)
        radius = (wide.clamp(min=1) / 2).expand(-1, -1, self.vertices[1])
        starts, ends = points[:, :, :-1].flatten(1, 2), points[:, :, 1:].flatten(1, 2)
        hidden = capsules(starts, ends, radius.flatten(1), used.flatten(1), size)[:, None]
        if self.box is not None:
            smallest, largest = (pixels(part, side, "brush.box") for part in self.box)
            hidden |= random_boxes(batch, smallest, largest, size, generator)
        if bool(hidden.flatten(1).all(1).any()):
            found = f"the strokes hide the whole of an image of {height} x {width} px"
            raise misfit("brush.width", found, "give a smaller width, fewer strokes or fewer vertices")
        return hide(images, hidden)

    def _paths(self, batch: int, size: tuple[int, int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return vertices (x, y) [B, S, V + 1, 2] in whole pixels, and which segments are drawn [B, S, V]."""
        strokes, turns = self.strokes[1], self.vertices[1]
        shape = (batch, strokes, turns)
        uniform = partial(torch.rand, generator=generator, dtype=torch.float64)
        count = torch.randint(self.strokes[0], strokes + 1, (batch, 1, 1), generator=generator)
        length = torch.randint(self.vertices[0], turns + 1, (batch, strokes, 1), generator=generator)
        used = (torch.arange(strokes)[:, None] < count) & (torch.arange(turns) < length)
        angle = 2 * math.pi / 5 + 2 * math.pi / 15 * (2 * uniform(shape) - 1)
        angle[:, :, ::2] *= -1
        diagonal = math.hypot(*size)
        reach = diagonal / 8 + diagonal / 16 * torch.randn(shape, generator=generator, dtype=torch.float64)
        mirror = torch.where(uniform(batch, 1, 1, 2) < 0.5, 1.0, -1.0)
        steps = torch.stack([angle.cos(), angle.sin()], 3) * reach.clamp(0, diagonal / 4)[..., None] * mirror
        end = torch.tensor([size[1] - 1, size[0] - 1])
        points = [(uniform(batch, strokes, 2) * (end + 1)).floor()]
        for step in steps.unbind(2):
            # Whole pixels, so that no last bit of a sine decides about a pixel and no stroke misses all of them.
            points.append((points[-1] + step).round().clamp(min=torch.zeros(2), max=end))
        return torch.stack(points, 2), used


def capsules(starts: Tensor, ends: Tensor, radius: Tensor, used: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the pixels [B, *size] within `radius` [B, N] of a `used` segment between points (x, y) [B, N, 2], float64.

    What a row of pixels shares with such a capsule is one interval, for a capsule is convex: that of its two discs and
    of the rectangle between them. So the cost grows with rows times segments, and not with pixels times segments.
    """
    height, width = size
    along = ends - starts
    along = torch.where(along.abs() < 1e-6, 1e-6, along)  # no division by zero, for less than any pixel shows
    dx, dy = along[..., :1], along[..., 1:]
    square, r = dx**2 + dy**2, radius[..., None]
    y = torch.arange(height) - starts[..., 1:]
    # Points (x, y) of the rectangle have 0 ≤ x·dx + y·dy ≤ |d|² and |x·dy − y·dx| ≤ r|d|.
    lengthwise = torch.stack([-y * dy, square - y * dy]) / dx
    crosswise = torch.stack([y * dx - r * square.sqrt(), y * dx + r * square.sqrt()]) / dy
    first = torch.maximum(lengthwise.amin(0), crosswise.amin(0))
    last = torch.minimum(lengthwise.amax(0), crosswise.amax(0))
    empty = first > last
    first, last = first.masked_fill(empty, math.inf), last.masked_fill(empty, -math.inf)
    for centre, above in ((torch.zeros_like(dx), y), (dx, y - dy)):
        half = (r**2 - above**2).clamp(min=0).sqrt()
        outside = above.abs() > r
        first = torch.minimum(first, (centre - half).masked_fill(outside, math.inf))
        last = torch.maximum(last, (centre + half).masked_fill(outside, -math.inf))
    x = starts[..., :1]
    opened = (first + x).ceil().clamp(0, width)
    closed = torch.maximum((last + x).floor().add(1).clamp(0, width), opened)
    # Each interval adds one where it opens and takes it back where it closes; the running sum counts the open ones.
    row = torch.arange(height) * (width + 1)
    weight = used[..., None].expand(-1, -1, height).flatten(1).int()
    edges = torch.zeros(len(starts), height * (width + 1), dtype=torch.int32)
    edges.scatter_add_(1, (opened.long() + row).flatten(1), weight)
    edges.scatter_add_(1, (closed.long() + row).flatten(1), -weight)
    return edges.view(-1, height, width + 1).cumsum(2, dtype=torch.int32)[..., :width] > 0
