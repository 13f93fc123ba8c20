"""Audits of a vector-quantised and of a diffusion model tell an encoder that is the original's from another one."""

import copy

import pytest
import torch
from unlearnkit_diffusers.autoencoder_sections import VQGAN
from unlearnkit_diffusers.diffusion_sections import Palette

from unlearnkit.builtin.audits import Adversarial, Layers, Quantised, Relative
from unlearnkit.builtin.tasks.degradations import Box
from unlearnkit.data import Pixels
from unlearnkit.testing.audit import Drawn, case

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
SIZES = {"image_size": 16, "block_out_channels": (8, 16)}
VQ = VQGAN(kind="vq-gan", **SIZES, codes=32, code_width=4, latent_channels=4)
DIFFUSION = Palette(kind="palette", **SIZES, norm_num_groups=4, attention_head_dim=8, steps=3)
TASK = Box((0.5, 0.5), central=True)


def built(section, seed):
    torch.manual_seed(seed)
    return section.build(None)


@pytest.mark.parametrize("section", [VQ, DIFFUSION], ids=["vq-gan", "palette"])
def test_a_decoder_of_another_model_hides_nothing_that_the_encoder_holds(section):
    original, retrained = built(section, 0), built(section, 1)
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
        return audit.examine(case(model, original, TASK, images, retrained))

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
