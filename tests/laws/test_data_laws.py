"""Laws of batches and splits."""

import torch

from unlearnkit.contracts import Images, Item
from unlearnkit.data import batch_index, choose, colour_statistics, seeded
from unlearnkit.recipe.data import PerClass


def test_every_epoch_holds_every_row_once():
    rows = torch.cat([batch_index(step, 30, 7, 0, "x") for step in range(60)])
    for epoch in range(10):
        assert sorted(rows[epoch * 30 : epoch * 30 + 30].tolist()) == list(range(30))


def test_a_batch_depends_on_its_step_and_purpose_alone():
    later = batch_index(17, 30, 7, 0, "x")
    for step in (3, 99, 0):
        batch_index(step, 30, 7, 0, "x")
    assert torch.equal(later, batch_index(17, 30, 7, 0, "x"))
    assert not torch.equal(later, batch_index(17, 30, 7, 1, "x"))
    assert len(batch_index(0, 5, 64, 0)) == 5


def test_seeded_draws_are_the_same_in_every_process():
    assert torch.randint(0, 10**6, (3,), generator=seeded(0, "noise")).tolist() == [624143, 924061, 970961]


class Listed(Images):
    def __init__(self, count: int) -> None:
        self.items = [Item(f"a/{number:03}", "a") for number in range(count)]
        self.labels = frozenset({"a", "empty"})

    def read(self, item, size):
        return torch.zeros(3, size, size, dtype=torch.uint8)

    def describe(self):
        return {"name": "listed"}


def test_validation_is_never_trained_on_and_the_seed_decides():
    chosen = choose("forget", Listed(40), ["a"], PerClass(train=20, validation=10), 0)
    assert not set(chosen.train) & set(chosen.validation)
    assert (len(chosen.train), len(chosen.validation)) == (20, 10)
    again = choose("forget", Listed(40), ["a"], PerClass(train=20, validation=10), 0)
    other = choose("forget", Listed(40), ["a"], PerClass(train=20, validation=10), 1)
    assert chosen.train == again.train
    assert chosen.train != other.train


def test_noise_has_the_statistics_it_is_given():
    generator = seeded("images")
    images = (torch.rand(20, 3, 16, 16, generator=generator) * torch.tensor([255.0, 128, 64])[:, None, None]).byte()
    statistics = colour_statistics(images)
    drawn = statistics.sample(200, 32, seeded("drawn")).permute(1, 0, 2, 3).flatten(1)
    torch.testing.assert_close(drawn.mean(1), statistics.mean, atol=0.01, rtol=0)
    torch.testing.assert_close(torch.cov(drawn), statistics.covariance, atol=0.005, rtol=0)
