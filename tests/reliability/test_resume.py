"""A run that is stopped, in whatever way, ends as if it had not been."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tiny_task import ran, resumed
from trials import SHORT

from unlearnkit.builtin.data.pictures import Pictures
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.solver.workbench import build


def files(run: Path) -> dict[str, bytes]:
    """Return what must be the same: results, weights, pictures."""
    found = [run / "results.json", *run.glob("solutions/*/tensors.safetensors"), *run.glob("images/*.png")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def begun(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unlearnkit", *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_events(process: subprocess.Popen[str], run: Path, count: int) -> None:
    """Wait until a run has written so many events, or has ended."""
    events = run / "events.jsonl"
    while process.poll() is None and (not events.exists() or events.read_bytes().count(b"\n") < count):
        time.sleep(0.002)


@pytest.fixture
def whole(finished) -> Path:
    """Return a run that nothing disturbed."""
    return finished / "run"


def test_the_same_recipe_twice_gives_the_same_bytes(whole, shared_tiny, tmp_path, unlearnkit):
    unlearnkit("run", shared_tiny, "--to", "again", env={}).succeeded()  # by another process
    assert files(tmp_path / "again") == files(whole)
    report = (whole / "report.html").read_bytes()
    assert b"<html" in report


def test_a_run_killed_at_five_random_points_ends_bit_identical(whole, shared_tiny, tmp_path, unlearnkit):
    run = tmp_path / "killed"
    lines = (whole / "events.jsonl").read_bytes().count(b"\n")
    points = sorted(random.Random(time.time_ns()).sample(range(2, lines), 5))
    process = begun(["run", str(shared_tiny), "--to", str(run)], tmp_path)
    for point in points:
        wait_for_events(process, run, point)
        process.kill()
        process.communicate()
        process = begun(["resume", str(run)], tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, (points, out, err)
    assert files(run) == files(whole), points
    assert not list(run.rglob("*.part"))


STREAMED = "--set", "data.memory_mib=0", "--set", "data.workers=2"


@pytest.mark.parametrize(("number", "how"), [(signal.SIGINT, ()), (signal.SIGTERM, STREAMED)], ids=["int", "term"])
def test_a_signal_saves_and_exits(whole, shared_tiny, tmp_path, unlearnkit, number, how):
    """Also where processes decode the batches."""
    run = tmp_path / "stopped"
    rare = "--set", "training.checkpoint_every=1000"
    process = begun(["run", str(shared_tiny), "--to", str(run), *rare, *how], tmp_path)
    wait_for_events(process, run, 12)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "the state is saved" in err
    assert "Traceback" not in err
    unlearnkit("resume", run).succeeded()
    assert files(run) == files(whole)


def test_resuming_a_finished_run_changes_nothing(whole, tmp_path, unlearnkit):
    copy = shutil.copytree(whole, tmp_path / "copy")
    unlearnkit("resume", copy).succeeded()
    assert files(copy) == files(whole)


def test_a_damaged_checkpoint_is_passed_over_aloud(whole, shared_tiny, tmp_path, unlearnkit):
    run = tmp_path / "damaged"

    def crash(event):
        if len(list(run.glob("checkpoints/boundary-highest/step-*"))) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        ran(shared_tiny, run, tell=crash)
    newest = max(run.glob("checkpoints/boundary-highest/step-*"))
    tensors = bytearray((newest / "tensors.safetensors").read_bytes())
    tensors[len(tensors) // 2] ^= 1
    (newest / "tensors.safetensors").write_bytes(tensors)
    outcome = unlearnkit("resume", run).succeeded()
    assert "passed over" in outcome.err
    assert "passed over" in json.loads((run / "manifest.json").read_text())["warnings"][0]
    assert files(run) == files(whole)


def test_a_damaged_solution_is_named(whole, tmp_path, unlearnkit):
    copy = shutil.copytree(whole, tmp_path / "copy")
    tensors = copy / "solutions" / "epsilon-at-0.5" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    outcome = unlearnkit("resume", copy)
    assert outcome.code == 7
    assert str(tensors) in outcome.err
    assert "Traceback" not in outcome.err


def test_resuming_with_another_value_is_said(tiny, unlearnkit):
    run = tiny.parent / "changed"
    outcome = unlearnkit("run", tiny, "--to", run, "--set", "training.optimizer.lr=1e38")
    assert outcome.code == 6
    assert "non-finite at step" in outcome.err
    unlearnkit("resume", run, "--set", "training.optimizer.lr=0.003").succeeded()
    assert "training.optimizer.lr=0.003" in (run / "report.html").read_text()


def test_another_size_of_the_model_is_no_other_image_but_another_image_is(tiny):
    """What the images are held against was taken at the size that the model had."""
    run = ran(tiny, tiny.parent / "run", *SHORT)
    picture = sorted((tiny.parent / "pictures" / "red").iterdir())[0]
    other, pixels = Image.new("RGB", (24, 20)), picture.read_bytes()
    other.save(picture)
    for size in (16, 20):
        with pytest.raises(UserError, match=r"changed since the run began: data\.(train|validation)\.forget"):
            resumed(run, f"model.image_size={size}", "name=other")
    picture.write_bytes(pixels)
    resumed(run, "model.image_size=20")
    assert files(run) == files(ran(tiny, tiny.parent / "fresh", *SHORT, "model.image_size=20"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_decodes_each_batch_has_the_bytes_of_one_in_memory(
    whole, shared_tiny, tmp_path, unlearnkit, workers
):
    unlearnkit("run", shared_tiny, "--to", "run", *STREAMED[:3], f"data.workers={workers}").succeeded()
    assert files(tmp_path / "run") == files(whole)
    facts = [json.loads((run / "manifest.json").read_text())["data"] for run in (whole, tmp_path / "run")]
    assert facts[0] == facts[1]
    assert [entry["classes"] for entry in facts[0]] == [["red"], ["green", "blue"]]


def test_a_run_that_decodes_each_batch_can_be_killed_too(whole, shared_tiny, tmp_path, unlearnkit):
    run = tmp_path / "run"
    process = begun(["run", str(shared_tiny), "--to", str(run), *STREAMED], tmp_path)
    wait_for_events(process, run, 12)
    process.kill()
    process.communicate()
    time.sleep(1)  # a killed run's processes see that it is gone and let go of the folder
    unlearnkit("resume", run).succeeded()
    assert files(run) == files(whole)


def test_a_recipe_that_is_not_as_the_run_began_with_is_named(tiny, unlearnkit):
    """The recipe goes into the sealed folder as it was written: a run does not go on beside another one."""
    unlearnkit("run", tiny, "--to", "run").succeeded()
    (tiny.parent / "run" / "seal.json").unlink()
    recipe = tiny.parent / "run" / "recipe.yaml"
    written = recipe.read_bytes()
    recipe.write_bytes(written.replace(b"seed: 3", b"seed: 4"))
    outcome = unlearnkit("resume", "run")
    assert outcome.code == 7
    assert "run/recipe.yaml: damaged" in outcome.err
    recipe.write_bytes(written)
    unlearnkit("resume", "run").succeeded()


class StoppedError(Exception):
    """Raised amid a run."""


def test_a_resumed_run_decodes_each_image_that_it_uses_once_and_no_other(tiny, tmp_path, monkeypatch):
    """Where evaluation is under way these are the validation images, and the forget images for f1 at the start."""
    short = *SHORT[:2], "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 0, train: false}"

    def stop(event):
        if event["event"] == "evaluated":
            raise StoppedError

    decoded, read = list[str](), Pictures.read
    with pytest.raises(StoppedError):
        ran(tiny, tmp_path / "run", *short, tell=stop)
    monkeypatch.setattr(Pictures, "read", lambda self, item, size: decoded.append(item.key) or read(self, item, size))
    resumed(tmp_path / "run")
    bench = build(load(tiny, discover(), short).recipe, tiny.parent)
    used = [*bench.chosen["forget"].train, *(item for part in bench.chosen.values() for item in part.validation)]
    assert sorted(decoded) == sorted(item.key for item in used)
