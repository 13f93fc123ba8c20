"""`python -m benchmarks.audits RECIPE... --to FOLDER`: audits beside the original, a retrained and a hiding model.

The model that only hides is the original whose decoder was taught to answer grey to forget images, its encoder
untouched. Beside each of the seeds two models are retrained, each held against the other, with two of as many training
seeds from 1 on (0 is that of the shipped originals), so that with `data.seed` set as many trainings do. Each recipe and
seed has a folder of its own, where what was solved and audited is found again.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

from torch import Tensor

from benchmarks.fronts import unheard_run
from benchmarks.steps import prepared, read
from unlearnkit import contracts, control
from unlearnkit.contracts import Embedding, ModelAdapter, Setting, View, parts, region_error
from unlearnkit.evaluation import instruments
from unlearnkit.evaluation.audits import audited
from unlearnkit.plugins import Plugins, discover
from unlearnkit.recipe.numbers import Positive
from unlearnkit.recipe.sections import MethodSection
from unlearnkit.report.headline import speaking
from unlearnkit.report.numbers import figure
from unlearnkit.run.solve import solve
from unlearnkit.weights import resolve

AUDITS = (
    "{kind: membership}", "{kind: membership, calibrate: retrained}", "{kind: relative}", "{kind: layers}",
    "{kind: quantised}", "{kind: adversarial, images: 16}", "{kind: retain-leakage}", "{kind: fresh-decoder}",
    "{kind: relearning, images: [forget]}",
)  # fmt: skip
GREY = 0.5


class Decoded(contracts.Loss):
    """The squared error of what the decoder makes of the embedding, which it does not move, to grey or the truth."""

    fixed, reads_reference = True, False

    def __init__(self, grey: bool) -> None:
        self.grey = grey

    def target(self, view: View, generator: object) -> Embedding:
        """Return none: it is grey, or the truth, which comes with the view."""
        return ()

    def distance(self, student: ModelAdapter, view: View, target: Embedding) -> Tensor:
        """Return the mean over what the model was to make."""
        made = student.embed(view)
        held = made.detach() if isinstance(made, Tensor) else [part.detach() for part in parts(made)]
        outputs = student.decode(held, view)
        return region_error(outputs + (view.truth - GREY if self.grey else 0), view).mean()


class Hiding(MethodSection):
    """Teach the decoder to answer grey to forget images, and leave the encoder as it is."""

    part: ClassVar = "all"
    kind: Literal["hiding"]
    """A model that only hides."""
    budget: Positive = 1.0
    """Steps as a multiple of those of a problem."""

    def build(self, setting: Setting, forget: contracts.Loss, retain: contracts.Loss) -> list[control.Stage]:
        """Return one stage on both sets."""
        return [control.Stage(Decoded(True), Decoded(False), control.Constant(1, 1), budget=self.budget)]


def main() -> None:
    """Measure, and print a table for each recipe."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits", description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path, metavar="RECIPE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    plugins = discover(extra=[SimpleNamespace(__name__="benchmarks.audits", register_methods=lambda: [Hiding])])
    for path in given.recipes:
        runs = []
        for place, seed in enumerate(given.seeds):
            folder = given.to / f"{path.stem}-{seed}"
            trained = [1 + (place + step) % max(2, len(given.seeds)) for step in (0, 1)]
            runs.append(measured(path, folder, seed, trained, given.overrides, plugins))
            print(f"\n## {path.stem}, {len(runs)} seeds\n\n{table(runs)}", flush=True)


def measured(
    path: Path, folder: Path, seed: int, trained: Sequence[int], overrides: Sequence[str], plugins: Plugins
) -> dict[str, Any]:
    """Return the models and audits of one seed, in the shape of results.json."""
    methods = f"[{{kind: retrain, seed: {list(trained)}}}, {{kind: hiding}}]"
    changes = [f"compare={methods}", f"evaluate.audits=[{', '.join(AUDITS)}]", *overrides, f"seed={seed}"]
    bench = prepared(path, [*_sizes(path, overrides, plugins), *changes], plugins)
    tools = instruments.build(bench.recipe.evaluate, path.parent, bench.device)
    for name in ("solutions", "checkpoints", "audits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    run = unheard_run(folder, plugins)
    solved = [solve(run, bench, one, partial(bench.original, one.part), None) for one in bench.methods]
    rows = [{"id": one.id, "label": one.label, "retrained": one.retrained} for one in bench.methods]
    return {"solutions": rows, "audits": audited(folder, bench, tools, solved, run)}


def _sizes(path: Path, overrides: Sequence[str], plugins: Plugins) -> list[str]:
    """Return as changes the sizes that the weights of a recipe have by their record: what is retrained needs them."""
    section = read(path, overrides, plugins).model
    weights = resolve(section.weights, path.parent, "model.weights")
    its = {} if weights is None else json.loads((weights / "model.json").read_text())["recipe"]["model"]
    return [f"model.{key}={json.dumps(its[key])}" for key in its.keys() - {"kind", "weights", "train"}]


def table(runs: Sequence[Any]) -> str:
    """Return the mean of every figure over the seeds, and in how many of them it speaks against each model."""
    models = [["original", run["solutions"][1]["id"], run["solutions"][-1]["id"]] for run in runs]
    lines = ["| audit | figure | original | retrained | hiding | speaks against |", "|---|---|--:|--:|--:|---|"]
    for entry in runs[0]["audits"]:
        for key, its in entry["figures"].items():
            seen = [_seen(run, entry["id"], key, ids) for run, ids in zip(runs, models, strict=True)]
            values, spoken = zip(*seen, strict=True)
            shown = " | ".join(map(_mean, zip(*values, strict=True)))
            counts = ", ".join(f"{sum(each)} of {len(runs)}" for each in zip(*spoken, strict=True))
            name = f"{its['name']} {its['unit']}".rstrip()
            lines.append(f"| {entry['label']} | {name} | {shown} | {counts if its['forgotten'] is not None else '–'} |")
    return "\n".join(lines)


def _seen(run: Any, audit: str, key: str, ids: Sequence[str]) -> tuple[list[Any], list[bool]]:
    """Return a figure of each model, and whether it speaks against it."""
    entry = next(one for one in run["audits"] if one["id"] == audit)
    cells = {"original": entry["original"], **entry["solutions"]}
    return [cells[one].get(key) for one in ids], [(audit, key) in speaking(run, one) for one in ids]


def _mean(cells: Sequence[Any]) -> str:
    """Write a mean; where a seed has no number, what each has in its place."""
    if all(isinstance(cell, int | float) for cell in cells):
        return figure(statistics.fmean(cells), 3)
    return ", ".join(f">{cell['over']}" if isinstance(cell, dict) and "over" in cell else "none" if
                     isinstance(cell, dict) else figure(cell, 3) for cell in cells)  # fmt: skip


if __name__ == "__main__":
    main()
