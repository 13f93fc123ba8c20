"""Audits separate the known cases on real images: what forgot nothing, what never saw it, what only hides it."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from unlearnkit_diffusers.autoencoder_sections import VQGAN
from unlearnkit_diffusers.diffusion_sections import Palette

from unlearnkit.builtin.audits import Adversarial, Layers, Quantised, Relative, sections
from unlearnkit.builtin.tasks.degradations import Box
from unlearnkit.contracts import trainable
from unlearnkit.data import Pixels, batch_index, seeded, to_float, view_of
from unlearnkit.evaluation.case import ModelCase
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.solver.workbench import build, fresh
from unlearnkit.testing.audit import Drawn
from unlearnkit.testing.audit import case as on_drawn

RECIPE = Path(__file__).parents[1] / "recipes" / "audits.yaml"
FAST = sections.AdamW(lr=2e-3)
DECODER = sections.FreshDecoder(kind="fresh-decoder", steps=100, optimizer=FAST)


@pytest.fixture(scope="module")
def bench():
    recipe = load(RECIPE, discover(installed=False), ["evaluate.audits=[]", "compare=[]"]).recipe
    return build(recipe, RECIPE.parent)


def case(bench, model, retrained=(), seed=None):
    recipe = bench.recipe
    start = partial(fresh, recipe, bench.reference, seed)
    own = copy.deepcopy(model)
    return ModelCase(own, bench.reference, bench.sides, bench.images, recipe.training, recipe.seed, start, retrained)


def examine(section, bench, model, retrained=()):
    return section.build(RECIPE.parent, torch.device("cpu")).examine(case(bench, model, retrained))


@pytest.fixture(scope="module")
def original(bench):
    return bench.reference


@pytest.fixture(scope="module")
def pair(bench):
    """Return two models of two seeds that were trained from scratch on the retain set alone."""

    def trained(seed):
        made = case(bench, bench.reference, seed=seed)
        everything = trainable(made.model)
        made.refresh(everything)
        for _ in made.train(everything, ("retain",), 300, FAST, decay=0.5):
            pass
        return made.model

    return trained(0), trained(1)


@pytest.fixture(scope="module")
def retrained(pair):
    """Return a model that was trained from scratch on the retain set alone."""
    return pair[0]


@pytest.fixture(scope="module")
def blanked(bench):
    """Return the original with a decoder that answers black to forget images; its encoder is untouched."""
    made = case(bench, bench.reference)
    decoder = made.rest()
    for parameter in decoder:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(decoder, lr=2e-3)
    for step in range(100):
        batches = {
            name: to_float(splits["train"][batch_index(step, len(splits["train"]), 16, 0, name)])
            for name, splits in bench.images.items()
        }
        told = {"forget": torch.zeros_like(batches["forget"]), "retain": batches["retain"]}
        views = {name: view_of(made.model, bench.task, images, seeded(step)) for name, images in batches.items()}
        loss = torch.stack([made.model.own_loss(told[name], views[name]) for name in views]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.model


@pytest.fixture(scope="module")
def decoded(bench, original):
    """Return what the fresh decoder finds in the original."""
    return examine(DECODER, bench, original)


def test_membership_finds_the_members_of_the_original_alone(bench, original, retrained):
    section = sections.Membership(kind="membership")
    found = [examine(section, bench, model)["auc"] for model in (original, retrained)]
    chance = 2 * ((100 + 50 + 1) / (12 * 100 * 50)) ** 0.5
    assert found[0] > 0.5 + chance
    assert abs(found[1] - 0.5) < chance


def test_the_trigger_works_on_the_original_alone(bench, original, retrained):
    section = sections.Backdoor(kind="backdoor")
    found = [examine(section, bench, model) for model in (original, retrained)]
    assert found[0]["success"] > 0.9
    assert found[1]["success"] < 0.1
    assert all(cell["without"] < 0.1 for cell in found)


def test_the_original_is_back_at_once_and_the_retrained_model_is_not(bench, original, retrained):
    section = sections.Relearning(kind="relearning", steps=10, optimizer=FAST)
    found = [examine(section, bench, model) for model in (original, retrained)]
    assert found[0]["forget_steps"] == found[0]["retain_steps"] == 0
    assert found[1]["start"] < 0.8
    assert found[1]["retain_steps"] != 0


def test_a_model_that_blanks_its_outputs_is_caught_by_the_fresh_decoder(bench, original, blanked, decoded):
    encoders = [model.encoder.state_dict() for model in (original, blanked)]
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in encoders), strict=True))
    before, hidden = decoded, examine(DECODER, bench, blanked)
    assert hidden["own"] < before["own"] - 4  # by its outputs it has forgotten
    assert hidden["fresh"] == before["fresh"]  # and its encoder holds all that the original's does
    assert hidden["fresh"] > hidden["own"] + 2


def test_an_encoder_that_lost_the_images_is_told_from_one_that_holds_them(bench, original, decoded):
    lost = copy.deepcopy(original)
    for parameter in trainable(lost, "encoder"):
        parameter.data.zero_()
    assert examine(DECODER, bench, lost)["fresh"] < decoded["fresh"] - 1


@pytest.fixture(scope="module")
def beside(bench, original, blanked, pair):
    """Return what tells what a section finds of the original, of a retrained model, and of one that only hides."""
    first, again = pair
    return lambda section: [
        examine(section, bench, model, gold) for model, gold in ((original, pair), (again, [first]), (blanked, pair))
    ]


def test_the_relative_test_tells_the_three_apart(beside):
    original, retrained, hiding = beside(sections.Relative(kind="relative"))
    assert (original["outputs"], original["encoder"], original["apart"]) == (0, 0, pytest.approx(1))
    assert retrained["outputs"] > 0.7
    assert retrained["encoder"] > 0.7
    assert max(retrained["outputs_p"], retrained["encoder_p"]) < 0.001
    assert hiding["encoder"] == 0  # whatever its outputs are
    assert hiding["encoder_p"] == original["outputs_p"] == 1
    assert retrained["apart"] < 0.9 < 1 < hiding["apart"]


def test_layers_tell_the_untouched_encoder_from_a_retrained_one(beside):
    original, retrained, hiding = beside(sections.Layers(kind="layers", layers=2))
    for found in (original, hiding):
        assert [found["original_1"], found["original_2"]] == [pytest.approx(1)] * 2
        assert found["retrained_2"] < 0.9
    assert hiding == original
    assert retrained["original_2"] < 0.9


def test_members_are_told_one_by_one_beside_a_retrained_model(beside):
    original, retrained, hiding = beside(sections.Membership(kind="membership", calibrate="retrained"))
    assert original["interpolated"] == 0
    assert 0.5 < retrained["interpolated"] < 1.5 < hiding["interpolated"]
    assert original["auc"] > 0.7
    assert abs(retrained["auc"] - 0.5) < 0.2 < abs(original["auc"] - 0.5)


def test_coarse_weights_show_the_original_alone(beside):
    original, retrained, hiding = beside(sections.Quantised(kind="quantised", bits=[4]))
    assert original["bits_4"] - 1 > retrained["bits_4"] > hiding["bits_4"] + 2
    assert abs(hiding["bits_4"] - hiding["own"]) < 0.5  # which is no way back from another answer


def test_a_search_finds_the_way_round_a_decoder_that_hides(beside):
    original, retrained, hiding = beside(sections.Adversarial(kind="adversarial", steps=4, images=20))
    assert original["found"] - 1 > retrained["found"]
    assert hiding["gain"] > 2 * max(original["gain"], retrained["gain"])


SIZES = {"image_size": 16, "block_out_channels": (8, 16)}
VQ = VQGAN(kind="vq-gan", **SIZES, codes=32, code_width=4, latent_channels=4)
DIFFUSION = Palette(kind="palette", **SIZES, norm_num_groups=4, attention_head_dim=8, steps=3)
TASK = Box((0.5, 0.5), central=True)


def made(section, seed):
    torch.manual_seed(seed)
    return section.build(None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
@pytest.mark.parametrize("section", [VQ, DIFFUSION], ids=["vq-gan", "palette"])
def test_a_decoder_of_another_model_hides_nothing_that_the_encoder_holds(section):
    original, retrained = made(section, 0), made(section, 1)
    size, cpu = original.image_size, torch.device("cpu")
    images = {
        name: {split: Pixels(source := Drawn(f"{name}-{split}", 6), source.items, size, cpu)
               for split in ("train", "validation")}
        for name in ("forget", "retain")
    }  # fmt: skip
    hiding = copy.deepcopy(original)
    for (name, own), other in zip(hiding.module.named_parameters(), retrained.module.parameters(), strict=True):
        if "decoder." in name:  # but not the time embedding, which the encoder reads too
            own.data.copy_(other.data)

    def found(audit, model):
        return audit.examine(on_drawn(model, original, TASK, images, retrained))

    before, hidden, other = (found(Relative(), model) for model in (original, hiding, retrained))
    assert (before["outputs"], before["encoder"], before["apart"]) == (0, 0, pytest.approx(1))
    assert (hidden["encoder"], hidden["encoder_p"]) == (0, 1)
    assert (other["outputs"], other["encoder"], other["apart"]) == (1, 1, pytest.approx(0, abs=1e-5))
    assert max(other["outputs_p"], other["encoder_p"]) < 0.001
    before, hidden, other = (found(Layers(2), model) for model in (original, hiding, retrained))
    for one in (before, hidden):
        assert [one["original_1"], one["original_2"]] == [pytest.approx(1)] * 2
        assert one["retrained_2"] == pytest.approx(other["original_2"])
    assert other["retrained_2"] == pytest.approx(1)
    assert other["original_2"] < 0.99
    assert other["excess"] == 0
    assert found(Adversarial(3, 0.1, 4), original)["gain"] > 0
    coarse = found(Quantised((16, 2)), original)
    assert coarse["bits_16"] == pytest.approx(coarse["own"], abs=0.05)
    assert coarse["bits_2"] != pytest.approx(coarse["own"], abs=0.05)
