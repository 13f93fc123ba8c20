"""Memory is counted, not guessed."""

import torch
from torch import nn

from unlearnkit.builtin.models.sections import VitMae
from unlearnkit.builtin.tasks.degradations import Box
from unlearnkit.run import memory
from unlearnkit.run.memory import need, saved_bytes

CPU = torch.device("cpu")
SMALL = VitMae(kind="vit-mae", image_size=32, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1)


def test_what_a_perceptron_keeps_is_its_input_and_its_hidden_layer():
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    found, output = saved_bytes(lambda: net(torch.rand(5, 8)), own)
    assert found == 5 * (8 + 16) * 4
    assert output.shape == (5, 4)


def test_the_need_of_an_image_is_linear_in_depth_and_counts_the_visible_tokens():
    task = Box((0.5, 0.5), central=True)
    one, three = (
        need(SMALL.model_copy(update={"depth": depth}).build(None), task, "encoder", "fp32", CPU) for depth in (1, 3)
    )
    two = need(SMALL.model_copy(update={"depth": 2}).build(None), task, "encoder", "fp32", CPU)
    assert one.embedding == 12 * 16 * 4
    assert one.stage == 0
    assert three.activations - two.activations == two.activations - one.activations > 12 * 16 * 4


def test_half_precision_needs_less():
    task = Box((0.5, 0.5), central=True)
    full, half = (need(SMALL.build(None), task, "encoder", precision, CPU) for precision in ("fp32", "bf16"))
    assert half.activations < full.activations
    assert half.embedding == full.embedding, "the reference stays in fp32"


def test_sizes_are_those_of_products_that_are_computed(monkeypatch):
    task = Box((0.5, 0.5), central=True)
    sized = need(SMALL.build(None), task, "encoder", "bf16", CPU)
    monkeypatch.setattr(memory, "PRODUCTS", set())
    assert need(SMALL.build(None), task, "encoder", "bf16", CPU) == sized
