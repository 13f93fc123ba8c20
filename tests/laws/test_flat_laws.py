"""Laws of the flat parameters."""

import torch
from torch import nn

from unlearnkit.solver.flat import Flat


def test_gradients_equal_autograd_and_stay_apart():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3))
    x, y = torch.randn(2, 9, 5)
    losses = [lambda: model(x).square().mean(), lambda: model(y).abs().mean()]
    expected = [torch.cat([g.flatten() for g in torch.autograd.grad(loss(), model.parameters())]) for loss in losses]
    flat = Flat(model.parameters())
    for which, loss in enumerate(losses):
        value, gradient = flat.backward(which, [loss])
        torch.testing.assert_close(gradient, expected[which])
        torch.testing.assert_close(value, loss().detach())
    torch.testing.assert_close(flat.gradients[0], expected[0])


def test_terms_add_up():
    model = nn.Linear(4, 2)
    flat = Flat(model.parameters())
    x = torch.randn(6, 4)
    _, whole = flat.backward(0, [lambda: model(x).square().mean()])
    _, pieces = flat.backward(1, [lambda part=part: model(part).square().mean() / 2 for part in x.split(3)])
    torch.testing.assert_close(whole, pieces)


def test_parameters_are_views_and_a_tied_one_counts_once():
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    flat = Flat([*first.parameters(), *second.parameters()])
    assert flat.theta.numel() == 9
    flat.set(torch.arange(9.0))
    assert torch.equal(second.weight.flatten(), torch.arange(9.0))
