"""How the original model was trained, by the record that `unlearnkit pretrain` leaves beside its weights."""

import json
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from unlearnkit.contracts import Pretrained
from unlearnkit.disk import read_plain, sha256
from unlearnkit.errors import UserError
from unlearnkit.recipe.pretraining import PretrainTraining

RECORD = "model.json"


def pretrained(weights: Path | None) -> Pretrained | None:
    """Return how weights were trained from scratch, in no step without any; None where no record of them says so."""
    if weights is None:
        return Pretrained(0)
    folder = weights if weights.is_dir() else weights.parent
    with suppress(UserError, OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
        record = json.loads(read_plain(folder / RECORD))
        files, recipe = record["sha256"], record["recipe"]
        own = weights.is_dir() or weights.name in files
        if own and recipe["model"]["weights"] is None and all(sha256(folder / name) == files[name] for name in files):
            told = PretrainTraining.model_validate_json(json.dumps(recipe["pretrain"]))
            # Its rate falls from the start; `training` knows no warm-up and no average.
            as_then = {"optimizer": told.optimizer, "batch_size": told.batch_size, "crop": told.crop, "decay": 1.0}
            return Pretrained(told.steps, as_then)
    return None
