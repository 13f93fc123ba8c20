"""One adapter for each rule of the contract that it breaks: the shipped check names class, method and expectation."""

from typing import Literal

import pytest
import torch
from torch import nn

from unlearnkit.contracts import ModelAdapter, staged
from unlearnkit.recipe.sections import ModelSection
from unlearnkit.testing import check_model


class Net(nn.Module):
    """A convolution each way around an optional frozen first stage."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)
        self.decoder = nn.Conv2d(4, 3, 3, padding=1)


class Sound(ModelAdapter):
    """Breaks nothing."""

    image_size = 16

    def __init__(self):
        self.module = Net()
        self.encoder, self.first = self.module.encoder, self.module.first

    def first_stage(self, view):
        return (self.module.first(view.images),)

    def embed(self, view):
        return self.encoder(staged(self, view)[0])

    def decode(self, embedding, view):
        return self.module.decoder(embedding)

    def own_loss(self, images, view):
        return (self.decode(self.embed(view), view) - images).square().mean()

    def save(self, folder):
        from unlearnkit.weights import save

        save(self.module.state_dict(), folder / "model.safetensors")


class Stranger(Sound):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)


class Tied(Sound):
    def __init__(self):
        super().__init__()
        self.module.head = self.encoder


class Restless(Sound):
    def embed(self, view):
        embedding = super().embed(view)
        return embedding + torch.rand(embedding.shape)


class Merged(Sound):
    def embed(self, view):
        return super().embed(view).mean(0, keepdim=True)


class Detached(Sound):
    def embed(self, view):
        return super().embed(view).detach() + 0 * self.module.decoder.bias.sum()


class Peeking(Sound):
    def embed(self, view):
        return super().embed(view) + 0 * view.truth.mean() + view.truth.mean((1, 2, 3))[:, None, None, None]


class Cropped(Sound):
    def decode(self, embedding, view):
        return super().decode(embedding, view)[..., :8]


class Loud(Sound):
    def output(self, view):
        return self.decode(self.embed(view), view) * 9


class Overpainting(Sound):
    def output(self, view):
        return self.decode(self.embed(view), view).sigmoid()


class Vector(Sound):
    def own_loss(self, images, view):
        return (self.decode(self.embed(view), view) - images).square().mean((1, 2, 3))


class Forgetful(Sound):
    def save(self, folder):
        from unlearnkit.weights import save

        torch.manual_seed(9)
        save(Net().state_dict(), folder / "model.safetensors")


class Drifting(Sound):
    def decode(self, embedding, view):
        return super().decode(embedding, view) + self.encoder.bias.sum()


class Unnamed(Sound):
    def __init__(self):
        super().__init__()
        self.first = None


class Unseeded(Sound):
    def draw(self, count, generator):
        return (torch.rand(count, 1),)


def section(adapter):
    class Broken(ModelSection):
        """A model under test."""

        kind: Literal["broken"]
        """Broken."""

        def build(self, weights):
            from unlearnkit.weights import load

            torch.manual_seed(0)
            built = adapter()
            if weights is not None:
                load(built.module, weights)
            return built

    return Broken(kind="broken")


def test_a_sound_adapter_passes():
    check_model(section(Sound))


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (Stranger, "Broken.encoder: expected a submodule"),
        (Tied, "Broken.encoder: expected no parameter shared"),
        (Restless, "Broken.embed: expected the same"),
        (Merged, "Broken.embed: expected one row an image"),
        (Detached, "Broken.embed: expected a gradient"),
        (Peeking, "Broken.sees_truth: expected the embedding not to read"),
        (Cropped, "Broken.decode: expected"),
        (Loud, r"Broken.output: expected values in \[0, 1\]"),
        (Overpainting, "Broken.output: expected the visible pixels"),
        (Vector, "Broken.own_loss: expected a finite scalar"),
        (Forgetful, "Broken.save: expected `build` to read back"),
        (Drifting, "Broken.decode: expected the decoder to stay"),
        (Unnamed, "Broken.first_stage: expected an output where"),
        (Unseeded, "Broken.draw: expected the same draws"),
    ],
)
def test_each_broken_rule_is_caught_by_name(adapter, words):
    with pytest.raises(AssertionError, match=words):
        check_model(section(adapter))
