"""Audits from recipe to report: every model by itself, stopped and resumed, failing in their own cells."""

import json
from types import SimpleNamespace
from typing import Literal

import pytest
import tiny_task
import torch
from pydantic import TypeAdapter

from unlearnkit.contracts import Audit, Figure, Missing, Over
from unlearnkit.errors import Stopped, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.sections import AuditSection
from unlearnkit.report.shape import Results

AUDITS = (
    "[{kind: membership}, {kind: fresh-decoder, steps: 4}, {kind: failing, how: examine}, {kind: failing, how: build}, "
    "{kind: failing, how: not-finite}, {kind: failing, how: none}, "
    "{kind: failing, how: untyped}, {kind: failing, how: samples}]"
)
SHORT = ["training.steps=12", "training.checks=1", "epsilons={fractions: [0.5]}", "compare=[{kind: retrain}]"]


class Failing(AuditSection):
    """An audit that fails as it is told."""

    kind: Literal["failing"]
    """Failing."""
    how: Literal["examine", "build", "not-finite", "none", "untyped", "samples"]
    """How."""

    def build(self, base, device):
        if self.how == "build":
            raise UserError("weights are missing; put them there", 3)
        how = self.how

        class Fails(Audit):
            figures = {  # noqa: RUF012
                "one": Figure("one", "First.", "lower", "m"), "two": Figure("two", "Second.", 0.5),
                "three": Figure("three", "Third.", None),
            }  # fmt: skip

            def samples(self, images):
                if how == "samples":
                    raise RuntimeError("it cannot count")
                return f"{len(images['forget']['validation'])} images."

            def examine(self, case):
                if how == "examine":
                    raise RuntimeError("it broke")
                if how == "untyped":
                    return {"one": torch.tensor(0.25), "two": Over(torch.tensor(3.0)), "three": "0.5"}
                return {"one": float("nan") if how == "not-finite" else 1.5, "two": Over(7), "three": Missing("no")}

        return Fails()


def plugins():
    return discover(extra=[SimpleNamespace(__name__="failing", register_audits=lambda: [Failing])], installed=False)


def ran(recipe, run, *overrides, tell=lambda event: None):
    overrides = [*SHORT, f"evaluate.audits={AUDITS}", *overrides]
    return tiny_task.ran(recipe, run, *overrides, plugins=plugins(), tell=tell)


@pytest.fixture(scope="module")
def whole(shared_tiny):
    """Return a run with audits that nothing disturbed."""
    return ran(shared_tiny, shared_tiny.parent / "whole")


def results_of(run):
    return json.loads((run / "results.json").read_text())


def test_every_audit_is_run_for_the_original_and_every_solution(whole):
    results = results_of(whole)
    TypeAdapter(Results).validate_python(results, strict=True)
    ids = [row["id"] for row in results["solutions"]]
    assert len(ids) == 4
    names = ["membership", "fresh-decoder", "failing", "failing-2", "failing-3", "failing-4", "failing-5", "failing-6"]
    assert [entry["id"] for entry in results["audits"]] == names
    for entry in results["audits"]:
        assert list(entry["solutions"]) == ids
        assert entry["seeds"] == [3]
        for cell in (entry["original"], *entry["solutions"].values()):
            assert list(cell) == list(entry["figures"])
    decoder = results["audits"][1]
    values = [cell["fresh"] for cell in (decoder["original"], *decoder["solutions"].values())]
    assert all(isinstance(value, float) for value in values)
    assert len(set(values)) == len(values)
    assert decoder["samples"].startswith("Measured on 4 forget validation images; the decoder is trained for 4 steps")


def test_what_fails_says_why_in_its_own_cell_and_the_rest_stands(whole):
    results = results_of(whole)
    _, _, examine, build, nan, fine, untyped, uncounted = results["audits"]
    assert examine["original"] == {key: {"failed": "RuntimeError: it broke"} for key in ("one", "two", "three")}
    assert build["original"] == {"": {"failed": "weights are missing; put them there"}}
    assert results["warnings"] == ["audit failing-2: weights are missing; put them there"]
    assert nan["original"] == {"one": {"failed": "the value is nan"}, "two": {"over": 7}, "three": {"failed": "no"}}
    assert fine["original"]["one"] == uncounted["original"]["one"] == 1.5
    assert uncounted["samples"] == "RuntimeError: it cannot count"
    reason = {"failed": "expected a number, found str"}
    assert untyped["original"] == {"one": 0.25, "two": {"over": 3.0}, "three": reason}
    events = [json.loads(line) for line in (whole / "events.jsonl").read_text().splitlines()]
    failed = [event for event in events if event["event"] == "failed"]
    models = ["original", *(row["id"] for row in results["solutions"])]
    assert [event["what"] for event in failed] == [f"audit failing, {model}" for model in models]
    assert all('raise RuntimeError("it broke")' in event["traceback"] for event in failed)
    tpr = results["audits"][0]["original"]["tpr"]
    assert tpr == {"failed": "too few images: 4 non-members, and 1 % of them is less than one; give 100"}
    for name in ("report.md", "report.html"):
        text = (whole / name).read_text()
        for said in ("it broke", "weights are missing; put them there", "the value is nan", "too few images: 4 non-"):
            assert said in text
        assert "7</td>" in text or "| &gt;7 |" in text


def test_the_report_gives_arrow_meaning_samples_and_seed(whole):
    text = (whole / "report.md").read_text()
    assert "| one (m) ↓ | two → 0.5 |" in text
    assert r"- [1] three: no" in text  # for no model, so that it is no column
    assert "4 images. Seed 3." in text
    assert "**fresh decoder (dB) ↓**: the same with a decoder trained anew" in text
    assert "Audits</h2>" in (whole / "report.html").read_text()


