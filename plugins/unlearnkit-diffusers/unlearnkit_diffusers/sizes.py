"""Sizes of models: what a recipe gives, what is usual, and what weights say."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearnkit.contracts import Size, sides
from unlearnkit.errors import UserError

LEVELS = ("block_out_channels", "encoder_block_out_channels", "ch_mult")
"""What configurations call the list of a network's levels, each of which but one halves the side."""


def chosen(given: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes that are usual, by field, or what is given in their stead."""
    return {field: size if given.get(field) is None else given[field] for field, size in usual.items()}


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a JSON file beside a model's weights, none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: this is no JSON ({error}); write the folder again") from None


def ratio(net: Any) -> int:
    """Return how many times longer the side of a network's input is than at its coarsest level."""
    if "spatial_compression_ratio" in net.config:
        return int(net.config["spatial_compression_ratio"])
    levels = next(net.config[name] for name in LEVELS if name in net.config)
    return 2 ** (len(levels) - 1)


def size_of(net: Any, factor: int = 1) -> Size | None:
    """Return the size of the images that a network's configuration says, times a factor; None where it says none."""
    found = net.config.get("sample_size")
    if isinstance(found, int):
        return found * factor
    return (found[0] * factor, found[1] * factor) if found else None


def require_given(given: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    """Raise `UserError` where a size that a recipe gives, by field, is not that found in the weights from `path`."""
    for field, held in found.items():
        said = given[field]
        if said is not None and said != (tuple(held) if isinstance(held, list) else held):
            said, held = (list(size) if isinstance(size, tuple) else size for size in (said, held))
            raise UserError(
                f"model.{field}: the recipe says {said}, but the weights in {path} are of a model with {held}; leave "
                f"it out"
            )


def require_side(image_size: Size, factor: int) -> None:
    """Raise `UserError` where a network that divides the sides by `factor` cannot take images of this size."""
    for side in sides(image_size):
        if side % factor:
            lower = max(factor, side // factor * factor)
            raise UserError(
                f"model.image_size: {side} px is no multiple of {factor}, by which the model divides the side; give "
                f"{lower} or {lower + factor}"
            )


def require_divisor(field: str, value: int, widths: Sequence[int], which: str = "level") -> None:
    """Raise `UserError` where the value of a field does not divide the channels of each level that it is for."""
    if odd := [width for width in widths if width % value]:
        raise UserError(
            f"model.{field}: {value} does not divide the {odd[0]} channels of a level; give a divisor of every "
            f"{which}'s channels"
        )
