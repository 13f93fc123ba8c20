"""`python -m benchmarks.audits [RECIPE...] --to FOLDER`: audits beside the original, a retrained and a hiding model.

The model that only hides is the original whose decoder was taught to answer grey to forget images, its encoder
untouched. All seeds see the images of the recipe's own seed, on which the original was trained. Beside each two models
are retrained, each held against the other, with two of as many training seeds from 1 on (0 is that of the shipped
originals), so that as many trainings do. Each recipe and seed has a folder of its own, where what was solved and
audited is found again, and each recipe a JSON file of what was found. With `--kinds` the recipes are of tiny models,
whose originals are trained first.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
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
from unlearnkit.recipe.pretraining import PretrainRecipe
from unlearnkit.recipe.sections import MethodSection, ModelSection
from unlearnkit.recipe.validate import load
from unlearnkit.report.headline import speaking
from unlearnkit.report.numbers import figure
from unlearnkit.run import pretrain
from unlearnkit.run.solve import solve
from unlearnkit.weights import resolve

AUDITS = (
    "{kind: membership, views: 8}", "{kind: membership, calibrate: retrained, views: 8}", "{kind: relative}",
    "{kind: layers}", "{kind: quantised}", "{kind: adversarial, images: 16}", "{kind: retain-leakage}",
    "{kind: fresh-decoder}", "{kind: relearning, images: [forget]}",
)  # fmt: skip
GREY = 0.5
KINDS = {
    "vit-mae": "image_size: 16, patch_size: 4, width: 48, depth: 2, heads: 2, decoder_width: 32, decoder_depth: 1,"
    " decoder_heads: 2",
    "vq-gan": "image_size: 16, block_out_channels: [8, 16], layers_per_block: 1, latent_channels: 8, codes: 64,"
    " code_width: 4, norm_num_groups: 4",
    "palette": "image_size: 16, block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4,"
    " attention_head_dim: 8, attention: [], steps: 3, fill: neutral, prediction: v_prediction,"
    " beta_schedule: squaredcos_cap_v2",
}  # fmt: skip
"""Tiny models."""
STEPS = {"vit-mae": 3000, "vq-gan": 3000, "palette": 9000}
"""How long tiny originals are trained."""
COUNTS = 100, 50
"""Their training and validation images of each class."""


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
    """Measure, and print a table of all recipes after each seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits", description=__doc__)
    parser.add_argument("recipes", nargs="*", type=Path, metavar="RECIPE")
    parser.add_argument("--kinds", nargs="+", default=[], choices=KINDS, help="tiny models to measure too")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    plugins = discover(extra=[SimpleNamespace(__name__="benchmarks.audits", register_methods=lambda: [Hiding])])
    found: dict[str, list[Any]] = {}
    for path in (*given.recipes, *(tiny(kind, given.to, STEPS[kind], COUNTS, plugins) for kind in given.kinds)):
        runs = found.setdefault(path.stem, [])
        for place, seed in enumerate(given.seeds):
            folder = given.to / f"{path.stem}-{seed}"
            trained = [1 + (place + step) % max(2, len(given.seeds)) for step in (0, 1)]
            runs.append(measured(path, folder, seed, trained, given.overrides, plugins))
            (given.to / f"{path.stem}.json").write_text(f"{json.dumps(runs, indent=1)}\n")
            print(f"\n{table(found)}", flush=True)


def tiny(kind: str, folder: Path, steps: int, counts: tuple[int, int], plugins: Plugins) -> Path:
    """Return the recipe of a tiny model in a folder, whose original is trained for so many steps if it is not there."""
    (folder / kind).mkdir(parents=True, exist_ok=True)
    drawn = f"per_class: {{train: {counts[0]}, validation: {counts[1]}}}"
    source = "source: {kind: sample, name: objects-64}"
    rest = "batch_size: 8, device: cpu, optimizer: {kind: adamw, lr: 0.003}"
    (folder / kind / "pretrain.yaml").write_text(
        f"name: {kind}\nmodel: {{kind: {kind}, {KINDS[kind]}}}\n"
        f"data: {{{source}, classes: [faces, airplanes, motorbikes], {drawn}}}\n"
        f"tasks: [{{kind: center-crop, ratio: 0.5}}]\npretrain: {{steps: {steps}, crop: 1, {rest}}}\n"
    )
    found = load(folder / kind / "pretrain.yaml", plugins)
    assert isinstance(found.recipe, PretrainRecipe)
    if not (folder / kind / "weights").exists():
        pretrain.train(found.recipe, found.resolved, folder / kind, folder / kind / "weights", lambda *_: None)
    recipe = folder / f"{kind}.yaml"
    recipe.write_text(
        f"name: {kind}\nmodel: {{kind: {kind}, {KINDS[kind]}, weights: {kind}/weights}}\n"
        f"task: {{kind: center-crop, ratio: 0.5}}\n"
        f"data: {{{source}, forget: {{classes: [faces]}}, retain: {{classes: [airplanes, motorbikes]}}, {drawn}}}\n"
        f"training: {{steps: 240, {rest}}}\n"
    )
    return recipe


