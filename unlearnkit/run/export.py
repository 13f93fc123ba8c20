"""Write one solution as a model of its own, with a statement of the evidence, a card and a bill of materials."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from unlearnkit.contracts import Part, saved, trainable
from unlearnkit.disk import disk_errors, new_folder, sha256, write_file, write_json, write_text
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report.reading import chosen, meant
from unlearnkit.report.shape import parsed
from unlearnkit.report.statement import FORGOTTEN, STATEMENT, claims, statement
from unlearnkit.run import checkpoint
from unlearnkit.run.folder import refuse_used
from unlearnkit.run.handed import FACTS, derived
from unlearnkit.run.signature import sign, signer
from unlearnkit.seal import Sealed
from unlearnkit.solver import lora
from unlearnkit.solver.flat import Flat
from unlearnkit.solver.workbench import Workbench, listed

KINDS = ("unseen", "retrained", "membership")
"""Targets that need no field."""
ORIGINAL = "original"
"""In a run folder: the original model."""


def keep_original(run: Path, bench: Workbench) -> None:
    """Keep in a run folder what an export needs of the original model and of the forget set when both are gone."""
    write_text(run / FORGOTTEN, listed(bench.chosen["forget"]))
    with new_folder(run / ORIGINAL, replace=True) as part:
        saved(lora.plain(bench.reference), part)


def export(run: Path, recipe: Recipe, epsilon: str, to: Path, key: Path | None = None) -> Path:
    """Write the solution of an id such as `highest`, or of a value of ε, to the folder `to` and return the folder.

    All that it needs is in the run folder; a private key signs it. Raise `UserError` for what is not as it was when
    the run finished.
    """
    sealed = Sealed.of(run)
    results, manifest = parsed(sealed.read("results.json"), run), sealed.json("manifest.json")
    row = chosen(results, epsilon)
    ready(to, key)
    sealed.verify(f"{ORIGINAL}/")
    model = recipe.model.build(saved_model(run / ORIGINAL))
    its: Part = row.get("part", recipe.model.part)
    lora.add(model, recipe.model.lora, its, recipe.seed)
    flat, theta = Flat(trainable(model, its)), solved_weights(sealed, row["id"])
    asked, most = row["epsilon"], results["original"]["f1"]
    if asked is not None and asked > most and torch.equal(flat.theta, theta):
        nothing = f"this is the original model, in which nothing is forgotten; give an ε below {most:.4g}, its f1"
        raise UserError(f"--epsilon {epsilon}: {nothing}", Exit.RECIPE)
    flat.set(theta)
    with disk_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(to) as part:
        saved(lora.plain(model, merged=True), part)
        digests = {file.relative_to(part).as_posix(): sha256(file) for file in sorted(part.rglob("*.*"))}
        section = recipe.model.model_dump(mode="json", exclude={"weights", "train"})
        facts = {"model": section, "solution": row, "original_weights": manifest["weights"]}
        write_json(part / FACTS, facts)
        write_file(part / FORGOTTEN, sealed.read(FORGOTTEN))
        stated = statement(claims(results, manifest, row["id"]), digests)
        write_json(part / STATEMENT, stated)
        for name, text in derived(stated).items():
            write_text(part / name, text)
        if key is not None:
            sign(part, key, to.absolute().name)
        Sealed.measured(part).write()
    return to


def ready(to: Path, key: Path | None) -> None:
    """Raise `UserError` where no model can be written to a folder, or signed with a private key."""
    refuse_used(to, "give another folder")
    if key is not None:
        signer(key)


def saved_model(folder: Path) -> Path:
    """Return what of a folder that a model was saved to its weights are read from: its one file, or itself."""
    return file if (file := folder / "model.safetensors").is_file() else folder


def solved_weights(run: Sealed, name: str) -> Tensor:
    """Return the weights of a solution of a finished run, flat."""
    place = run.folder / "solutions" / name
    tensors, _ = checkpoint.read(place, lambda path: run.read(path.relative_to(run.folder).as_posix()))
    return tensors["theta"]


def solved(run: Path, epsilon: str) -> bool:
    """Tell whether a finished run has the solution that a user means."""
    results = parsed(Sealed.of(run).read("results.json"), run)
    return meant(results, epsilon) is not None


def target(run: Path, epsilon: str, polish: int) -> dict[str, Any]:
    """Return the target that a user means where no solution is what was asked for.

    It is a value of ε, a percentage of the valid range, an id of one as `epsilon-at-0.3`, the kind of a target, or a
    target as recipes have it. Raise `UserError` listing what there is.
    """
    text = epsilon.strip()
    found: dict[str, Any] | None = None
    if number := re.fullmatch(r"(?:(epsilon-at-)|epsilon-)?([0-9.eE+-]+?)\s*(%)?", text):
        with suppress(ValueError):
            value = float(number[2])
            if number[1] or number[3]:
                found = {"kind": "epsilon", "fraction": value / 100 if number[3] else value}
            else:
                found = {"kind": "epsilon", "value": value}
    elif text.startswith("{"):
        with suppress(yaml.YAMLError):
            read = yaml.safe_load(text)
            found = read if isinstance(read, dict) else None
    elif text in KINDS:
        found = {"kind": text}
    if found is None:
        results = parsed(Sealed.of(run).read("results.json"), run)
        if (row := meant(results, epsilon)) is not None and row["epsilon"] is not None:
            return {"kind": "epsilon", "value": row["epsilon"], "polish": polish}
        if row is not None:
            said = f"--polish takes steps at an ε, and {row['label']} is no bound on f1: leave it out"
            raise UserError(f"--epsilon {epsilon}: {said}", Exit.USAGE)
        listed = "\n".join(f"  {row['id']:18} {row['label']}" for row in results["solutions"])
        more = "a value of ε, a percentage of the valid range, or a target such as '{kind: unseen}'"
        raise UserError(
            f"--epsilon {epsilon}: there is no such solution; give {more}, or one that there is:\n{listed}", Exit.USAGE
        )
    return {**found, **({"polish": polish} if polish else {})}


def served(run: Path, place: int) -> str:
    """Return the id of the solution of one of the recipe's targets; raise `UserError` where it could not be met."""
    results = parsed(Sealed.of(run).read("results.json"), run)
    row = next((row for row in results["solutions"] if "target" in row and row["target"]["place"] == place), None)
    if row is None:
        said = [
            line for line in Sealed.of(run).json("manifest.json").get("warnings", ()) if f"targets[{place}]" in line
        ]
        raise UserError(f"{said[-1] if said else 'it was not looked for'}", Exit.RECIPE)
    its = row["target"]
    if not its["met"]:
        nearest = f"{its['value']:.4g} {its['unit']}".rstrip()
        raise UserError(
            f"{its['label']}: {its['note'] or 'not met'}. It comes to {nearest}, with f1 {row['f1']:.4g} and f2 "
            f"{row['f2']:.4g}; `--epsilon {row['id']}` exports it",
            Exit.RECIPE,
        )
    return row["id"]
