"""Bad input gets one clear message and its exit code, and leaves nothing half written."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_task import ran, resumed

from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load


def refused(outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("error:") <= 1


def complaint(recipe: Path, *overrides: str) -> UserError:
    """Return what a run of the recipe is refused with; it must not have made its folder."""
    to = recipe.parent / "never"
    with pytest.raises(UserError) as caught:
        ran(recipe, to, *overrides)
    assert not to.exists()
    return caught.value


def test_unknown_class(tiny):
    error = complaint(tiny, "data.forget.classes=[rd]")
    assert error.code == Exit.RECIPE
    assert "unknown class 'rd'; did you mean 'red'?" in str(error)
    assert "blue, green, red" in str(error)


def test_empty_class_folder(tiny):
    (tiny.parent / "pictures" / "yellow").mkdir()
    assert "class 'yellow' has no images" in str(complaint(tiny, "data.forget.classes=[yellow]"))


def test_class_with_too_few_images(tiny):
    assert "has 8 training images, but 9 are asked for" in str(complaint(tiny, "data.per_class.train=9"))


def test_unreadable_image(tiny):
    broken = tiny.parent / "pictures" / "red" / "03.png"
    broken.write_bytes(broken.read_bytes()[:60])
    error = complaint(tiny)
    assert str(broken) in str(error)
    assert "not a readable image" in str(error)


def test_image_smaller_than_the_model(tiny):
    from PIL import Image

    small = tiny.parent / "pictures" / "red" / "03.png"
    Image.new("RGB", (12, 40)).save(small)
    assert f"{small}: 12 x 40 px, but the model works on 16 px" in str(complaint(tiny))


def test_missing_folder(tiny):
    shutil.rmtree(tiny.parent / "pictures")
    assert "there is no folder" in str(complaint(tiny))


def weights_of(tiny: Path) -> Path:
    path = tiny.parent / "model.safetensors"
    section = load(tiny, discover()).recipe.model
    save_file(section.build(None).module.state_dict(), path)
    return path


def test_missing_weights(tiny):
    assert "there is no file" in str(complaint(tiny, "model.weights=nowhere.safetensors"))
    assert "there is: inpaint-64, mae-64" in str(complaint(tiny, "model.weights=sample:nothing"))


def test_truncated_weights(tiny):
    path = weights_of(tiny)
    path.write_bytes(path.read_bytes()[:-100])
    assert "no complete safetensors file" in str(complaint(tiny, "model.weights=model.safetensors"))


def test_weights_of_another_shape_or_model(tiny):
    path = weights_of(tiny)
    message = str(complaint(tiny, "model.weights=model.safetensors", "model.width=32"))
    assert "other shapes: " in message
    assert "in the file and" in message
    save_file({"something.else": torch.zeros(3)}, path)
    assert "missing: decoder." in str(complaint(tiny, "model.weights=model.safetensors"))


def test_right_weights_are_taken(tiny):
    path = weights_of(tiny)
    section = load(tiny, discover()).recipe.model
    built = section.build(path).module.state_dict()
    assert all(torch.equal(built[name], value) for name, value in load_file(path).items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there(tiny, unlearnkit):
    outcome = unlearnkit("run", tiny, "--to", "never", "--set", "training.device=cuda")
    refused(outcome, 5, "'cuda' is asked for", "training.device=cpu")
    assert not (tiny.parent / "never").exists()


def test_run_folder_that_exists(tiny, unlearnkit):
    (tiny.parent / "taken").mkdir()
    (tiny.parent / "taken" / "mine.txt").write_text("keep me")
    refused(unlearnkit("run", tiny, "--to", "taken"), 7, "exists already", "--to")
    assert [path.name for path in (tiny.parent / "taken").iterdir()] == ["mine.txt"]


def test_run_folder_in_use(finished, tmp_path):
    run = shutil.copytree(finished / "run", tmp_path / "used")
    (run / "seal.json").unlink()
    with (run / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is working") as caught:
            resumed(run)
    assert caught.value.code == Exit.FOLDER


def test_not_a_run_folder(tiny, unlearnkit):
    refused(unlearnkit("resume", tiny.parent), 7, "no run was begun here")
    refused(unlearnkit("report", tiny.parent), 7, "is no run folder")


def test_overlapping_sets(tiny, unlearnkit):
    outcome = unlearnkit("validate", tiny, "--set", "data.retain.classes=[red, blue]")
    refused(outcome, 3, "red")


def test_epsilon_is_met_up_to_the_original_model_and_not_run_beyond(tiny):
    run = ran(tiny, tiny.parent / "probe", "training.steps=12")
    found = json.loads((run / "results.json").read_text())
    bounds, original = found["range"], found["original"]["f1"]
    middle, beyond = (bounds["lowest"] + bounds["highest"]) / 2, (bounds["highest"] + original) / 2
    values = f"epsilons={{values: [{middle}, {beyond}, 99.0]}}"
    results = json.loads((ran(tiny, tiny.parent / "some", values, "training.steps=12") / "results.json").read_text())
    rows = [row for row in results["solutions"] if row["phase"] == 2]
    assert [row["epsilon"] for row in rows] == [middle, beyond]
    assert all(row["satisfied"] for row in rows)
    lowest = next(row for row in results["solutions"] if row["id"] == "boundary-lowest")
    assert rows[1]["fraction"] > 1
    assert rows[1]["f2"] < lowest["f2"]  # nearer to the original model than phase 1 got
    assert results["outside"] == [{"epsilon": 99.0, "reason": f"above {original:.6g}, f1 of the original model"}]
    assert "99" in (tiny.parent / "some" / "report.md").read_text()
    for name, value, said in (("loose", 99.0, f"all are above {original:.6g}"), ("tight", 1e-9, "none is between")):
        with pytest.raises(UserError, match=rf"epsilons\.values: {said}") as caught:
            ran(tiny, tiny.parent / name, f"epsilons={{values: [{value}]}}", "training.steps=12")
        assert caught.value.code == Exit.RECIPE
        assert any((tiny.parent / name / "solutions").iterdir()) == (name == "tight")  # the other before phase 1


@pytest.mark.parametrize("nth", [2, 30, 90])
def test_a_full_disk_loses_nothing(tiny, finished, monkeypatch, nth):
    calls, real = [0], os.fsync

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] >= nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    run = tiny.parent / "full"
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="No space left on device") as caught:
        ran(tiny, run)
    monkeypatch.undo()
    assert caught.value.code == Exit.FOLDER
    assert not list(run.rglob("*.part"))
    if (run / "manifest.json").exists():
        resumed(run)
        assert (run / "results.json").read_bytes() == (finished / "run" / "results.json").read_bytes()


def test_a_disk_that_is_too_small_is_seen_before_the_start(tiny, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))
    error = complaint(tiny)
    assert error.code == Exit.FOLDER
    assert "the run needs about" in str(error)


def test_a_metric_that_fails_stays_in_its_cell(tiny):
    run = ran(tiny, tiny.parent / "failing", "training.steps=2", "evaluate.metrics=[{kind: ssim}, {kind: fid}]")
    results = json.loads((run / "results.json").read_text())
    cells = results["original"]["metrics"]["forget"]["train"]["truth"]
    assert isinstance(cells["ssim"], float)
    assert "failed" in cells["fid"]
    assert cells["fid"]["failed"] in (run / "report.html").read_text() or "too few" in (run / "report.html").read_text()


def test_a_task_that_hides_every_patch_is_refused_before_anything_is_written(tiny, unlearnkit):
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", "model.patch_size=8")
    refused(outcome, 3, "no patch of 8 x 8 px is visible in any image")


@pytest.mark.parametrize("place", ["boundary", "lowest"])
@pytest.mark.parametrize("kind", ["constraint-gap", "relative-gap"])
def test_a_control_function_that_needs_an_epsilon_is_refused_where_there_is_none(tiny, place, kind):
    error = complaint(tiny, f"control.{place}={{kind: {kind}}}")
    assert error.code == Exit.RECIPE
    assert f"'{kind}' needs an ε, which phase 1 has not" in str(error)
