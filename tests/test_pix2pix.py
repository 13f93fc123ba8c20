"""pix2pix's generator and discriminator against the authors' layout, written again here as in their repository."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from unlearnkit.builtin.models.pix2pix import Pix2PixAdapter
from unlearnkit.builtin.models.sections import Pix2Pix
from unlearnkit.builtin.tasks.sections import CenterCrop, Reconstruction
from unlearnkit.contracts import trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import UserError
from unlearnkit.recipe.pretraining import PatchGAN
from unlearnkit.recipe.training import SGD
from unlearnkit.run.adversary import Adversary, Discriminator
from unlearnkit.testing import check_model


class Block(nn.Module):
    """`UnetSkipConnectionBlock` of junyanz/pytorch-CycleGAN-and-pix2pix, models/networks.py."""

    def __init__(self, outer, inner, norm, inside=None, outermost=False):
        super().__init__()
        self.outermost, bias = outermost, norm is nn.InstanceNorm2d
        down = nn.Conv2d(3 if outermost else outer, inner, 4, 2, 1, bias=bias)
        wide = inner if inside is None else 2 * inner
        up = nn.ConvTranspose2d(wide, 3 if outermost else outer, 4, 2, 1, bias=bias or outermost)
        if outermost:
            layers = [down, inside, nn.ReLU(True), up, nn.Tanh()]
        elif inside is None:
            layers = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, norm(outer)]
        else:
            layers = [nn.LeakyReLU(0.2, True), down, norm(inner), inside, nn.ReLU(True), up, norm(outer)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Unet(nn.Module):
    """`UnetGenerator`, without dropout."""

    def __init__(self, width, depth, norm):
        super().__init__()
        block = Block(8 * width, 8 * width, norm)
        for _ in range(depth - 5):
            block = Block(8 * width, 8 * width, norm, block)
        for times in (4, 2, 1):
            block = Block(times * width, 2 * times * width, norm, block)
        self.model = Block(3, width, norm, block, outermost=True)

    def forward(self, x):
        return self.model(x)


NORMS = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}


def sized(norm, depth, **fields):
    return Pix2Pix(kind="pix2pix", image_size=2**depth, width=4, depth=depth, norm=norm, **fields)


def drawn(norm, depth):
    """Return a reference network whose norms have weights that matter."""
    torch.manual_seed(0)
    net = Unet(4, depth, NORMS[norm])
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("depth", [5, 6])
def test_weights_of_the_authors_load_and_an_export_gives_the_same_in_their_layout(tmp_path, norm, depth):
    """As they test it: a batch of one, whose statistics the norms take."""
    net = drawn(norm, depth)
    torch.save(net.state_dict(), tmp_path / "latest_net_G.pth")
    adapter = sized(norm, depth).build(tmp_path / "latest_net_G.pth")
    images = torch.rand(2, 3, 2**depth, 2**depth, generator=seeded("images"))
    view = view_of(adapter, Reconstruction(kind="reconstruction").build(), images, seeded("view"))
    with torch.no_grad():
        for parameter in trainable(adapter, "encoder"):
            parameter.mul_(1.1)
        ours = adapter.decode(adapter.embed(view), view)
    (tmp_path / "out").mkdir()
    adapter.save(tmp_path / "out")
    net.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    with torch.no_grad():
        theirs = torch.cat([net(one * 2 - 1) / 2 + 0.5 for one in images.split(1)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert theirs.std() > 0.1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("task", [Reconstruction(kind="reconstruction"), CenterCrop(kind="center-crop")])
def test_the_contract(norm, task):
    check_model(sized(norm, 5), task.build())
    check_model(Pix2Pix(kind="pix2pix", image_size=(16, 24), width=2, depth=3, norm=norm), task.build())


def test_what_does_not_fit_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"image_size \(24\) must be a multiple of 16, for 4 levels halve it"):
        Pix2Pix(kind="pix2pix", image_size=(32, 24), depth=4)
    torch.save(drawn("instance", 5).state_dict(), tmp_path / "net.pth")
    with pytest.raises(UserError, match=r"do not fit the model; missing: model\.model\.1\.model\.2\.bias.*sizes of"):
        sized("batch", 5).build(tmp_path / "net.pth")


def patches(width, depth):
    """Return `NLayerDiscriminator` with instance norms and an input beside the output."""
    layers, outer = [nn.Conv2d(6, width, 4, 2, 1), nn.LeakyReLU(0.2, True)], width
    for level in range(1, depth + 1):
        inner = width * min(2**level, 8)
        stride = 2 if level < depth else 1
        layers += [nn.Conv2d(outer, inner, 4, stride, 1), nn.InstanceNorm2d(inner), nn.LeakyReLU(0.2, True)]
        outer = inner
    return nn.Sequential(*layers, nn.Conv2d(outer, 1, 4, 1, 1))


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_the_discriminator_is_the_authors(depth):
    ours, theirs = Discriminator(2, depth), patches(2, depth)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 6, 96, 104, generator=seeded("pairs"))
    assert torch.equal(ours(images), theirs(images))


def test_both_sides_of_the_game_take_the_steps_of_binary_cross_entropy():
    """The discriminator's is half the sum of its two, taken first; the model's has the discriminator behind it."""
    adapter = Pix2Pix(kind="pix2pix", image_size=16, width=2, depth=2, norm="instance").build(None)
    images = torch.rand(4, 3, 16, 16, generator=seeded("images"))
    view = view_of(adapter, CenterCrop(kind="center-crop").build(), images, seeded("view"))
    adversary = Adversary(PatchGAN(weight=0.3, width=2, depth=1), adapter, SGD(kind="sgd", lr=0.5, momentum=0))
    theirs = patches(2, 1)
    theirs.load_state_dict(adversary.module.state_dict())
    made = torch.where(view.region, adapter.decode(adapter.embed(view), view), view.truth)
    judged = lambda images: theirs(torch.cat([view.images, images], 1) * 2 - 1)  # noqa: E731
    entropy = lambda logits, answer: nn.BCEWithLogitsLoss()(logits, torch.full_like(logits, answer))  # noqa: E731
    (0.5 * (entropy(judged(view.truth), 1.0) + entropy(judged(made.detach()), 0.0))).backward()
    torch.optim.SGD(theirs.parameters(), lr=0.5).step()
    wanted = torch.autograd.grad(0.3 * entropy(judged(made), 1.0), trainable(adapter))

    found = torch.autograd.grad(adversary.step(view), trainable(adapter))
    for mine, its in zip((*found, *adversary.module.parameters()), (*wanted, *theirs.parameters()), strict=True):
        torch.testing.assert_close(mine, its)
    assert any(gradient.abs().max() > 0 for gradient in found)


def test_a_discriminator_that_cannot_judge_is_refused():
    class Sampled(Pix2PixAdapter):
        def output(self, view):
            return view.truth

    with pytest.raises(UserError, match="in many steps, which no gradient goes through; leave it out"):
        Adversary(PatchGAN(), Sampled(None, 16, 2, 2, "instance"), SGD(kind="sgd", lr=1))
    with pytest.raises(UserError, match=r"depth: 3 leaves no patch of images of 16 x 23 px; at most 2"):
        Adversary(PatchGAN(depth=3), Pix2PixAdapter(None, (16, 23), 2, 2, "instance"), SGD(kind="sgd", lr=1))
