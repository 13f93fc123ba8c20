"""Several processes on one run end in the bytes of one, whatever becomes of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from itertools import product

import pytest
import torch
from tiny_task import RECIPE, ran

from unlearnkit.builtin.losses.sections import ReferenceEmbedding
from unlearnkit.contracts import Loss
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
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


def bench_of(recipe, *changes):
    """Return the workbench of a recipe with changes."""
    return build(load(recipe, discover(), changes).recipe, recipe.parent)


def launched(count, *arguments):
    """Start a command in so many processes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        meeting = "--nproc-per-node", str(count), "--master-port", str(free.getsockname()[1])
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, "-m", "unlearnkit", *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)


def contents(run):
    """Return the bytes of all that a run found out: vectors, pictures, results."""
    found = [*run.glob("solutions/*/tensors.safetensors"), *run.glob("images/*"), run / "results.json"]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in found}


def test_processes_that_are_killed_and_resumed_in_another_number_end_in_the_bytes_of_one(tiny):
    tiny.write_text(WAYS)
    asked = "training={shards: 3, batch_size: 5, steps: 8, checkpoint_every: 3, look: {images: 4}, device: cpu}"
    alone = ran(tiny, tiny.parent / "alone", asked)
    shared = tiny.parent / "shared"
    streamed = "--set", "data.memory_mib=0", "--set", "data.workers=1"
    running = launched(3, "run", tiny, "--to", shared, "--set", asked, *streamed)
    while not (shared / "solutions" / "boundary-lowest").exists():
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.05)
    others = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=True).stdout
    os.kill(max(map(int, others.split())), signal.SIGKILL)
    said = running.communicate(timeout=120)[1]
    assert running.returncode != 0
    assert not (shared / "seal.json").exists()
    assert "Traceback" not in said.split("torch/distributed")[0]
    going_on = launched(2, "resume", shared)
    said = going_on.communicate(timeout=240)[1]
    assert going_on.returncode == 0, said
    expected, found = contents(alone), contents(shared)
    assert len(expected) > 10
    assert found == expected
    manifest = json.loads((shared / "manifest.json").read_text())
    assert (manifest["processes"], [entry["processes"] for entry in manifest["resumed"]]) == (3, [2])


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
