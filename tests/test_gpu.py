"""Checks on a CUDA device; run with `pytest -m gpu` where there is one."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.steps import constrained, generated, prepared, read
from unlearnkit.plugins import discover
from unlearnkit.run.plan import describe
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.frozen import MIB
from unlearnkit.solver.phases import boundaries
from unlearnkit.solver.workbench import build

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_tiny_task_runs_on_cuda(tiny, unlearnkit, precision):
    overrides = ["--set", "training.device=cuda", "--set", f"training.precision={precision}"]
    unlearnkit("run", tiny, "--to", "run", *overrides).succeeded()
    results = json.loads((tiny.parent / "run" / "results.json").read_text())
    manifest = json.loads((tiny.parent / "run" / "manifest.json").read_text())
    assert manifest["device"]["kind"] == "cuda"
    assert all(row["frozen_unchanged"] for row in results["solutions"])


PAPERS = sorted((Path(__file__).parents[1] / "recipes" / "papers").glob("*.yaml"))


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_two_steps_at_the_papers_size_take_the_memory_that_plan_predicts(path, tmp_path):
    plugins = discover()
    changes = generated(tmp_path, path, ["training.device=cuda"], plugins)
    recipe = read(path, changes, plugins)
    assert recipe.training.precision == "bf16"
    predicted = sum(describe(recipe, tmp_path)["memory_mib"].values())
    torch.cuda.empty_cache()
    bench = build(recipe, tmp_path, tmp_path / "cache")
    for half in bench.sides.values():
        _ = half.stages, half.targets
    highest = boundaries(bench.losses, recipe.control, bench.origin, lambda problem, begin, ends: problem).highest
    descent = Descent(highest, bench.flat, bench.sides, recipe.training, 2)
    torch.cuda.reset_peak_memory_stats()
    descent.step()
    descent.step()
    assert torch.cuda.max_memory_allocated() / MIB == pytest.approx(predicted, rel=0.2)


@pytest.mark.parametrize("name", ["mae-faces", "mae-airplanes", "vq-gan-motorbikes", "palette-faces"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_host_never_waits_in_a_step(name, precision):
    path = Path(__file__).parents[1] / "recipes" / f"{name}.yaml"
    bench = prepared(path, ["training.device=cuda", f"training.precision={precision}"], discover())
    step = constrained(bench)
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
