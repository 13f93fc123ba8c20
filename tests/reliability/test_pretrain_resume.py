"""A training that is stopped, in whatever way, ends as if it had not been."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_task import MODEL, failing, write_tiny

from unlearnkit import disk
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run import checkpoint, interrupts, pretrain

STEPS = 60
RECIPE = f"""\
name: small
seed: 5
{MODEL}\
data: {{source: {{kind: image-folder, root: pictures}}}}
tasks: [{{kind: center-crop}}, {{kind: random-tokens, token: 4}}]
pretrain: {{steps: {STEPS}, batch_size: 8, device: cpu, average: 0.9, half: true, adversary: {{width: 4, depth: 1}}}}
"""
SAVES = 20


class Killed(BaseException):
    """What ends a training at a place that a test chose."""


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trained(recipe: Path, to: Path, tell=lambda step, figures: None) -> None:
    found = load(recipe, discover())
    pretrain.train(found.recipe, found.resolved, recipe.parent, to, tell)


def resumed(to: Path, tell=lambda step, figures: None) -> list[str]:
    """Go on as the command line does, and return the warnings."""
    warned: list[str] = []
    pretrain.resume(to, discover(), tell, warned.append)
    return warned


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """Return the recipe, beside what an undisturbed training of it makes: `whole`."""
    recipe = write_tiny(tmp_path_factory.mktemp("small")).with_name("small.yaml")
    recipe.write_text(RECIPE)
    trained(recipe, recipe.parent / "whole")
    return recipe


@pytest.fixture
def whole(small) -> dict[str, bytes]:
    return files(small.parent / "whole")


def begun(words: list[object], cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unlearnkit", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_training_leaves_the_model_and_nothing_else(whole):
    assert sorted(whole) == ["model.json", "model.safetensors"]


def test_a_training_killed_as_often_as_it_saves_ends_in_the_same_bytes(small, whole, tmp_path, monkeypatch):
    """Each process dies just before its second checkpoint, or the renaming of it."""
    to, saved = tmp_path / "to", []
    for number in range(10**3):
        with monkeypatch.context() as patch:
            where = (checkpoint, "write") if number % 2 else (checkpoint, "rotate")
            patch.setattr(*where, failing(getattr(*where), 1, Killed()))
            try:
                resumed(to) if number else trained(small, to)
                break
            except Killed:
                saved.append(max(path.name for path in checkpoint.names(to / "checkpoints")))
                assert (to / "pretraining.json").exists()
    assert saved == sorted(saved)
    assert len(set(saved)) >= SAVES / 2
    assert files(to) == whole


def test_a_process_killed_at_random_points_ends_in_the_same_bytes(small, whole, tmp_path):
    to = tmp_path / "to"
    waits = [random.Random(time.time_ns() + number).uniform(0, 1) for number in range(2)]
    for wait in waits:
        process = begun(
            ["resume", to] if (to / "pretraining.json").exists() else ["pretrain", small, "--to", to], tmp_path
        )
        while process.poll() is None and not to.exists():
            time.sleep(0.002)
        time.sleep(wait)
        process.kill()
        process.communicate()
    again = ["resume", to] if (to / "pretraining.json").exists() or (to / "model.json").exists() else None
    out, err = (process := begun(again or ["pretrain", small, "--to", to], tmp_path)).communicate()
    assert process.returncode == 0, (waits, out, err)
    assert files(to) == whole, waits


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_acknowledged_saves_and_exits(small, whole, tmp_path, unlearnkit, number):
    process = begun(["pretrain", small, "--to", tmp_path / "to", "--set", "pretrain.steps=100000"], tmp_path)
    while process.poll() is None and not list(tmp_path.glob("to/pretraining.json")):
        time.sleep(0.002)
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.startswith(f"signal {number}: stopping; a second one stops at once\n")
    assert err.endswith(f"stopped by signal {number}; the state is saved\n")
    (saved,) = checkpoint.names(tmp_path / "to" / "checkpoints")
    assert saved.name > "step-000000000"


@pytest.mark.parametrize("step", [7, 30])
def test_a_signal_is_obeyed_after_the_step_it_came_in(small, whole, tmp_path, unlearnkit, monkeypatch, step):
    real = pretrain.batch_index

    def signalling(number, *arguments):
        if number == step:
            signal.raise_signal(signal.SIGTERM)
        return real(number, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "batch_index", signalling)
        outcome = unlearnkit("pretrain", small, "--to", "to")
    assert outcome.code == 128 + signal.SIGTERM
    assert checkpoint.names(tmp_path / "to" / "checkpoints")[-1].name == f"step-{step + 1:09d}"
    unlearnkit("resume", "to").succeeded()
    assert files(tmp_path / "to") == whole


def test_a_signal_stops_a_validation_at_once(small, whole, tmp_path, unlearnkit, monkeypatch):
    seen = []

    def endless(*_):
        seen.append(signal.raise_signal(signal.SIGINT))
        raise AssertionError("it went on")

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "quality", endless)
        assert unlearnkit("pretrain", small, "--to", "to").code == 128 + signal.SIGINT
    resumed(tmp_path / "to")
    assert files(tmp_path / "to") == whole


def test_the_handlers_of_signals_are_given_back(small, tmp_path):
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    trained(small, tmp_path / "to")
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before


def stopped_at(small: Path, to: Path, step: int) -> Path:
    """Return a folder whose training died at a validation."""

    def tell(done, _):
        if done == step:
            raise Killed

    with pytest.raises(Killed):
        trained(small, to, tell)
    return to


def test_the_same_command_again_says_how_to_go_on(small, whole, tmp_path, unlearnkit):
    to = stopped_at(small, tmp_path / "to", 30)
    outcome = unlearnkit("pretrain", small, "--to", to)
    assert outcome.code == Exit.FOLDER
    assert f"unlearnkit resume {to}" in outcome.err
    assert unlearnkit("resume", to, "--set", "seed=1").code == Exit.USAGE
    assert unlearnkit("resume", to).succeeded().out.startswith("step 30: loss")
    assert files(to) == whole
    assert unlearnkit("resume", to).succeeded().out == f"{to}\n"
    assert files(to) == whole


def test_a_folder_killed_before_its_state_is_taken_over(small, whole, tmp_path, monkeypatch):
    to = tmp_path / "to"
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_record", failing(disk.write_record, 0, Killed()))
        with pytest.raises(Killed):
            trained(small, to)
    assert [path.name for path in to.iterdir()] == ["lock"]
    (to / ".pretraining.json.12345678.part").touch()
    trained(small, to)
    assert files(to) == whole


def test_a_damaged_checkpoint_is_passed_over_aloud(small, whole, tmp_path, unlearnkit):
    to = stopped_at(small, tmp_path / "to", 30)
    newest = checkpoint.names(to / "checkpoints")[-1] / "tensors.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    outcome = unlearnkit("resume", to).succeeded()
    assert "warning: " in outcome.err
    assert "passed over" in outcome.err
    assert outcome.out.startswith("step 27: ")
    assert files(to) == whole


def test_checkpoints_of_another_training_are_refused(small, tmp_path):
    to, other = stopped_at(small, tmp_path / "to", 30), tmp_path / "other.yaml"
    other.write_text(RECIPE.replace("seed: 5", "seed: 6").replace("root: ", f"root: {small.parent}/"))
    theirs = stopped_at(other, tmp_path / "theirs", 30)
    shutil.rmtree(to / "checkpoints")
    shutil.copytree(theirs / "checkpoints", to / "checkpoints")
    with pytest.raises(UserError, match="another training") as error:
        resumed(to)
    assert error.value.code == Exit.FOLDER


def test_whatever_changed_is_named_and_refused(tiny, tmp_path, monkeypatch):
    base = tiny.parent
    recipe = base / "small.yaml"
    recipe.write_text(RECIPE)
    trained(recipe, base / "start")
    recipe.write_text(RECIPE.replace("  kind: vit-mae\n", "  kind: vit-mae\n  weights: start\n"))
    to = stopped_at(recipe, base / "to", 30)

    def refused(word: str) -> None:
        with pytest.raises(UserError, match=rf"changed since the training began: {word}[ ;]") as error:
            resumed(to)
        assert error.value.code == Exit.FOLDER

    for name in ("torch", "unlearnkit"):
        other = pretrain.software(()) | {name: "0.0.1"}
        with monkeypatch.context() as patch:
            patch.setattr(pretrain, "software", lambda values, other=other: other)
            refused(rf"software\.{name}")
    weights = base / "start" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    refused("weights")
    weights.write_bytes(kept)
    picture = base / "pictures" / "red" / "00.png"
    shutil.copy(base / "pictures" / "blue" / "00.png", picture)
    refused(r"images\.\w+")
    record = to / "pretraining.json"
    record.write_bytes(record.read_bytes().replace(b'"threads": ', b'"threads": 1'))
    with pytest.raises(UserError, match="damaged"):
        resumed(to)


@pytest.mark.parametrize("optimizer", ["{kind: adamw}", "{kind: sgd, lr: 0.01, momentum: 0.9}"])
def test_all_that_a_step_reads_is_kept(tiny, monkeypatch, optimizer):
    """What the optimiser remembers, a buffer that moves, and what a model draws as it is trained."""
    adapter = type(load(tiny, discover()).recipe.model.build(None))
    begin, loss = adapter.__init__, adapter.own_loss

    def beginning(self, module):
        begin(self, module)
        module.register_buffer("seen", torch.zeros(()), persistent=False)

    def drawing(self, images, view):
        self.module.seen += 1
        return loss(self, images, view) * torch.rand(()) * self.module.seen

    monkeypatch.setattr(adapter, "__init__", beginning)
    monkeypatch.setattr(adapter, "own_loss", drawing)
    recipe = tiny.parent / "small.yaml"
    recipe.write_text(RECIPE.replace("device: cpu", f"device: cpu, optimizer: {optimizer}"))
    trained(recipe, tiny.parent / "whole")
    to = stopped_at(recipe, tiny.parent / "to", 30)
    resumed(to)
    assert files(to) == files(tiny.parent / "whole")


def test_the_number_of_threads_is_taken_over(small, whole, tmp_path):
    to, threads = stopped_at(small, tmp_path / "to", 30), torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        resumed(to)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)
    assert files(to) == whole


@pytest.mark.parametrize("where", [(os, "open"), (os, "fsync"), (Path, "mkdir"), (Path, "rename"), (Path, "unlink")])
def test_a_disk_that_fails_at_any_write_is_one_message(small, whole, tmp_path, unlearnkit, monkeypatch, where):
    """Whatever write fails, the command then goes on: `resume`, or the same again where nothing had begun."""
    to, messages = tmp_path / "to", []
    reason = os.strerror(errno.EROFS if where[1] == "open" else errno.ENOSPC)
    for at in (0, 1, 2, 3, 4, 5, 8, 13, 21, 34, 55, 89, 144, 233):
        words = ("resume", to) if (to / "pretraining.json").exists() else ("pretrain", small, "--to", to)
        with monkeypatch.context() as patch:
            patch.setattr(*where, failing(getattr(*where), at, OSError(errno.ENOSPC, reason)))
            outcome = unlearnkit(*words)
        if outcome.code == 0:
            break
        assert outcome.code == Exit.FOLDER, outcome.err
        messages.append(outcome.err)
    assert all(reason in message and message.count("\n") == 1 for message in messages), messages
    assert len(messages) >= 2
    assert files(to) == whole


def test_a_file_that_may_not_grow_is_one_message(small, whole, tmp_path):
    """A real failure of the system's: the weights are larger than a file may be."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    command = [sys.executable, "-m", "unlearnkit", "pretrain", str(small), "--to", str(tmp_path / "to")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.FOLDER, done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    resumed(tmp_path / "to")
    assert files(tmp_path / "to") == whole


def test_what_is_not_finite_is_not_stored(small, tmp_path, unlearnkit):
    outcome = unlearnkit("pretrain", small, "--to", "to", "--set", "pretrain.optimizer={kind: adamw, lr: 1e38}")
    assert outcome.code == Exit.DIVERGED
    assert "non-finite at step" in outcome.err
    assert not checkpoint.names(tmp_path / "to" / "checkpoints")
    assert not (tmp_path / "to" / "model.json").exists()


def test_two_processes_do_not_train_into_one_folder(small, tmp_path):
    to = tmp_path / "to"

    def second(*_):
        with pytest.raises(UserError, match="another process"):
            resumed(to)
        raise Killed

    with pytest.raises(Killed):
        trained(small, to, second)
    assert json.loads((to / "pretraining.json").read_text())["recipe"]["name"] == "small"
