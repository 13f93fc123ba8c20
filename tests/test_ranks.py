"""Several processes on one run end in the bytes of one, whatever becomes of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from tiny_task import RECIPE, failing, lasting, ran, resumed

from unlearnkit.builtin.losses.sections import ReferenceEmbedding
from unlearnkit.contracts import Loss
from unlearnkit.errors import Exit, Stopped, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run import follow, runner, worker
from unlearnkit.run.folder import held
from unlearnkit.solver.workbench import build

METRICS = "metrics: [{kind: hidden-psnr}, {kind: ssim}]"
"""One of ours, and one whose library looks for other processes."""
CURVE = "sweep: {kind: curve, budget: 1}"
WAYS = f"""{RECIPE.replace("metrics: [{kind: hidden-psnr}]", METRICS).replace("sweep: {kind: independent}", CURVE)}\
compare:
  - {{kind: composite, alpha: 0.3}}
  - {{kind: hamu}}
  - {{kind: eupmu}}
  - {{kind: pcgrad}}
"""
"""A curve, and rules of every sort: one pass for both losses, with a look behind the step, and two passes."""
AUDITS = (
    "evaluate.audits=[{kind: membership}, {kind: relearning, steps: 4, every: 2, optimizer: {kind: sgd, lr: 1.0e+30}}]"
)
"""One that is kept, and one that fails in every cell."""
BRIEF = ("training.steps=6", "training.shards=2", "epsilons.fractions=[0.25, 0.75]", "compare=[]")
"""What takes little time."""


def bench_of(recipe, *changes):
    """Return the workbench of a recipe with changes."""
    return build(load(recipe, discover(), changes).recipe, recipe.parent)


def launched(count, *arguments):
    """Start a command in so many processes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        meeting = "--nproc-per-node", str(count), "--master-port", str(free.getsockname()[1])
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, "-m", "unlearnkit", *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}, **quiet)


def ended(started, seconds=240):
    """Return what a command said until its end; where there is none in so many seconds, fail with where each hangs."""
    try:
        return started.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        for pid in descendants(started.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
        raise AssertionError(started.communicate()[1]) from None


def awaited(there, started, seconds=240):
    """Wait until something is there; where it does not come, fail with what a command said, and where it hangs."""
    end = time.monotonic() + seconds
    while not there():
        if started.poll() is not None or time.monotonic() > end:
            raise AssertionError(ended(started, 1))
        time.sleep(0.05)


def descendants(pid):
    """Return all processes that one has started, the innermost first."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [one for child in map(int, found.split()) for one in (*descendants(child), child)]


def contents(run):
    """Return the bytes of all that a run found out: vectors, figures, pictures, results."""
    found = [*run.glob("solutions/*/tensors.safetensors"), *run.glob("images/*"), run / "results.json"]
    found += [*run.glob("evaluations/*"), *run.glob("audits/*/*")]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in found}


def events(run):
    """Return what was told of a run."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def told(run):
    """Return the kinds of all that was told of a run."""
    return [event["event"] for event in events(run)]


def done(run):
    """Return all tasks of a run that were begun, each with its process."""
    return [(event["name"], event["pid"]) for event in events(run) if event["event"] == "task"]


def test_processes_that_are_killed_and_resumed_in_another_number_end_in_the_bytes_of_one(tiny):
    tiny.write_text(WAYS)
    asked = "training={shards: 3, batch_size: 5, steps: 8, checkpoint_every: 3, look: {images: 4}, device: cpu}"
    alone = ran(tiny, tiny.parent / "alone", asked, AUDITS)
    shared = tiny.parent / "shared"
    streamed = "--set", "data.memory_mib=0", "--set", "data.workers=1"
    running = launched(3, "run", tiny, "--to", shared, "--set", asked, "--set", AUDITS, *streamed)
    awaited((shared / "solutions" / "boundary-lowest").exists, running)
    others = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True).stdout
    os.kill(max(map(int, others.split())), signal.SIGKILL)
    said = ended(running)
    assert running.returncode != 0
    assert not (shared / "seal.json").exists()
    assert "Traceback" not in said.split("torch/distributed")[0]
    stopped = launched(2, "resume", shared)
    awaited(lambda: told(shared).count("start") == 2, stopped)
    expected, models = contents(alone), len(json.loads((alone / "results.json").read_text())["solutions"]) + 1
    tasks = len([*alone.glob("evaluations/*")]) + 2 * models
    with held(shared / "tasks" / "evaluate-boundary-highest"):  # what the others wait for
        awaited(lambda: told(shared).count("task") >= tasks / 2, stopped)
        time.sleep(0.5)
        os.kill(next(pid for name, pid in done(shared) if name == "evaluate-original"), signal.SIGTERM)
        said = ended(stopped)
    assert told(shared)[-1] == "stopped", said
    assert "Traceback" not in said.split("torch/distributed")[0]
    assert not (shared / "evaluations" / "boundary-highest.json").exists()
    going_on = launched(3, "resume", shared)
    said = ended(going_on)
    assert going_on.returncode == 0, said
    assert len(expected) > 10
    assert contents(shared) == expected
    for kind in ("evaluate", "audit"):
        assert len({pid for name, pid in done(shared)[-tasks:] if name.startswith(kind)}) == 3
    manifest = json.loads((shared / "manifest.json").read_text())
    assert (manifest["processes"], [entry["processes"] for entry in manifest["resumed"]]) == (3, [2, 3])


