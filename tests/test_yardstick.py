"""The yardstick: as many steps as the original had, by its name where it took fewer, and shared by runs."""

import json
import shutil

import pytest
from safetensors.torch import load_file
from tiny_task import MODEL, ran

from benchmarks.fronts import unheard_run
from unlearnkit import disk
from unlearnkit.contracts import Pretrained
from unlearnkit.data import sets, unsplit
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.training import AdamW
from unlearnkit.recipe.validate import load
from unlearnkit.report.shape import parsed
from unlearnkit.report.tables import sections
from unlearnkit.run import pretrain
from unlearnkit.run.plan import describe
from unlearnkit.run.solve import solve
from unlearnkit.solver.pretrained import pretrained, strangers
from unlearnkit.solver.workbench import build

SHORT = ("training.steps=12", "training.checks=1", "epsilons={fractions: [0.5]}", "evaluate.images=1")
STEPS = 30


@pytest.fixture(scope="module")
def trained(shared_tiny):
    """Return the tiny recipe beside `weights`, which took 30 steps."""
    data = "data: {source: {kind: image-folder, root: pictures}}\ntasks: [{kind: center-crop}]\n"
    fields = f"{{steps: {STEPS}, batch_size: 6, crop: 0.9, device: cpu, optimizer: {{kind: adamw, lr: 0.002}}}}"
    small = shared_tiny.with_name("small.yaml")
    small.write_text(f"name: small\n{MODEL}{data}pretrain: {fields}\n")
    found = load(small, discover())
    pretrain.train(found.recipe, found.resolved, small.parent, small.parent / "weights", lambda *_: None)
    return shared_tiny


def problems(recipe, methods, *overrides):
    changes = ("training.steps=4", f"compare=[{methods}]", *overrides)
    return build(load(recipe, discover(), changes).recipe, recipe.parent).methods


def test_the_record_beside_weights_says_how_they_were_trained(trained, tmp_path):
    weights = trained.parent / "weights"
    expected = {"optimizer": AdamW(lr=0.002), "batch_size": 6, "crop": 0.9, "decay": 1.0}
    for place in (weights, weights / "model.safetensors"):
        assert pretrained(place) == Pretrained(STEPS, expected)
    assert pretrained(None) == Pretrained(0)
    other = shutil.copytree(weights, tmp_path / "other")
    (other / "more.safetensors").write_bytes(b"another model")
    assert pretrained(other / "more.safetensors") is None
    record = json.loads((other / "model.json").read_text())
    record["recipe"]["model"]["weights"] = "earlier"
    (other / "model.json").write_text(json.dumps(record))
    assert pretrained(other) is None  # which does not say how many steps those had
    (weights.parent / "alone.safetensors").write_bytes((weights / "model.safetensors").read_bytes())
    assert pretrained(weights.parent / "alone.safetensors") is None
    shutil.copy(weights / "model.json", other / "model.json")
    (other / "model.safetensors").write_bytes(b"trained further")
    assert pretrained(other) is None


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        (["data.seed=0", "data.per_class={}"], True), (["seed=0", "data.per_class={train: 5, validation: 3}"], True),
        (["data.seed=0", "data.per_class={validation: 6}"], False), ([], False), (["data.per_class={}"], False),
        (["data.seed=0", "data.per_class={validation: 1}"], False),
    ],
)  # fmt: skip
def test_images_that_the_original_was_not_trained_on_are_told(trained, changes, fits):
    base, small = trained.parent, load(trained.with_name("small.yaml"), discover()).recipe
    seen = {item.key for item in unsplit(small.data, base, small.seed).train}
    recipe = load(trained, discover(), ["model.weights=weights", "training.steps=2", *changes]).recipe
    (forget, _), weights = sets.split(recipe.data, base, recipe.seed), base / "weights"
    source = recipe.data.source
    unseen, known = ([item for item in forget.train if item.key not in seen],
                     [item for item in forget.validation if item.key in seen])  # fmt: skip
    said = [
        f"data.forget: {len(items)} of its {len(half)} {which} the original was trained on, such as '{items[0].key}'"
        for items, half, which in (
            (unseen, forget.train, "training images are not among those that"),
            (known, forget.validation, "validation images are among those that"),
        )
        if items
    ]
    notes = strangers(weights, source, forget).notes
    assert [note.partition(", and audits")[0] for note in notes] == said
    assert (not said) == fits
    assert all("data.seed: 0" in note for note in notes)
    assert strangers(None, source, forget) is forget
    elsewhere = source.model_copy(update={"root": "photographs"})
    assert strangers(weights, elsewhere, forget) is forget
    assert [*build(recipe, base).chosen["forget"].notes] == notes
    assert {*notes} <= {*describe(recipe, base, timed=False)["notes"]}


def test_a_shorter_retraining_is_called_so_and_is_no_yardstick(trained):
    methods = "{kind: retrain}, {kind: retrain, seed: [4, 5]}, {kind: retrain, budget: 2.0}, {kind: retrain, budget: 8}"
    whole, *seeds, brief, enough = problems(trained, methods, "model.weights=weights")
    assert [one.label for one in (whole, *seeds)] == [
        "retrained, 30 steps", "retrained, 30 steps, seed 4", "retrained, 30 steps, seed 5",
    ]  # fmt: skip
    assert whole.stages[0].settings["batch_size"] == 6
    assert (brief.label, brief.brief, brief.retrained) == ("retrained briefly: 8 of 30 steps", (8, 30), False)
    assert (enough.label, enough.retrained) == ("retrained, 32 steps", True)
    assert not enough.stages[0].settings
    (stated,) = problems(trained, "{kind: retrain, original_steps: 3000}", "model.weights=weights")
    assert stated.label == "retrained, 3,000 steps"


