"""Laws of sums over parts: one order of addition, whoever has which part."""

import queue
import threading
from itertools import product

import pytest
import torch

from unlearnkit.solver import ranks


def added(values):
    """Return the sum of a list in the tree: the largest power of two of them first, then the rest."""
    if len(values) == 1:
        return values[0]
    first = max(power for power in (1, 2, 4, 8, 16) if power < len(values))
    return added(values[:first]) + added(values[first:])


@pytest.mark.parametrize("leaves", range(1, 18))
def test_a_sum_has_the_bits_of_one_tree_on_any_number_of_processes(leaves, monkeypatch):
    own = threading.local()
    wires = {way: queue.Queue() for way in product(range(leaves), repeat=2)}  # all at once: a defaultdict may make two
    values = [torch.randn(3, generator=torch.Generator().manual_seed(one)) * 10.0**one for one in range(leaves)]
    monkeypatch.setattr(ranks, "rank", lambda: own.rank)
    monkeypatch.setattr(ranks, "count", lambda: own.count)
    monkeypatch.setattr(ranks, "_send", lambda tensor, to: wires[own.rank, to].put(tensor.clone()))
    monkeypatch.setattr(ranks, "_received", lambda like, sender: wires[sender, own.rank].get(timeout=60))
    found, computed = {}, []

    def work(rank, count):
        own.rank, own.count = rank, count

        def leaf(number):
            computed.append(number)
            assert number in ranks.mine(leaves, spread=True)
            return values[number].clone()

        found[rank] = ranks.total(leaves, leaf, spread=True)

    for count in range(1, leaves + 1):
        computed.clear()
        threads = [threading.Thread(target=work, args=(rank, count)) for rank in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.equal(found[0], added(values)), f"{leaves} leaves on {count}"
        assert all(found[rank] is None for rank in range(1, count))
        assert sorted(computed) == list(range(leaves))


def test_alone_a_process_has_every_leaf():
    assert list(ranks.mine(5, spread=False)) == list(range(5))
    assert float(ranks.total(5, lambda leaf: torch.tensor(float(leaf)), spread=False)) == 10
