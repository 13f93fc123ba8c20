"""A full disk under any model is one message, whoever writes the file."""

import resource
from contextlib import contextmanager

import pytest
import torch
from unlearnkit_diffusers.autoencoder_sections import VQGAN, AutoencoderKL, AutoencoderTiny, Mage
from unlearnkit_diffusers.diffusion_sections import InstructPix2Pix, LatentInpainting, Palette

from unlearnkit.contracts import saved
from unlearnkit.errors import Exit, UserError

SMALL = {"image_size": 16, "block_out_channels": (8, 16)}
LATENT = SMALL | {"norm_num_groups": 4, "heads": 2, "cross_attention_dim": 8, "vae_channels": (8, 8), "steps": 3}
MODELS = [
    VQGAN(kind="vq-gan", **SMALL, codes=32, code_width=4, latent_channels=4),
    AutoencoderKL(kind="autoencoder-kl", **SMALL, latent_channels=4),
    AutoencoderTiny(kind="autoencoder-tiny", image_size=16, block_out_channels=(8, 8)),
    Mage(kind="mage", width=16, depth=2, heads=2, decoder_width=12, decoder_depth=1, decoder_heads=2, image_size=16),
    Palette(kind="palette", **SMALL, norm_num_groups=4, attention_head_dim=8, steps=3),
    LatentInpainting(kind="latent-inpainting", **LATENT),
    InstructPix2Pix(kind="instruct-pix2pix", **LATENT),
]  # fmt: skip


@contextmanager
def room(size):
    """Let no file grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers", "ignore::DeprecationWarning:numpy")
@pytest.mark.parametrize("size", [0, 6000], ids=["configuration", "weights"])
@pytest.mark.parametrize("section", MODELS, ids=lambda section: section.kind)
def test_a_full_disk_is_one_message(section, size, tmp_path):
    torch.manual_seed(0)
    adapter = section.build(None)
    with room(size), pytest.raises(UserError, match=r"cannot be written \(File too large\)") as error:
        saved(adapter, tmp_path)
    assert error.value.code == Exit.FOLDER
    assert str(tmp_path) in str(error.value)
    saved(adapter, tmp_path)
    section.build(tmp_path)
