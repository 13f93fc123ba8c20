"""Images become views here and nowhere else."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.contracts import ModelAdapter, Task, View
from unlearnkit.contracts.checks import degraded, rows
from unlearnkit.data.pixels import Pixels, to_float
from unlearnkit.data.seeding import seeded
from unlearnkit.device import send

CHUNK = 64
"""Images of one pass where nothing is trained."""


def view_of(
    model: ModelAdapter, task: Task, images: Tensor, generator: torch.Generator, truth: Tensor | None = None
) -> View:
    """Return T(x) of images [B, 3, H, W] with the model's draws; `truth` is another target than the images."""
    state = generator.get_state()
    made = replace(degraded(task.degrade(images, generator), images, task), state=state)
    drawn = rows(model.draw(len(images), generator), len(images), model, "draw", "model")
    draws = tuple(send(one, images.device) for one in drawn)
    return View(made, images if truth is None else truth, draws)


def again(of: View, task: Task, images: Tensor) -> View:
    """Degrade other images [B, 3, H, W] in just the way of a view: the same mask, the same draws."""
    assert of.degraded.state is not None, "of a part of a view T cannot be repeated"
    generator = torch.Generator().set_state(of.degraded.state)
    return View(replace(task.degrade(images, generator), state=of.degraded.state), images, of.draws)


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

    `change` takes the images [B, 3, H, W] in [0, 1] before T.
    """
    chunks = torch.arange(len(images)).split(size) if len(images) else ()
    with images.expect(chunks):
        for number, rows in enumerate(chunks):
            shown = change(to_float(images[rows].to(device)))
            yield rows, view_of(model, task, shown, seeded(*purpose(number)))


def augment(images: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Return images [B, 3, S, S] randomly cropped to a part of their area, resized back and flipped."""
    size = images.shape[-1]
    result = []
    for image in images:
        area, flip = torch.rand(2, generator=generator).tolist()
        side = min(size, max(1, round(size * math.sqrt(smallest + (1 - smallest) * area))))
        top, left = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
        crop = image[None, :, top : top + side, left : left + side]
        crop = F.interpolate(crop, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
        result.append(crop.flip(2) if flip < 0.5 else crop)
    return torch.stack(result)
