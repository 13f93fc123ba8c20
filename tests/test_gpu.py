"""The tiny task on a CUDA device; run with `pytest -m gpu` where there is one."""

import json

import pytest
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_tiny_task_runs_on_cuda(tiny, unlearnkit, precision):
    overrides = ["--set", "training.device=cuda", "--set", f"training.precision={precision}"]
    unlearnkit("run", tiny, "--to", "run", *overrides).succeeded()
    results = json.loads((tiny.parent / "run" / "results.json").read_text())
    manifest = json.loads((tiny.parent / "run" / "manifest.json").read_text())
    assert manifest["device"]["kind"] == "cuda"
    assert all(row["frozen_unchanged"] for row in results["solutions"])
