"""Each audit tells the original, a retrained model and one that only hides apart on tiny models of three kinds."""

from types import SimpleNamespace

import pytest

from benchmarks import audits
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.run import pretrain

KINDS = {
    "vit-mae": "{kind: vit-mae, image_size: 16, patch_size: 4, width: 48, depth: 2, heads: 2, decoder_width: 32,"
    " decoder_depth: 1, decoder_heads: 2%s}",
    "vq-gan": "{kind: vq-gan, image_size: 16, block_out_channels: [8, 16], layers_per_block: 1, latent_channels: 8,"
    " codes: 64, code_width: 4, norm_num_groups: 4%s}",
    "palette": "{kind: palette, image_size: 16, block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4,"
    " attention_head_dim: 8,"
    " attention: [], steps: 3, fill: neutral, prediction: v_prediction, beta_schedule: squaredcos_cap_v2%s}",
}  # fmt: skip
SLOW = ("vq-gan", "palette")
STEPS = {"vit-mae": 600, "vq-gan": 300, "palette": 300}
AUDITS = (
    "{kind: membership}", "{kind: membership, calibrate: retrained}", "{kind: relative}",
    "{kind: layers, layers: 2}", "{kind: quantised, bits: [4]}", "{kind: adversarial, steps: 5, images: 16}",
    "{kind: retain-leakage}", "{kind: fresh-decoder, steps: 60}",
    "{kind: relearning, images: [forget], steps: 40, every: 10}",
)  # fmt: skip
DATA = "source: {kind: sample, name: objects-64}"
OPTIMIZER = "{kind: adamw, lr: 0.003}"


def measured(kind, folder, seed):
    """Return the models and audits of a tiny model of a kind, as results.json has them."""
    plugins = discover(extra=[SimpleNamespace(__name__="hides", register_methods=lambda: [audits.Hiding])])
    counts = "per_class: {train: 40, validation: 24}"
    trained = folder / "pretrain.yaml"
    trained.write_text(
        f"name: {kind}\nmodel: {KINDS[kind] % ''}\n"
        f"data: {{{DATA}, classes: [faces, airplanes, motorbikes], {counts}}}\n"
        "tasks: [{kind: center-crop, ratio: 0.5}]\n"
        f"pretrain: {{steps: {STEPS[kind]}, batch_size: 8, crop: 1, device: cpu, optimizer: {OPTIMIZER}}}\n"
    )
    found = load(trained, plugins)
    if not (folder / "weights").exists():
        pretrain.train(found.recipe, found.resolved, folder, folder / "weights", lambda *_: None)
    recipe = folder / f"{kind}.yaml"
    recipe.write_text(
        f"name: {kind}\nmodel: {KINDS[kind] % ', weights: weights'}\ntask: {{kind: center-crop, ratio: 0.5}}\n"
        f"data: {{{DATA}, forget: {{classes: [faces]}}, retain: {{classes: [airplanes, motorbikes]}}, {counts}}}\n"
        f"training: {{steps: 240, batch_size: 8, device: cpu, optimizer: {OPTIMIZER}}}\n"
    )
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
