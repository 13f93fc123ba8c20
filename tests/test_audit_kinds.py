"""Each audit tells the original, a retrained model and one that only hides apart on tiny models of three kinds."""

from types import SimpleNamespace

import pytest

from benchmarks import audits
from unlearnkit.plugins import discover

SLOW = ("vq-gan", "palette")
STEPS = {"vit-mae": 600, "vq-gan": 300, "palette": 300}
AUDITS = (
    "{kind: membership}", "{kind: membership, calibrate: retrained}", "{kind: relative}",
    "{kind: layers, layers: 2}", "{kind: quantised, bits: [4]}", "{kind: adversarial, steps: 5, images: 16}",
    "{kind: retain-leakage}", "{kind: fresh-decoder, steps: 60}",
    "{kind: relearning, images: [forget], steps: 40, every: 10}",
)  # fmt: skip


def measured(kind, folder, seed):
    """Return the models and audits of a tiny model of a kind, as results.json has them."""
    plugins = discover(extra=[SimpleNamespace(__name__="hides", register_methods=lambda: [audits.Hiding])])
    recipe = audits.tiny(kind, folder, STEPS[kind], (40, 24), plugins)
    changes = [f"evaluate.audits=[{', '.join(AUDITS)}]"]
    return audits.measured(recipe, folder / f"run-{seed}", seed, [1, 2], changes, plugins)


def tell_apart(found, kind):
    """Hold what each audit found of the original, a retrained model and the hiding one."""
    diffusion = kind == "palette"  # whose encoder reads the time embedding, which hiding moves, and which learns less
    retrained, hiding = found["solutions"][1]["id"], found["solutions"][-1]["id"]
    models = {
        one["id"]: (one["original"], one["solutions"][retrained], one["solutions"][hiding]) for one in found["audits"]
    }
    original, again, hides = models["membership"]
    assert diffusion or original["auc"] > again["auc"]
    original, again, hides = models["membership-2"]
    assert original["interpolated"] == 0 < hides["interpolated"]
    assert again["interpolated"] > 0.5
    original, again, hides = models["relative"]
    assert original["outputs"] == original["encoder"] == 0
    assert hides["encoder"] < 0.2 * diffusion + 1e-9
    assert again["outputs"] > 0.6
    assert again["encoder"] > 0
    original, again, hides = models["layers"]
    assert original["original_2"] == pytest.approx(1)
    assert diffusion or hides["original_2"] == pytest.approx(1)
    assert again["original_2"] < 0.98
    original, again, hides = models["quantised"]
    assert original["bits_4"] > again["bits_4"] + 0.5
    original, again, hides = models["adversarial"]
    assert original["found"] > max(again["found"], hides["found"])
    original, again, hides = models["retain-leakage"]
    assert original["excess"] == 0
    original, again, hides = models["fresh-decoder"]
    assert original["own"] > max(again["own"], hides["own"])
    assert original["fresh"] == pytest.approx(hides["fresh"], abs=1e-3)
    original, again, hides = models["relearning"]
    assert original["forget_steps"] == 0
    assert again["forget_steps"] != 0
    assert max(again["start"], hides["start"]) < original["start"] == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
@pytest.mark.parametrize("kind", ["vit-mae", *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW)])
def test_audits_tell_original_retrained_and_hiding_apart(kind, tmp_path):
    tell_apart(measured(kind, tmp_path, 0), kind)
