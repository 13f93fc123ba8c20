"""Sizes of models: what a recipe gives, what is usual, and what weights say."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearnkit.errors import UserError


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
    return 2 ** (len(net.config["block_out_channels"]) - 1)


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


def require_side(image_size: int, factor: int) -> None:
    """Raise `UserError` where a network that divides the side by `factor` cannot take images of this side."""
    if image_size % factor:
        lower = max(factor, image_size // factor * factor)
        raise UserError(
            f"model.image_size: {image_size} px is no multiple of {factor}, by which the model divides the side; "
            f"give {lower} or {lower + factor}"
        )


def require_divisor(field: str, value: int, widths: Sequence[int], which: str = "level") -> None:
    """Raise `UserError` where the value of a field does not divide the channels of each level that it is for."""
    if odd := [width for width in widths if width % value]:
        raise UserError(
            f"model.{field}: {value} does not divide the {odd[0]} channels of a level; give a divisor of every "
            f"{which}'s channels"
        )
