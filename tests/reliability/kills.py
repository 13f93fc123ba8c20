"""SIGKILL before every file operation of a start, and at random moments: what goes on ends in the undisturbed bytes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import trials
from tiny_task import write_tiny
from trials import Outcome, Tally

PLAIN = {"a run": (*trials.SHORT, *trials.DISK), "a run with seeds": trials.SEEDS,
         "a varied run": trials.VARIED}  # fmt: skip
RICH = {
    "compare and audits": trials.FULL,
    "seeds": trials.SEEDS,
    "vary": trials.VARIED,
    "streaming": (*trials.SHORT, *trials.STREAMED),
    "a curve and targets": (*trials.SHORT, "sweep={kind: curve, budget: 1, polish: 3}", *trials.AIMED),
}


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Kill at every operation (a sample of them in small), then at random moments."""
    recipe = write_tiny(folder)
    for what, overrides in PLAIN.items():
        yield _each_operation(recipe, what, overrides, None if large else 1)
    for what, overrides in RICH.items():
        yield _moments(recipe, what, overrides, 14 if large else 1)
    if large:
        yield _moments(recipe, "a run, killed again while it goes on", trials.FULL, 14, again=3)


def _each_operation(recipe: Path, what: str, overrides: tuple[str, ...], sample: int | None) -> Tally:
    run, counted = recipe.parent / "killed", recipe.parent / "operations.txt"
    whole = recipe.parent / f"whole-{what.replace(' ', '-')}"
    done = trials.run(recipe, whole, *overrides, before=trials.operations(whole, counted))
    assert done.code == 0, done.told
    count = int(counted.read_text())
    numbers = range(1, count + 1)
    chosen = numbers if sample is None else sorted({2, count, *trials.drawn(what).sample(numbers, sample)})
    tally = Tally(f"SIGKILL before a file operation of {what}", note=f"{len(chosen)} of {count} operations")
    for number in chosen:
        trials.cleared(run)
        killed = trials.run(recipe, run, *overrides, before=trials.killed_at(run, number))
        said = f"it was not killed: {killed.told}" if killed.code != -9 else goes_on(recipe, run, whole, overrides)
        tally.check(not said, f"operation {number} of {count} (`killed_at(run, {number})`): {said}")
    return tally


def goes_on(recipe: Path, run: Path, whole: Path, overrides: tuple[str, ...]) -> str:
    """Resume what was killed, or run it where that is what it says; say what is not as in the undisturbed run."""
    done = trials.command("resume", run, cwd=recipe.parent)
    if done.code == 7 and "unlearnkit run" in done.err:
        done = trials.run(recipe, run, *overrides)
    return ended(done, run, whole)


def ended(done: Outcome, run: Path, whole: Path) -> str:
    """Say what is not as in a run that nothing disturbed, nothing where all is."""
    if done.code != 0 or "Traceback" in done.err:
        return done.told
    if differing := trials.differing(trials.lasting(run), trials.lasting(whole)):
        return f"other bytes: {differing[:6]}"
    for place in (run, *run.glob("seed-*")):
        wanted = [name for name in ("report.html", "report.md", "seal.json", "comparison.html")
                  if (whole / place.relative_to(run) / name).exists()]  # fmt: skip
        if missing := [name for name in wanted if not (place / name).exists()]:
            return f"missing in {place.name}: {missing}"
    if left := [*trials.parts(run.parent), *(name for name in ("checkpoints", "cache") if (run / name).exists())]:
        return f"left behind: {left[:6]}"
    return ""


def _moments(recipe: Path, what: str, overrides: tuple[str, ...], count: int, again: int = 1) -> Tally:
    whole, run = recipe.parent / f"moments-{what.split(',')[0].replace(' ', '-')}", recipe.parent / "killed"
    done = trials.run(recipe, whole, *overrides) if not whole.exists() else Outcome(0, "", "", 1.5)
    assert done.code == 0, done.told
    times = f", {again} times" if again > 1 else ""
    tally = Tally(f"SIGKILL at a random moment, {what}{times}", note=f"of {done.seconds:.1f} s")
    for number in range(count):
        trials.cleared(run)
        draw = trials.drawn(what, number)
        words: list[object] = ["run", recipe, "--to", run, *trials.sets(overrides)]
        moments = []
        for _ in range(again):
            process = trials.started(*words, cwd=recipe.parent)
            moments.append(draw.uniform(0, done.seconds))
            time.sleep(moments[-1])
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            time.sleep(1.0 if "streaming" in what else 0)  # its processes see that it is gone and let go of the lock
            if (run / "manifest.json").exists():
                words = ["resume", run]
        said = goes_on(recipe, run, whole, overrides)
        tally.check(not said, f"killed after {', '.join(f'{moment:.2f}' for moment in moments)} s: {said}")
    return tally
