"""The plain convolutional autoencoder: the contract, its layers written out, and what an image's latents decide."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from unlearnkit.builtin.models.sections import ConvAutoencoder
from unlearnkit.builtin.tasks.sections import CenterCrop, Reconstruction
from unlearnkit.data import random_view
from unlearnkit.errors import UserError
from unlearnkit.testing import check_model

SMALL = ConvAutoencoder(kind="conv-autoencoder", image_size=(16, 24), channels=(3, 5), latent_channels=2)
WHOLE = Reconstruction(kind="reconstruction").build()


@pytest.mark.parametrize("task", [WHOLE, CenterCrop(kind="center-crop").build()], ids=["whole", "crop"])
def test_the_contract(task):
    check_model(SMALL, task)


def test_each_level_halves_the_side_and_doubles_it_again():
    model = SMALL.build(None)
    view = random_view(model, WHOLE, 3, "conv", torch.device("cpu"))
    weights = list(model.module.parameters())
    halve, again, narrow, widen, double, last = zip(weights[::2], weights[1::2], strict=True)
    x = F.conv2d(F.conv2d(view.images - 0.5, *halve, 2, 1).relu(), *again, 2, 1).relu()
    latents = F.conv2d(x, *narrow, 1, 1)
    x = F.conv_transpose2d(F.conv2d(latents, *widen, 1, 1).relu(), *double, 2, 1).relu()
    made = F.conv_transpose2d(x, *last, 2, 1) + 0.5
    assert latents.shape == (3, 2, 4, 6)
    torch.testing.assert_close(model.embed(view), latents)
    torch.testing.assert_close(model.decode(latents, view), made)
    torch.testing.assert_close(model.own_loss(view.truth, view), (made - view.truth).square().mean())


def test_an_output_is_that_of_the_latents_alone():
    model = SMALL.build(None)
    view, other = (random_view(model, WHOLE, 2, purpose, torch.device("cpu")) for purpose in ("one", "two"))
    latents = model.embed(view)
    assert torch.equal(model.decode(latents, other), model.decode(latents, view))
    moved = replace(view, degraded=other.degraded)
    assert torch.equal(model.embed(moved), model.embed(other))


def test_what_does_not_fit_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"image_size \(28\) must be a multiple of 8, for 3 levels halve it"):
        ConvAutoencoder(kind="conv-autoencoder", image_size=(32, 28))
    SMALL.build(None).save(tmp_path)
    with pytest.raises(UserError, match="do not fit the model"):
        SMALL.model_copy(update={"latent_channels": 3}).build(tmp_path)
