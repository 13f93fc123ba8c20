"""`resume --set` that is killed at any moment: a plain `resume` goes on with the one recipe or with the other."""

import os
from pathlib import Path

import pytest
import trials
from tiny_task import write_tiny

CHANGES = ("data.seed=4", "training.optimizer.lr=0.002", "seed=9")
EVERY = os.environ.get("PROPERTIES") == "whole"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    trials.ready()
    return tmp_path_factory.mktemp("changes")


@pytest.mark.parametrize("change", CHANGES if EVERY else CHANGES[:1])
def test_a_change_that_is_killed_ends_as_one_of_both_recipes(change, place):
    folder = place / change.partition("=")[0]
    folder.mkdir()
    recipe, counted = write_tiny(folder), folder / "count.txt"
    done, both, copy = folder / "done", {}, folder / "killed"
    assert trials.run(recipe, done, *trials.SHORT).code == 0
    assert trials.run(recipe, folder / "wanted", *trials.SHORT, change).code == 0
    both = {name: trials.lasting(folder / name)["results.json"] for name in ("done", "wanted")}
    words = ["resume", copy, "--set", change]
    trials.fresh(done, copy)
    assert trials.command(*words, cwd=folder, before=trials.operations(copy, counted)).code == 0
    count = int(counted.read_text())
    some = range(1, count + 1) if EVERY else [3, 6, 9, 12, count // 2]
    for number in some:
        trials.fresh(done, copy)
        assert trials.command(*words, cwd=folder, before=trials.killed_at(copy, number)).code == -9
        again = trials.command("resume", copy, cwd=folder)
        assert again.code == 0, f"{number} of {count}: {again.told}"
        assert trials.lasting(copy)["results.json"] in both.values(), f"{number} of {count}"
