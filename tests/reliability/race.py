"""Two processes, two recipes, one folder, one moment: one wins and the other leaves."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import trials
from kills import ended
from tiny_task import write_tiny
from trials import Before, Tally

OTHER = "training.optimizer.lr=1.0e-3"


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Start two at once, time and again, also where an empty folder stands there already."""
    recipe = write_tiny(folder)
    recipes = (trials.SHORT, (*trials.SHORT, OTHER))
    alone = [folder / f"alone-{number}" for number in range(2)]
    for place, overrides in zip(alone, recipes, strict=True):
        assert (done := trials.run(recipe, place, *overrides)).code == 0, done.told
    tally = Tally("two recipes into one folder at one moment")
    wins = [0, 0]
    for number in range(50 if large else 3):
        run = trials.cleared(folder / "raced")
        if number % 2:
            run.mkdir()
        reading, writing = os.pipe()
        processes = [
            trials.started(
                "run", recipe, "--to", run, *trials.sets(overrides), cwd=folder,
                before=_waits(reading, writing, trials.drawn("race", number, place).uniform(0, 0.02)),
            )
            for place, overrides in enumerate(recipes)
        ]  # fmt: skip
        os.close(writing)
        os.close(reading)
        done = [process.wait() for process in processes]
        codes = [one.code for one in done]
        if sorted(codes) != [0, 7]:
            tally.check(False, f"race {number}: exit codes {codes}: {done[0].told} | {done[1].told}")
            continue
        winner = codes.index(0)
        wins[winner] += 1
        said = ended(done[winner], run, alone[winner])
        if "Traceback" in done[1 - winner].err:
            said = done[1 - winner].told
        tally.check(not said, f"race {number}, won by {winner}: {said}")
    tally.note = f"won {wins[0]} and {wins[1]} times"
    yield tally


def _waits(reading: int, writing: int, late: float) -> Before:
    """Return what waits until the other end of a pipe is closed by all: the moment at which both are there."""

    def wait() -> None:
        os.close(writing)
        os.read(reading, 1)
        time.sleep(late)

    return wait
