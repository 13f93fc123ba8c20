"""Images become views here and nowhere else."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.contracts import Degraded, ModelAdapter, Task, View, sides, whole
from unlearnkit.contracts.checks import degraded, rows
from unlearnkit.contracts.sizes import told
from unlearnkit.data.pixels import Pixels, shrunk, to_float
from unlearnkit.data.seeding import seeded
from unlearnkit.device import send
from unlearnkit.errors import Exit, UserError

CHUNK = 64
"""Images of one pass where nothing is trained."""


def view_of(
    model: ModelAdapter, task: Task, images: Tensor, generator: torch.Generator, truth: Tensor | None = None
) -> View:
    """Return T(x) of images [B, 3, h, w] with the model's draws; `truth` [B, 3, H, W] is another target than these."""
    state = generator.get_state()
    made = replace(degraded(task.degrade(images, generator), images, task), state=state)
    drawn = rows(model.draw(len(images), generator), len(images), model, "draw", "model")
    draws = tuple(send(one, images.device) for one in drawn)
    if truth is None:
        return View(made, images, draws)
    return View(_over(made, truth), truth, draws, given=images)


def _over(made: Degraded, truth: Tensor) -> Degraded:
    """Return T(x) of a pair, which hides nothing, with a mask of the size of its truth."""
    if made.hidden.shape[2:] == truth.shape[2:]:
        return made
    return replace(whole(made.images, (truth.shape[2], truth.shape[3])), state=made.state)


def again(of: View, task: Task, images: Tensor) -> View:
    """Degrade other images of the size of `of.x` in just the way of a view: the same mask, the same draws.

    They are their own truth, enlarged where that of the view is larger.
    """
    assert of.degraded.state is not None, "of a part of a view T cannot be repeated"
    generator = torch.Generator().set_state(of.degraded.state)
    made = replace(task.degrade(images, generator), state=of.degraded.state)
    if images.shape[2:] == of.truth.shape[2:]:
        return View(made, images, of.draws)
    enlarged = F.interpolate(images, of.truth.shape[2:], mode="bilinear")
    return View(_over(made, enlarged), enlarged, of.draws, given=images)


def views_of(
    model: ModelAdapter,
    task: Task,
    images: Pixels,
    device: torch.device,
    purpose: Callable[[int], tuple[object, ...]],
    change: Callable[[Tensor], Tensor] = lambda images: images,
    size: int = CHUNK,
) -> Iterator[tuple[Tensor, View]]:
    """Yield the rows and the view of a set in chunks of `size`, on `device`; `purpose` seeds the chunk of a number.

    `change` takes the images [B, 3, H, W] in [0, 1] before T, and of pairs the inputs alone.
    """
    chunks = torch.arange(len(images)).split(size) if len(images) else ()
    with images.expect(chunks):
        for number, rows in enumerate(chunks):
            x, truth = images.pairs(rows)
            shown = change(to_float(x.to(device)))
            target = None if truth is None else to_float(truth.to(device))
            yield rows, view_of(model, task, shown, seeded(*purpose(number)), target)


def batch_of(
    model: ModelAdapter, task: Task, images: Pixels, rows: Tensor, crop: float | None, generator: torch.Generator
) -> View:
    """Return T(x) of `rows` of a set in training, cropped at random to a part of at least `crop` where one is given."""
    x, truth = (None if part is None else to_float(part) for part in images.pairs(rows))
    assert x is not None
    if crop is not None:
        x, *rest = augment([x] if truth is None else [x, truth], crop, generator)
        truth = rest[0] if rest else None
    return view_of(model, task, x, generator, truth)


def augment(images: Sequence[Tensor], smallest: float, generator: torch.Generator) -> list[Tensor]:
    """Return images, each [B, 3, H, W], randomly cropped to a part of their area, resized back and flipped.

    Those at one place, such as input and target, are cut to the same part of the whole and flipped together, to the
    pixel: their sizes are multiples of the smallest one, whose pixels the cuts lie between.
    """
    grid = min((one.shape[2:] for one in images), key=math.prod)
    result: list[list[Tensor]] = [[] for _ in images]
    for row in range(len(images[0])):
        area, flip = torch.rand(2, generator=generator).tolist()
        part = math.sqrt(smallest + (1 - smallest) * area)
        cut = [min(side, max(1, round(side * part))) for side in grid]
        corner = [
            int(torch.randint(0, side - used + 1, (), generator=generator))
            for side, used in zip(grid, cut, strict=True)
        ]
        for place, one in enumerate(images):
            size, times = one.shape[2:], one.shape[2] // grid[0]
            top, left, high, wide = (times * number for number in (*corner, *cut))
            crop = one[row : row + 1, :, top : top + high, left : left + wide]
            crop = F.interpolate(crop, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
            result[place].append(crop.flip(2) if flip < 0.5 else crop)
    return [torch.stack(rows) for rows in result]


def random_view(
    model: ModelAdapter, task: Task, count: int, purpose: str, device: torch.device, paired: bool = False
) -> View:
    """Return a view of so many random images, or random pairs, of the sizes that a model works on."""
    generator = seeded(purpose)
    truth = torch.rand(count, 3, *sides(model.image_size), generator=generator).to(device)
    if not paired:
        return view_of(model, task, truth, seeded(purpose))
    x = torch.rand(count, 3, *sides(shrunk(model.image_size, model.scale)), generator=generator).to(device)
    return view_of(model, task, x, seeded(purpose), truth)


def refuse_misfit(model: ModelAdapter, task: Task, paired: bool, generator: torch.Generator) -> None:
    """Raise `UserError` where a task does not suit the sizes of a model, or hides what of pairs is another picture."""
    size, seen = model.image_size, shrunk(model.image_size, model.scale)
    if any(side % model.scale for side in sides(size)):
        found = f"{told(size)} is no multiple of {model.scale}, by which its outputs are larger than its inputs"
        raise UserError(f"model.image_size: {found}; give one", Exit.RECIPE)
    made = task.degrade(torch.zeros(1, 3, *sides(seen if paired else size)), generator)
    if not isinstance(made, Degraded):
        return  # told where plugins are tried
    if paired and bool(made.hidden.any()):
        found = "it hides a part of the input, which the output need not agree with, for its truth is another picture"
        raise UserError(f"task: {found}; give reconstruction or another task that hides nothing", Exit.RECIPE)
    if model.scale != 1 and made.images.shape[2:] != sides(seen):
        shown = told((made.images.shape[2], made.images.shape[3]))
        found = f"it gives images of {shown}, but the model makes {told(size)} of {told(seen)}"
        advice = f"`low-resolution` with `factor: {model.scale}`, or pairs and `reconstruction`"
        raise UserError(f"task: {found}; give {advice}", Exit.RECIPE)
