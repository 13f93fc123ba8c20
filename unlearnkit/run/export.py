"""Write one solution as a model of its own, with a card that states the evidence."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from unlearnkit.contracts import saved, trainable
from unlearnkit.disk import disk_errors, new_folder, sha256, write_file, write_json, write_text
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report.card import card
from unlearnkit.report.shape import parsed
from unlearnkit.run import checkpoint
from unlearnkit.run.folder import refuse_used
from unlearnkit.seal import Sealed
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.workbench import Workbench, listed

ORIGINAL, FORGOTTEN = "original", "forgotten.txt"
"""In a run folder: the original model, and the keys of the forget set's images, one a line."""


def keep_original(run: Path, bench: Workbench) -> None:
    """Keep in a run folder what an export needs of the original model and of the forget set when both are gone."""
    forget = bench.chosen["forget"]
    write_text(run / FORGOTTEN, listed((*forget.train, *forget.validation)))
    with new_folder(run / ORIGINAL, replace=True) as part:
        saved(bench.reference, part)


def export(run: Path, recipe: Recipe, epsilon: str, to: Path) -> Path:
    """Write the solution of an id such as `highest`, or of a value of ε, to the folder `to` and return the folder.

    All that it needs is in the run folder. Raise `UserError` for what is not as it was when the run finished.
    """
    sealed = Sealed.of(run)
    results, manifest = parsed(sealed.read("results.json"), run), sealed.json("manifest.json")
    row = chosen(results, epsilon)
    refuse_used(to, "give another folder")
    sealed.verify(f"{ORIGINAL}/")
    original = run / ORIGINAL
    model = recipe.model.build(file if (file := original / "model.safetensors").is_file() else original)
    place = run / "solutions" / row["id"]
    tensors, _ = checkpoint.read(place, lambda path: sealed.read(path.relative_to(run).as_posix()))
    Flat(trainable(model, row.get("part", recipe.model.train))).set(tensors["theta"])
    with disk_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(to) as part:
        saved(model, part)
        digests = {file.relative_to(part).as_posix(): sha256(file) for file in sorted(part.rglob("*.*"))}
        section = recipe.model.model_dump(mode="json", exclude={"weights", "train"})
        facts = {"model": section, "solution": row, "original_weights": manifest["weights"]}
        write_json(part / "unlearnkit.json", facts)
        write_file(part / FORGOTTEN, sealed.read(FORGOTTEN))
        write_text(part / "README.md", card(results, manifest, row, digests))
    return to


def chosen(results: Any, epsilon: str) -> dict[str, Any]:
    """Return the solution that a user means; raise `UserError` listing them all."""
    value = math.nan  # which is near no ε
    with suppress(ValueError):
        value = float(epsilon)
    for row in results["solutions"]:
        near = row["epsilon"] is not None and abs(value - row["epsilon"]) <= 5e-4 * abs(row["epsilon"])
        if near or epsilon in (row["id"], row["id"].removeprefix("boundary-")):
            return dict(row)
    listed = "\n".join(f"  {row['id']:18} {row['label']}" for row in results["solutions"])
    raise UserError(f"--epsilon {epsilon}: there is no such solution; there are:\n{listed}", Exit.USAGE)
