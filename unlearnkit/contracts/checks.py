"""What a plugin's method returned, held against its contract where it is first used: one message names the method."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from unlearnkit.contracts.view import Degraded
from unlearnkit.errors import Exit, UserError

T = TypeVar("T")


def scalar(value: object, of: object, method: str, place: str, *, asked: bool = True) -> Tensor:
    """Return a loss that is a floating-point scalar [], with a gradient where one is `asked` for and autograd is on.

    Raise `UserError` naming `method` of the object `of`, which the recipe has at `place`.
    """
    if not (isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()):
        raise _misfit(of, method, place, value, "a floating-point scalar, the mean over the batch")
    if asked and torch.is_grad_enabled() and not value.requires_grad:
        raise _misfit(of, method, place, value, "one with a gradient: it was detached, or reads no trained weight")
    return value


def rows(value: object, count: int, of: object, method: str, place: str) -> Sequence[Tensor]:
    """Return a tensor or a sequence of them as a sequence, each with `count` rows; raise `UserError` as `scalar`."""
    found = (value,) if isinstance(value, Tensor) else value
    fits = isinstance(found, tuple | list) and all(
        isinstance(part, Tensor) and part.dim() > 0 and len(part) == count for part in found
    )
    if not fits:
        raise _misfit(of, method, place, value, f"a tensor [{count}, ...] or a tuple of them, one row an image")
    return found  # type: ignore[return-value]


def images(value: object, like: Tensor, of: object, method: str, place: str) -> Tensor:
    """Return floating-point images of the shape of `like` [B, 3, H, W]; raise `UserError` as `scalar`."""
    if not (isinstance(value, Tensor) and value.is_floating_point() and value.shape == like.shape):
        raise _misfit(of, method, place, value, f"floating-point images {list(like.shape)}")
    return value


def degraded(value: object, given: Tensor, of: object) -> Degraded:
    """Return T(x) of images x [B, 3, H, W] if it is a `Degraded` of their shape; raise `UserError` as `scalar`."""
    if not isinstance(value, Degraded):
        raise _misfit(of, "degrade", "task", value, "a Degraded, such as `hide` and `whole` make")
    shown, hidden, (count, channels, *size) = value.images, value.hidden, given.shape
    if not (isinstance(shown, Tensor) and shown.is_floating_point() and shown.dim() == 4):
        raise _misfit(of, "degrade", "task", shown, "`images` in floating point")
    if shown.shape[:2] != (count, channels):
        raise _misfit(of, "degrade", "task", shown, f"`images` [{count}, {channels}, h, w]")
    if not (isinstance(hidden, Tensor) and hidden.dtype == torch.bool and hidden.shape == (count, 1, *size)):
        wanted = f"`hidden` in booleans [{count}, 1, {', '.join(map(str, size))}]"
        raise _misfit(of, "degrade", "task", hidden, wanted)
    return value


def _misfit(of: object, method: str, place: str, value: object, wanted: str) -> UserError:
    name = f"{type(of).__module__}.{type(of).__qualname__}.{method}" if method else f"{of}"
    return UserError(f"{place}: {name} returned {_said(value)}; expected {wanted}", Exit.PLUGIN)


def _said(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list) and 0 < len(value) <= 4:
        return f"a {type(value).__name__} of {', '.join(map(_said, value))}"
    return f"a {type(value).__name__}" if value is not None else "None"
