"""A sample of the trials of `make reliability`, and that these would notice: each is given something that is broken."""

import re
import subprocess
import sys
from pathlib import Path

import leaves
import pytest
from flips import cut, flip, verdict
from trials import Outcome, drawn

from unlearnkit.recipe.sections import Section


@pytest.mark.timeout(900)
def test_a_sample_of_all_trials_holds():
    """One process tries them all, for it imports once what they need."""
    done = subprocess.run([sys.executable, Path(__file__).parent, "--few"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_leaf_of_the_recipe_has_another_value():
    """A new field has its other value in `leaves.CHANGED`, a new kind what it needs in `leaves.NEEDED`."""
    every = list(leaves.leaves(leaves.whole_recipe()))
    for leaf in every:
        if leaves.left_out(leaf) is None:
            assert leaves.overrides_of(leaf, leaves.base_of(leaf)), leaf.said
    said = {leaf.said for leaf in every}
    assert len(said) == len(every)
    assert set(leaves.SAMPLE) <= said
    assert all(any(re.search(words, one) for one in said) for words in leaves.LEFT)


class Later(Section):
    """A section with a field that `leaves.CHANGED` does not know."""

    number: int = 1
    """A number."""


def test_a_leaf_without_another_value_is_named():
    [leaf] = leaves.leaves(Later)
    with pytest.raises(KeyError, match=r"Later.number: give another value"):
        leaves.overrides_of(leaf, {})


@pytest.mark.parametrize(
    ("code", "err", "same", "harmless", "said"),
    [
        (7, "error: run/results.json: damaged", False, False, ""),
        (7, "error: something is damaged", False, False, "not named"),
        (1, "Traceback (most recent call last)", True, True, "traceback"),
        (3, "error: run/results.json", False, False, "another exit code"),
        (0, "", False, True, "another outcome, without a word"),
        (0, "", True, False, "not noticed"),
        (0, "", True, True, ""),
        (0, "warning: run/results.json was passed over", True, False, ""),
    ],
)
def test_a_verdict_on_a_damaged_file(code, err, same, harmless, said):
    found = verdict(Outcome(code, "", err), "results.json", same, harmless)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_damage_is_one_bit_or_a_shorter_file():
    draw, data = drawn("damage"), bytes(range(200))
    for _ in range(50):
        pairs = zip(data, flip(data, draw), strict=True)
        assert [bin(a ^ b).count("1") for a, b in pairs if a != b] == [1]
        assert len(cut(data, draw)) < len(data)