def test_audits_give_the_same_bytes_twice_and_change_no_solution(whole, shared_tiny, tmp_path):
    assert (ran(shared_tiny, tmp_path / "again") / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    plain = results_of(ran(shared_tiny, tmp_path / "plain", "evaluate.audits=[]"))
    assert {**results_of(whole), "audits": [], "warnings": []} == plain


class CrashError(Exception):
    """A stop at any point."""


@pytest.mark.parametrize("error", [CrashError, lambda: Stopped(15)])
def test_a_run_that_is_stopped_between_audits_goes_on_with_the_next(whole, shared_tiny, tmp_path, error):
    def crash(event):
        if event["event"] == "audited" and (event["audit"], event["id"]) == ("fresh-decoder", "boundary-lowest"):
            raise error()

    run = tmp_path / "run"
    with pytest.raises((CrashError, Stopped)):
        ran(shared_tiny, run, tell=crash)
    done = sorted(path.relative_to(run / "audits").as_posix() for path in run.glob("audits/*/*.json"))
    assert len(done) == 5 + 3
    before = {path: (run / "audits" / path).stat().st_mtime_ns for path in done}
    tiny_task.resumed(run, plugins=plugins())
    assert (run / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert {path: (run / "audits" / path).stat().st_mtime_ns for path in done} == before


def test_a_signal_within_an_audit_stops_at_the_next_step(shared_tiny, tmp_path, monkeypatch):
    from unlearnkit.evaluation.case import ModelCase
    from unlearnkit.run.events import Run

    steps, train = [], ModelCase.train

    def told(self, *arguments, **options):
        for step in train(self, *arguments, **options):
            steps.append(step)
            if step == 2:
                run.stop.signal = 15
            yield step

    created = Run.__init__

    def kept(self, *arguments):
        nonlocal run
        run = self
        created(self, *arguments)

    run = None
    monkeypatch.setattr(Run, "__init__", kept)
    monkeypatch.setattr(ModelCase, "train", told)
    with pytest.raises(Stopped):
        ran(shared_tiny, tmp_path / "run", "evaluate.audits=[{kind: fresh-decoder, steps: 100}]")
    assert steps == [0, 1, 2]


def test_another_value_of_an_audit_is_audited_anew(shared_tiny, tmp_path):
    run = ran(shared_tiny, tmp_path / "run", "evaluate.audits=[{kind: fresh-decoder, steps: 2}]")
    before = results_of(run)["audits"][0]["original"]
    tiny_task.resumed(run, "evaluate.audits=[{kind: fresh-decoder, steps: 5}]", plugins=plugins())
    after = results_of(run)["audits"][0]["original"]
    assert after["own"] == before["own"]
    assert after["fresh"] != before["fresh"]


def test_an_audit_without_validation_images_says_so(shared_tiny, tmp_path):
    audits = "evaluate.audits=[{kind: membership}, {kind: fresh-decoder, steps: 2}]"
    per_class = "data.per_class={train: 8, validation: 0}", "training.steps=24"
    first, second = results_of(ran(shared_tiny, tmp_path / "run", audits, *per_class))["audits"]
    assert "too few images" in first["original"]["auc"]["failed"]
    assert "no validation images of the forget set" in second["original"]["fresh"]["failed"]


def test_a_training_that_diverges_is_named(shared_tiny, tmp_path):
    audits = "evaluate.audits=[{kind: fresh-decoder, steps: 20, optimizer: {kind: adamw, lr: 1.0e+38}}]"
    (entry,) = results_of(ran(shared_tiny, tmp_path / "run", audits))["audits"]
    assert "lower the audit's optimizer.lr" in entry["original"]["fresh"]["failed"]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("members/auc", "evaluate.audits has no members; it has: membership"),
        ("membership/acu", "membership has no such figure; it has: auc, tpr, members, others"),
        ("forget/validation/truth/psnr", "evaluate.metrics has no psnr; it has: hidden-psnr"),
        ("forget/train/truth/hidden-psnr", "evaluate.train is false, so it is not measured; give validation"),
    ],
)
def test_a_limit_on_what_is_not_measured_is_refused_before_the_run(figure, said, tiny, tmp_path, unlearnkit):
    sets = [f"evaluate.limits=[{{figure: {figure}, at_most: 1}}]", "evaluate.audits=[{kind: membership}]"]
    for command in ("plan", "run"):
        words = [word for one in (*sets, "evaluate.train=false") for word in ("--set", one)]
        outcome = unlearnkit(command, tiny, *words)
        assert outcome.code == 3
        assert f"evaluate.limits[0].figure: {figure}: {said}" in outcome.out + outcome.err
    assert not (tmp_path / "runs").exists()


def test_other_limits_are_held_against_what_was_measured(tiny, tmp_path):
    def limits(run):
        return json.loads((run / "results.json").read_text())["limits"]

    asked = "evaluate.audits=[{kind: membership}]"
    run = tiny_task.ran(tiny, tmp_path / "run", asked)
    assert limits(run) == []
    before = {path: path.stat().st_mtime_ns for path in run.glob("[ae]*/**/*.json")}
    others = "[{figure: membership/auc, at_least: 0, at_most: 1}, {figure: f1, at_most: 0}]"
    tiny_task.resumed(run, asked, f"evaluate.limits={others}")
    assert {path: path.stat().st_mtime_ns for path in run.glob("[ae]*/**/*.json")} == before
    assert [{held["kept"] for held in limit["solutions"].values()} for limit in limits(run)] == [{True}, {False}]
    report = (run / "report.md").read_text()
    assert "| membership AUC ≥ 0 and ≤ 1 |" in report
    assert "FAIL, 0.0" in report