def measured(
    path: Path, folder: Path, seed: int, trained: Sequence[int], overrides: Sequence[str], plugins: Plugins
) -> dict[str, Any]:
    """Return the models and audits of one seed, in the shape of results.json."""
    methods = f"[{{kind: retrain, seed: {list(trained)}}}, {{kind: hiding}}]"
    its = read(path, overrides, plugins)
    drawn = f"data.seed={its.seed if its.data.seed is None else its.data.seed}"
    changes = [f"compare={methods}", f"evaluate.audits=[{', '.join(AUDITS)}]", *overrides, f"seed={seed}", drawn]
    bench = prepared(path, [*_sizes(its.model, path.parent), *changes], plugins)
    tools = instruments.build(bench.recipe.evaluate, path.parent, bench.device)
    for name in ("solutions", "checkpoints", "audits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    run = unheard_run(folder, plugins)
    solved = [solve(run, bench, one, partial(bench.original, one.part), None) for one in bench.methods]
    rows = [{"id": one.id, "label": one.label, "retrained": one.retrained} for one in bench.methods]
    return {"solutions": rows, "audits": audited(folder, bench, tools, solved, run)}


def _sizes(section: ModelSection, base: Path) -> list[str]:
    """Return as changes the sizes that the weights of a recipe have by their record: what is retrained needs them."""
    weights = resolve(section.weights, base, "model.weights")
    its = {} if weights is None else json.loads((weights / "model.json").read_text())["recipe"]["model"]
    return [f"model.{key}={json.dumps(its[key])}" for key in its.keys() - {"kind", "weights", "train"}]


def table(found: Mapping[str, Sequence[Any]]) -> str:
    """Return a row for each figure that can speak against a model, and a column for each recipe, of which are the runs.

    Cells are the means over the seeds of the original, a retrained and the hiding model, and in how many of the seeds
    the figure speaks against each.
    """
    names = {
        (entry["id"], key): f"{entry['id']}, {its['name']} {its['unit']}".rstrip()
        for runs in found.values() for entry in runs[0]["audits"] for key, its in entry["figures"].items()
        if its["forgotten"] is not None
    }  # fmt: skip
    lines = [f"| audit, figure | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for (audit, key), name in names.items():
        cells = [_cell(runs, audit, key) for runs in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(runs: Sequence[Any], audit: str, key: str) -> str:
    """Return the means of a figure, and how often it speaks against each model."""
    models = [["original", run["solutions"][1]["id"], run["solutions"][-1]["id"]] for run in runs]
    seen = [_seen(run, audit, key, ids) for run, ids in zip(runs, models, strict=True)]
    values, spoken = zip(*seen, strict=True)
    if all(cell is None for row in values for cell in row):
        return "–"
    against = ", ".join(str(sum(each)) for each in zip(*spoken, strict=True))
    return f"{'; '.join(map(_mean, zip(*values, strict=True)))} ({against})"


def _seen(run: Any, audit: str, key: str, ids: Sequence[str]) -> tuple[list[Any], list[bool]]:
    """Return a figure of each model, and whether it speaks against it."""
    entry = next(one for one in run["audits"] if one["id"] == audit)
    cells = {"original": entry["original"], **entry["solutions"]}
    return [cells[one].get(key) for one in ids], [(audit, key) in speaking(run, one) for one in ids]


def _mean(cells: Sequence[Any]) -> str:
    """Write a mean; where a seed has no number, what each has in its place, or once what all have."""
    if all(isinstance(cell, int | float) for cell in cells):
        return figure(statistics.fmean(cells), 3)
    words = [f">{cell['over']}" if isinstance(cell, dict) and "over" in cell else "none" if
             isinstance(cell, dict) else figure(cell, 3) for cell in cells]  # fmt: skip
    return ", ".join(words if len({*words}) > 1 else words[:1])


if __name__ == "__main__":
    main()
