"""A run with seeds that is killed while its comparison is written leaves nothing half written behind."""

import kills
import pytest
import trials
from tiny_task import write_tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    trials.ready()
    folder = tmp_path_factory.mktemp("seeds")
    recipe, whole, counted = write_tiny(folder), folder / "whole", folder / "count.txt"
    assert trials.run(recipe, whole, *trials.SEEDS, before=trials.operations(whole, counted)).code == 0
    return recipe, whole, int(counted.read_text())


@pytest.mark.parametrize("before_the_end", [4, 31, 43])
def test_a_comparison_that_is_killed_is_written_again(before_the_end, runs):
    recipe, whole, count = runs
    killed = trials.cleared(recipe.parent / "killed")
    number = count - before_the_end
    assert trials.run(recipe, killed, *trials.SEEDS, before=trials.killed_at(killed, number)).code == -9
    assert trials.parts(killed)
    assert not kills.goes_on(recipe, killed, whole, trials.SEEDS)
