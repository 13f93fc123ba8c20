"""Whether an exported model is what it says: its files, its signature, its card, and its figures computed again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unlearnkit.contracts import trainable
from unlearnkit.errors import Exit, UserError
from unlearnkit.evaluation import instruments
from unlearnkit.evaluation.again import again, claimed, compared, unheld
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report.reading import retrained
from unlearnkit.report.statement import Claims, solution
from unlearnkit.run.export import ORIGINAL, saved_model, solved_weights
from unlearnkit.run.handed import opened
from unlearnkit.run.interrupts import device_errors
from unlearnkit.seal import Sealed, refuse_unsealed
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
    sealed, signed, stated = opened(folder, key)
    yield f"files: {len(sealed.files)} as they were sealed, and no others"
    yield f"signature: {signed}"
    if data is None:
        yield "figures: not computed again; give the recipe with its data, or the run folder, with --data"
    else:
        yield from _computed(folder, stated["predicate"], data)


def _computed(folder: Path, its: Claims, data: Data) -> Iterator[str]:
    row, gold = solution(its), retrained(its["results"], its["solution"])
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
    named = [
        *(one["label"] for one in gold if run is None),
        *(f"the audit {one} and its limits" for one in sorted(left)),
    ]
    if named:
        why = "whose shadow models or other solutions are not handed over"
        if gold and run is None:
            why = "for which retrained weights are in the run folder: give that with --data"
        yield f"  not those of {', '.join(named)}, {why}"
