"""Solutions are measured on further tasks where a recipe lists them, and the report shows each in a table."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_task
from pydantic import TypeAdapter

from unlearnkit.errors import UserError
from unlearnkit.evaluation.originals import Further
from unlearnkit.plugins import discover, kind_of
from unlearnkit.recipe.sections import TaskSection
from unlearnkit.report import write
from unlearnkit.report.shape import Results
from unlearnkit.seal import Sealed

Rewrite = Callable[[Path, dict[str, Any]], None]
LABELS = ["center-crop, ratio 0.25", "random-tokens, ratio 0.5, token 4"]
LIST = "[{kind: center-crop, ratio: 0.25}, {kind: random-tokens, token: 4, ratio: 0.5}]"
SHORT = ["training.steps=6", "training.checks=1", "epsilons={fractions: [0.5]}"]


def ran(recipe: Path, to: str, *overrides: str) -> Path:
    return tiny_task.ran(recipe, recipe.parent / to, *SHORT, *overrides, plugins=discover(installed=False))


def results_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(shared_tiny: Path) -> tuple[Path, Path]:
    """Return a run with further tasks and the same run without."""
    return ran(shared_tiny, "further", f"evaluate.tasks={LIST}"), ran(shared_tiny, "plain")


def test_every_solution_is_measured_on_every_further_task(runs: tuple[Path, Path]) -> None:
    results = results_of(runs[0])
    assert [entry["label"] for entry in results["tasks"][:2]] == LABELS
    assert results["tasks"][0]["task"] == {"kind": "center-crop", "ratio": 0.25, "pixels": None}
    ids = [row["id"] for row in results["solutions"]]
    for entry in results["tasks"][:2]:
        assert list(entry["solutions"]) == ids
        for measured in (entry["original"], *entry["solutions"].values()):
            assert set(measured) == {"forget", "retain"}
            for against in measured.values():
                assert set(against) == {"truth", "original"}
                assert isinstance(against["truth"]["hidden-psnr"], float)
        assert entry["original"]["forget"]["original"]["hidden-psnr"] == 60  # the original against itself: the cap
    first, second = (entry["original"]["forget"]["truth"] for entry in results["tasks"][:2])
    assert first != second
    assert first != results["original"]["metrics"]["forget"]["validation"]["truth"]


def test_what_needs_no_model_and_single_images_are_scored_as_models_are(runs: tuple[Path, Path]) -> None:
    results = results_of(runs[0])
    assert results["fill"]["label"] == "mean-colour fill"
    each = results["each"]
    assert (each["metric"], each["against"]) == ("hidden-psnr", "truth")
    scored = {"fill": results["fill"], "original": results["original"], **{s["id"]: s for s in results["solutions"]}}
    for of in ("forget", "retain"):
        assert len(set(each[of]["images"])) == results["sets"][of]["validation"]
        assert len(each[of]["shown"]) == results["images"]["count"]
        assert set(each[of]["scores"]) == set(scored)
        for model, scores in each[of]["scores"].items():
            assert len(scores) == len(each[of]["images"])
            mean = scored[model]["metrics"][of]["validation"]["truth"]["hidden-psnr"]
            assert sum(scores) / len(scores) == pytest.approx(mean, rel=1e-4)
    for entry in results["tasks"]:
        assert isinstance(entry["fill"]["forget"]["truth"]["hidden-psnr"], float)


def test_further_tasks_change_nothing_else(runs: tuple[Path, Path]) -> None:
    further, plain = (results_of(run) for run in runs)
    assert plain["tasks"] == []
    assert further | {"tasks": []} == plain
    pictures = [{path.name: path.read_bytes() for path in (run / "images").iterdir()} for run in runs]
    assert pictures[0] == pictures[1]
    assert "Other tasks" not in (runs[1] / "report.html").read_text(encoding="utf-8")
    assert "Other tasks" not in (runs[1] / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("where", ["task=", "evaluate.tasks="])
def test_a_task_that_does_not_suit_the_images_is_refused_before_anything_is_written(tiny: Path, where: str) -> None:
    section = "{kind: downscaling, factor: 3}"
    with pytest.raises(UserError, match="images of 16 x 16 px do not divide by 3; give a divisor of 16"):
        ran(tiny, "never", where + (section if where == "task=" else f"[{section}]"))
    assert not (tiny.parent / "never").exists()


@pytest.mark.parametrize("label", LABELS)
def test_the_report_has_a_table_for_each_further_task(runs: tuple[Path, Path], label: str) -> None:
    results = results_of(runs[0])
    page = (runs[0] / "report.html").read_text(encoding="utf-8")
    assert f"<caption><span>{label}</span></caption>" in page
    rows = table_of((runs[0] / "report.md").read_text(encoding="utf-8"), label)
    assert rows[0][1:] == ["PSNR, hidden region (dB) ↑, forget set", "PSNR, hidden region (dB) ↑, retain set"]
    labels = {row["id"]: row["label"] for row in results["solutions"]}
    between = [labels[key] for key in ("boundary-lowest", "epsilon-at-0.5", "boundary-highest")]
    assert [row[0] for row in rows[1:]] == ["original model", "mean-colour fill", *between]
    entry = next(entry for entry in results["tasks"] if entry["label"] == label)
    shown = entry["solutions"]["boundary-highest"]
    for cell, of in zip(rows[-1][1:], ("forget", "retain"), strict=True):
        assert float(cell.replace("−", "-")) == pytest.approx(shown[of]["truth"]["hidden-psnr"], rel=5e-4)


def table_of(text: str, label: str) -> list[list[str]]:
    section = text.partition(f"### {label}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in [lines[0], *lines[2:]]]


def scored(results: dict[str, Any], psnr: object) -> dict[str, Any]:
    def measured(ssim: object) -> dict[str, Any]:
        scores = {"psnr": psnr, "ssim": ssim, "kid": {"failed": "KID needs 100 images, the retain set has 50"}}
        return {of: {"truth": scores, "original": scores} for of in ("forget", "retain")}

    failed = {"failed": "images of 8 × 8 px hold no window"}
    return {
        "task": {"kind": "half", "side": "left"}, "label": "half, side <left>",
        "original": measured(0.5), "solutions": {s["id"]: measured(failed) for s in results["solutions"]},
    }  # fmt: skip


def test_a_failed_metric_is_explained_below_its_table(
    run: Path, results: dict[str, Any], write_results: Rewrite
) -> None:
    write_results(run, results | {"tasks": [scored(results, 21.5), scored(results, None)]})
    write(Sealed.measured(run))
    page, text = ((run / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    section = page.partition('<h2 id="tasks">')[2].partition("</section>")[0]
    reason = "SSIM: images of 8 × 8 px hold no window"
    assert section.count(reason) == 2
    assert section.count("failed [3]") == 2 * 2 * len(results["solutions"])
    assert section.count("KID ↓, forget set: KID needs 100 images") == 2
    assert section.count("<caption><span>half, side &lt;left&gt;</span></caption>") == 2
    assert text.count("### half, side &lt;left&gt;") == 2
    assert re.search(r"\| composite α = 0\.25 \| 21\.50 \| failed \\\[3\\\] \| 21\.50 \| failed \\\[3\\\] \|", text)
    assert re.search(r"\| original model \| — \|", text)


def test_results_from_before_further_tasks_are_still_reported(run: Path, results: dict[str, Any]) -> None:
    assert "tasks" not in results
    write(Sealed.measured(run))
    assert "Other tasks" not in (run / "report.html").read_text(encoding="utf-8")


def test_the_results_keep_their_shape(runs: tuple[Path, Path]) -> None:
    TypeAdapter(Results).validate_python(results_of(runs[0]))


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"kind": "center-crop"}, "center-crop, ratio 0.5"),
        ({"kind": "center-crop", "pixels": 4}, "center-crop, pixels 4"),
        ({"kind": "half", "side": "left"}, "half, side left"),
        ({"kind": "reconstruction"}, "reconstruction"),
        ({"kind": "brush", "box": (0.25, 0.5)},
         "brush, strokes 1 to 3, vertices 4 to 11, width 0.05 to 0.15, box 0.25 to 0.5"),
    ],
)  # fmt: skip
def test_a_label_names_kind_and_fields(fields: dict[str, Any], label: str) -> None:
    classes = {kind_of(cls): cls for cls in discover(installed=False).classes(TaskSection)}
    assert Further(classes[fields["kind"]].model_validate(fields)).label == label


def test_training_images_that_were_not_measured_have_no_table(shared_tiny: Path, runs: tuple[Path, Path]) -> None:
    run = ran(shared_tiny, "validation-alone", "evaluate.train=false")
    found, before = results_of(run), results_of(runs[1])
    for solution, other in zip(found["solutions"], before["solutions"], strict=True):
        wanted = {of: {"validation": splits["validation"]} for of, splits in other["metrics"].items()}
        assert solution["metrics"] == wanted
    for file, title in (("report.md", "8 training images"), ("report.html", "<span>Forget set, 8 training images<")):
        assert title in (runs[1] / file).read_text(encoding="utf-8")
        assert title not in (run / file).read_text(encoding="utf-8")
