"""Whether an exported model is what it says: its files, its signature, its card, and its figures computed again."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from unlearnkit import __version__
from unlearnkit.contracts import trainable
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation import instruments
from unlearnkit.evaluation.again import again, claimed, compared, unheld
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report.statement import FORGOTTEN, Claims, Statement, files, forgotten, read, retrained, solution
from unlearnkit.run.export import ORIGINAL, derived, saved_model, solved_weights
from unlearnkit.run.interrupts import device_errors
from unlearnkit.run.signature import GIT, SIGNATURE, check
from unlearnkit.seal import UNSEALED, Sealed, refuse_unsealed
from unlearnkit.solver.workbench import build, flattened, frozen_digest


@dataclass(frozen=True)
class Data:
    """What the figures are computed again from."""

    recipe: Recipe
    base: Path
    """Where its relative paths start."""
    run: Path | None = None
    """The run folder that it comes from, which keeps the original model and the retrained one."""


def verify(folder: Path, key: Path | None = None, data: Data | None = None) -> Iterator[str]:
    """Yield a line for each thing that holds; raise `UserError` naming the file or the figure that does not.

    Without a key the files are held against the folder's own seal alone, which whoever changes them can write again.
    """
    refuse_unsealed(folder)
    try:
        sealed = Sealed.of(folder)
        sealed.verify()
        _refuse_strange(sealed)
        signed = _signed(sealed, key)  # before anything that is written there is read
        stated = read(sealed)
        _refuse_unlike(sealed, stated)
    except UserError as error:
        raise UserError(str(error), Exit.REFUSED if error.code == Exit.FOLDER else error.code) from None
    yield f"files: {len(sealed.files)} as they were sealed, and no others"
    yield f"signature: {signed}"
    if data is None:
        yield "figures: not computed again; give the recipe with its data, or the run folder, with --data"
    else:
        yield from _computed(folder, stated["predicate"], data)


def _refuse_strange(sealed: Sealed) -> None:
    known = {*sealed.files, *UNSEALED}
    for path in (path for path in sorted(sealed.folder.rglob("*")) if path.is_file()):
        name = path.relative_to(sealed.folder)
        if name.as_posix() not in known and name.parts[0] not in GIT:
            raise UserError(f"{path}: this file was not handed over with the others; remove it", Exit.REFUSED)


def _refuse_unlike(sealed: Sealed, stated: Statement) -> None:
    """Refuse weights, a list and figures that are not those of the statement."""
    for name, digest in files(stated).items():
        if sealed.files.get(name) != digest:
            raise UserError(f"{sealed.folder / name}: this is not the file that the statement is about", Exit.REFUSED)
    if hashlib.sha256(sealed.read(FORGOTTEN)).hexdigest() != forgotten(stated["predicate"])["files_sha256"]:
        raise UserError(f"{sealed.folder / FORGOTTEN}: this is not the list that the statement is about", Exit.REFUSED)
    if stated["predicate"]["unlearnkit"] == __version__:  # another one may write them in another way
        for name, text in derived(stated).items():
            if _stated(name, sealed.read(name).decode(errors="replace")) != _stated(name, text):
                raise UserError(f"{sealed.folder / name}: its figures are not those of the statement", Exit.REFUSED)


def _stated(name: str, text: str) -> object:
    """Return the figures of a card or a bill of materials, None where there are none to be read."""
    with suppress(ValueError, KeyError, TypeError, yaml.YAMLError):
        if name.endswith(".json"):
            return json.loads(text)["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]
        return yaml.safe_load(text.removeprefix("---\n").partition("\n---\n")[0])["model-index"]
    return None


def _signed(sealed: Sealed, key: Path | None) -> str:
    """Say whose signature there is; raise `UserError` where it does not hold."""
    there = SIGNATURE in sealed.files
    if key is None:
        return "not checked; give its public key with --key" if there else "there is none"
    if not there:
        raise UserError(f"{sealed.folder / SIGNATURE}: there is no signature, so none by {key}", Exit.REFUSED)
    check(sealed.folder, key, sealed.folder / SIGNATURE)
    return f"that of {key}, for all files"


def _computed(folder: Path, its: Claims, data: Data) -> Iterator[str]:
    row, gold = solution(its), retrained(its)
    # Adapters are merged in what was exported, and whose weights are claimed is told without how they came about.
    model = data.recipe.model.model_copy(update={"train": data.recipe.model.part})
    recipe = data.recipe.model_copy(update={"model": model, "compare": []})
    run = None if data.run is None else Sealed.of(data.run)
    if run is not None:
        run.verify()
        kept = recipe.model.model_copy(update={"weights": str(saved_model(run.folder / ORIGINAL).absolute())})
        recipe = recipe.model_copy(update={"model": kept})
    with device_errors():
        bench = build(recipe, data.base)
        tools = instruments.build(recipe.evaluate, data.base, bench.device)
        exported = recipe.model.build(saved_model(folder))
        models = {"original": (recipe.model.part, bench.origin)}
        models[row["id"]] = "all", flattened(trainable(exported)).to(bench.device)
        if run is not None:
            models |= {one["id"]: (one["part"], solved_weights(run, one["id"]).to(bench.device)) for one in gold}
        found = again(its, bench, tools, instruments.Unwatched(), models)
        same = frozen_digest(exported, row["part"]) == frozen_digest(bench.reference, row["part"])
    left = unheld(its, tools, models)
    told = claimed(its, models, left) | {"frozen part unchanged": row["frozen_unchanged"]}
    found |= {"frozen part unchanged": same}
    if run is None:  # whose original is as its seal says
        told["original weights"], found["original weights"] = its["manifest"]["weights"], bench.facts["weights"]
    every = sorted(compared(told, found))
    if wrong := [f"  {what}: {why}" for what, _, why in every if why]:
        many = f"{len(wrong)} of {len(every)} figures are not what is claimed"
        raise UserError(f"{folder}: {many}:\n" + "\n".join(wrong), Exit.REFUSED)
    apart = max(apart for _, apart, _ in every)
    yield f"figures: {len(every)} computed again, at most {apart:.1g} of the figure apart"
    if gold and run is None:
        named = ", ".join([*(one["label"] for one in gold), *(f"the audit {one}" for one in sorted(left))])
        yield f"  not those of {named}, for which retrained weights are in the run folder: give that with --data"