@pytest.fixture
def second(shared_tiny, monkeypatch):
    """Let another process share the evaluations: this one does its share too, after what a test has in `meddle`."""
    its = SimpleNamespace(rank=0, words=[], outcome={}, meddle=lambda: None)

    def awaited(meanwhile):
        its.rank = 1
        its.meddle()
        its.outcome |= worker.share(its.words[-1], bench_of(shared_tiny, *BRIEF, AUDITS), discover())
        its.rank = 0
        meanwhile()

    fake = SimpleNamespace(
        count=lambda: 2, rank=lambda: its.rank, join=its.outcome.clear, say=its.words.append, awaited=awaited,
        gathered=lambda mine: [mine, {**its.outcome} or mine],
    )  # fmt: skip
    for module in (runner, follow):
        monkeypatch.setattr(module, "ranks", fake)
    monkeypatch.setattr(runner, "write_report", lambda sealed: [])
    return its


@pytest.fixture(scope="module")
def serial(shared_tiny):
    """Return the hashes of what one process leaves."""
    return lasting(ran(shared_tiny, shared_tiny.parent / "alone", *BRIEF, AUDITS))


@pytest.mark.parametrize("how", ["as it should be", "elsewhere", "left"])
def test_what_another_process_does_not_evaluate_is_left_to_the_first(
    serial, shared_tiny, tmp_path, second, monkeypatch, how
):
    run, told = tmp_path / "run", []
    if how == "elsewhere":
        second.meddle = lambda: (run / "tasks" / "token").unlink()
    if how == "left":
        stop = failing(None, 0, Stopped(signal.SIGTERM))
        second.meddle = lambda: monkeypatch.setattr(follow, "evaluated", stop)
    ran(shared_tiny, run, *BRIEF, AUDITS, tell=told.append)
    assert lasting(run) == serial
    assert not (run / "tasks").exists()
    warned = [event["message"] for event in told if event["event"] == "warning"]
    assert [f"does not see {run}" in message for message in warned] == [True] * (how == "elsewhere")
    done = [event["name"] for event in told if event["event"] == "task"]
    assert len({*done}) == len(done) == {"as it should be": 17, "elsewhere": 9, "left": 10}[how]


def test_what_fails_in_another_process_ends_the_run_as_it_would_in_the_first(
    serial, shared_tiny, tmp_path, second, monkeypatch
):
    run, told = tmp_path / "run", []
    second.meddle = lambda: (run / "evaluations" / "boundary-highest.json").mkdir()
    with pytest.raises(UserError, match=r"boundary-highest.json: cannot be written") as found:
        ran(shared_tiny, run, *BRIEF, AUDITS, tell=told.append)
    assert found.value.code == Exit.FOLDER
    (run / "evaluations" / "boundary-highest.json").rmdir()
    second.meddle = lambda: monkeypatch.setattr(follow, "evaluated", failing(None, 0, ZeroDivisionError("odd")))
    with pytest.raises(RuntimeError, match=r"(?s)process 1 failed in its worker:.*ZeroDivisionError: odd"):
        resumed(run, tell=told.append)
    assert "evaluated" not in [event["event"] for event in told]
    monkeypatch.undo()
    assert lasting(resumed(run)) == serial


def test_parts_of_a_batch_and_of_a_set_add_up_to_the_whole(tiny, monkeypatch):
    monkeypatch.setattr("unlearnkit.solver.side.CHUNK", 3)
    whole, *others = (bench_of(tiny, f"training.shards={shards}") for shards in (1, 2, 3, 4))
    asked = [lambda side: side.whole(), lambda side: side.sum(1, 0)]
    for name, sum_of in product(("forget", "retain"), asked):
        value, gradient = sum_of(whole.sides[name]).gradient(whole.flat, 0)
        for bench in others:
            same, other = sum_of(bench.sides[name]).gradient(bench.flat, 0)
            torch.testing.assert_close((same, other), (value, gradient), rtol=1e-4, atol=1e-7)
            assert bench.sides[name].exact() == whole.sides[name].exact()


class Spread(Loss):
    """A loss of a batch as a whole."""

    fixed, reads_reference = True, False

    def target(self, view, generator):
        return ()

    def distance(self, student, view, target):
        made = student.output(view)
        return (made - made.mean(0)).square().mean()


def test_what_cannot_be_shared_is_refused_with_what_to_do(tiny, monkeypatch):
    for asked, told in (("8", "8 parts of a batch of 4 images"), ("0", "number of at least 1")):
        with pytest.raises(UserError, match=told):
            bench_of(tiny, f"training.shards={asked}")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"training.shards: 1 for 2 processes.*give 2 or more"):
        ran(tiny, tiny.parent / "run")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(ReferenceEmbedding, "build", lambda *_: Spread())
    with pytest.raises(UserError, match=r"retain: Spread: its loss of two images is not the mean of theirs.*shards: 1"):
        bench_of(tiny, "training.shards=2")