def test_steps_that_nobody_knows_have_to_be_stated(trained):
    shutil.copy(trained.parent / "weights" / "model.safetensors", trained.parent / "bare.safetensors")
    bare = "model.weights=bare.safetensors"
    with pytest.raises(UserError, match="state them in `original_steps`"):
        problems(trained, "{kind: retrain}", bare)
    (unknown,) = problems(trained, "{kind: retrain, budget: 8}", bare)
    assert unknown.label == "retrained briefly: 32 steps, of the original's nothing is known"
    assert (unknown.retrained, unknown.brief) == (False, (32, None))
    (stated,) = problems(trained, "{kind: retrain, original_steps: 20}", bare)
    assert (stated.label, stated.retrained) == ("retrained, 20 steps", True)


@pytest.fixture(scope="module")
def held(trained):
    """Return the events, the folder and the results of a run with two yardsticks and a brief one."""
    events, methods = [], "[{kind: retrain, seed: [0, 1]}, {kind: retrain, budget: 2}]"
    asked = (
        f"compare={methods}",
        "model.weights=weights",
        "evaluate.audits=[{kind: relative}, {kind: two-points, beyond: [1]}]",
    )
    run = ran(trained, trained.parent / "run", *SHORT, *asked, tell=events.append)
    return events, run, parsed((run / "results.json").read_bytes(), run)


def test_the_gap_is_the_difference_to_the_yardsticks(held):
    _, run, results = held
    gold = {s["id"]: s for s in results["solutions"] if s.get("retrained")}
    assert results["gap"]["to"] == list(gold) == ["retrain-seed-0", "retrain-seed-1"]
    assert [s.get("brief") for s in results["solutions"] if s["method"] == "retrain"][2] == {"steps": 24, "of": 30}
    for s in results["solutions"]:
        others = [one for name, one in gold.items() if name != s["id"]]
        for of in ("forget", "retain"):
            for split in ("train", "validation"):
                score, *least = [one["metrics"][of][split]["truth"]["hidden-psnr"] for one in (s, *others)]
                found = results["gap"]["solutions"][s["id"]][of][split]["hidden-psnr"]
                assert found == pytest.approx(score - sum(least) / len(least))
    (table,) = next(tables for title, _, tables in sections(results) if title == "Gap to the retrained model")
    assert [column.group for column in table.columns[1:]] == [
        f"{of} set, {seen} images" for of in ("forget", "retain") for seen in ("unseen", "training")
    ]
    text = (run / "report.md").read_text()
    assert "retrained briefly: 24 of 30 steps" in text
    assert "mean of 2 retrained models" in text


def test_audits_see_the_yardsticks_alone(held):
    entry = held[2]["audits"][0]
    assert entry["original"]["outputs"] == 0.0
    assert set(entry["solutions"]["retrain-seed-0"]) == set(entry["figures"])
    assert entry["solutions"]["retrain-seed-0"]["apart"] < entry["solutions"]["retrain-budget-2.0"]["apart"]


def test_two_points_are_each_model_and_the_one_that_is_named(held):
    results = held[2]
    cells = results["audits"][1]["solutions"]
    shown = {s["id"]: s["metrics"]["forget"]["validation"]["truth"]["hidden-psnr"] for s in results["solutions"]}
    assert "takes another model than boundary-lowest" in cells.pop("boundary-lowest")["own"]["failed"]
    for name, cell in cells.items():
        assert cell["own"] == pytest.approx(shown[name], abs=1e-3)
        assert cell["other"] == pytest.approx(shown["boundary-lowest"], abs=1e-3)


@pytest.fixture
def retrained(trained, tmp_path):
    """Return what retrains alone and returns the weights, f1, and by kind what was told."""

    def solved(name, *overrides):
        changes = ("training.steps=12", "compare=[{kind: retrain, seed: 0}]", "model.weights=weights", *overrides)
        bench = build(load(trained, discover(), changes).recipe, trained.parent)
        run = unheard_run(tmp_path / name, discover())
        (only,) = bench.methods
        solution = solve(run, bench, only, lambda: bench.original(only.part), None)
        told = [json.loads(line) for line in (run.folder / "events.jsonl").read_text().splitlines()]
        by_kind = {kind: [event for event in told if event["event"] == kind] for kind in ("shared", "warning")}
        return solution.theta, solution.last.f1, by_kind

    return solved


def test_runs_share_what_was_trained_from_scratch(held, retrained):
    weights = load_file(held[1] / "solutions" / "retrain-seed-0" / "tensors.safetensors")["theta"]
    theta, f1, told = retrained("same")
    ((place,),) = [[event["path"] for event in told["shared"]]]
    assert theta.equal(weights)
    other = ("retain={kind: reference-output}", "forget={kind: noise-output}", "epsilons={fractions: [0]}")
    found = retrained("other", *other)
    assert found[0].equal(weights)
    assert found[2]["shared"]
    assert found[1] != f1  # which is held against its own forget loss
    assert not retrained("fewer", "data.per_class={train: 6, validation: 4}")[2]["shared"]
    assert not retrained("later", "task={kind: center-crop, ratio: 0.25}")[2]["shared"]
    with open(f"{place}/tensors.safetensors", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x07")
    theta, _, told = retrained("damaged")
    assert theta.equal(weights)
    assert any("damaged" in event["message"] for event in told["warning"])
    assert retrained("mended")[2]["shared"]


def test_a_cache_that_cannot_be_written_costs_no_run(retrained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(disk.CACHE, str(tmp_path / "file"))
    told = retrained("run")[2]
    assert any("cannot be kept there" in event["message"] for event in told["warning"])
