"""The original model, and how it was trained, by the record that `unlearnkit pretrain` leaves beside its weights."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from unlearnkit.contracts import ModelAdapter, Pretrained
from unlearnkit.data import Chosen, trained_on
from unlearnkit.disk import read_plain, sha256
from unlearnkit.errors import UserError
from unlearnkit.recipe.data import PerClass
from unlearnkit.recipe.pretraining import PretrainTraining
from unlearnkit.recipe.sections import DataSection, ModelSection
from unlearnkit.weights import finite

RECORD = "model.json"
UNTOLD = (UserError, OSError, ValueError, KeyError, TypeError, AttributeError)
"""What a record raises that is none, or is damaged (pydantic's errors are of values)."""


def built(section: ModelSection, weights: Path | None) -> ModelAdapter:
    """Return the model of a section with its weights, or untrained; `UserError` where these are NaN or infinite.

    However an adapter reads them, its parameters are looked at. Buffers are not: in masks infinite numbers are meant.
    """
    adapter = section.build(weights)
    if weights is not None:
        finite(dict(adapter.module.named_parameters()), weights)
    return adapter


def pretrained(weights: Path | None) -> Pretrained | None:
    """Return how weights were trained from scratch, in no step without any; None where no record of them says so."""
    if weights is None:
        return Pretrained(0)
    with suppress(*UNTOLD):
        told = PretrainTraining.model_validate_json(json.dumps(_recipe(weights)["pretrain"]))
        # Its rate falls from the start; `training` knows no warm-up and no average.
        as_then = {"optimizer": told.optimizer, "batch_size": told.batch_size, "crop": told.crop, "decay": 1.0}
        return Pretrained(told.steps, as_then)
    return None


def strangers(weights: Path | None, source: DataSection, forget: Chosen) -> Chosen:
    """Return a forget set of `source` with notes where it does not fit what the original was trained on, by its record.

    Its training images should be among those, and its validation images should not; nothing is said where the record
    names another source.
    """
    with suppress(*UNTOLD):
        told = {} if weights is None else _recipe(weights)
        data, seed = told["data"], told["seed"]
        if type(source).model_validate(data["source"]) != source:
            return forget
        its = trained_on(forget.source, data["classes"], PerClass.model_validate(data["per_class"]), seed)
        seen = {item.key for item in its.train}
        advice = f"draw as {RECORD} beside the weights says, with data.seed: {seed}, or leave them out"
        notes = [
            f"data.forget: {len(found)} of its {len(half)} {which} the original was trained on, such as "
            f"'{found[0].key}', and audits take them for such as {otherwise}; {advice}"
            for half, among, which, otherwise in (
                (forget.train, False, "training images are not among those that", "are"),
                (forget.validation, True, "validation images are among those that", "are not"),
            )
            if (found := [item for item in half if (item.key in seen) == among])
        ]
        return replace(forget, notes=[*forget.notes, *notes])
    return forget


def _recipe(weights: Path) -> Mapping[str, Any]:
    """Return the recipe that weights were trained with from scratch; raise one of `UNTOLD` without a record of them."""
    folder = weights if weights.is_dir() else weights.parent
    record = json.loads(read_plain(folder / RECORD))
    files, recipe = record["sha256"], record["recipe"]
    own = weights.is_dir() or weights.name in files
    if own and recipe["model"]["weights"] is None and all(sha256(folder / name) == files[name] for name in files):
        return recipe
    raise ValueError("not of these weights")
