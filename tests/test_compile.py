"""A compiled step takes the step that it is compiled from."""

from functools import partial

import pytest
import torch

from benchmarks.steps import prepared
from unlearnkit.errors import Exit
from unlearnkit.plugins import discover

pytestmark = pytest.mark.slow


def test_a_compiled_step_has_the_gradients_of_any_step(tiny):
    found = {}
    for compiled in (False, True):
        bench = prepared(tiny, [f"training.compile={str(compiled).lower()}"], discover())
        torch.manual_seed(0)
        bench.put("encoder", bench.origin + 0.05 * torch.randn_like(bench.origin))
        found[compiled] = [
            bench.flat.backward(which, [partial(side.value, torch.arange(8), 1)])[1].clone()
            for which, side in enumerate(bench.sides.values())
        ]
        looks = [side.exact() for side in bench.sides.values()]
        assert looks == found.setdefault("looks", looks)
    for one, other in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_a_step_that_cannot_be_compiled_says_so(tiny, unlearnkit):
    env = {"CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tiny.parent / "cache")}
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", "training.compile=true", env=env)
    assert outcome.code == Exit.DEVICE
    assert "training.compile: a step cannot be compiled here" in outcome.err
    assert "Traceback" not in outcome.err
    unlearnkit("resume", "run", "--set", "training.compile=false").succeeded()
