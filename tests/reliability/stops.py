"""SIGINT and SIGTERM at random moments: acknowledged at once, obeyed soon, and nothing is lost."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import trials
from kills import goes_on
from tiny_task import write_tiny
from trials import Running, Tally

LONG = (
    "training={steps: 24, batch_size: 4, checks: 4, checkpoint_every: 1000, device: cpu,"
    " optimizer: {kind: adamw, lr: 3.0e-3}}",
    *trials.SHORT[1:2],
    "compare=[{kind: retrain}]",
    "evaluate={metrics: [{kind: hidden-psnr}, {kind: ssim}], images: 3, tasks: [{kind: half}],"
    " audits: [{kind: membership}, {kind: relearning, steps: 12, every: 2}, {kind: fresh-decoder, steps: 12}]}",
)
ACKNOWLEDGED, OBEYED = 0.3, 2.0
"""Seconds: until stderr says that the signal has come, and until the process has left with what it had saved."""


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Stop runs of one seed, of several, and with processes that decode; of one alone in small."""
    recipe = write_tiny(folder)
    ways = {
        "with methods and audits": (LONG, 40 if large else 1),
        "with seeds": ((*LONG, "seeds=[3, 4]"), 16),
        "streaming": ((*trials.FULL, *trials.STREAMED), 16),
    }
    for what, (overrides, count) in list(ways.items())[: None if large else 1]:
        yield _stopped(recipe, what, overrides, count)


def _stopped(recipe: Path, what: str, overrides: tuple[str, ...], count: int) -> Tally:
    folder = recipe.parent
    whole, run = folder / f"whole-{what.replace(' ', '-')}", folder / "stopped"
    done = trials.run(recipe, whole, *overrides)
    assert done.code == 0, done.told
    tally, phases, slowest = Tally(f"SIGINT or SIGTERM at a random moment, {what}"), Counter[str](), [0.0, 0.0]
    number = 0
    while tally.tried < count and number < 3 * count:
        number += 1
        draw = trials.drawn(what, number)
        wanted = signal.SIGTERM if number % 2 else signal.SIGINT
        trials.cleared(run)
        process = trials.started("run", recipe, "--to", run, *trials.sets(overrides), cwd=folder)
        moment = draw.uniform(0.02, done.seconds)
        time.sleep(moment)
        if not process.running():
            process.wait()
            continue
        phase, before = last_event(run), process.said()
        acknowledged, obeyed, outcome = _signalled(process, wanted, before)
        if outcome.code == 0:
            continue  # it was through before the signal came
        slowest = [max(slowest[0], acknowledged or 0), max(slowest[1], obeyed)]
        said = ""
        if outcome.code == -wanted and not run.exists():
            phase = "nothing yet"  # the signal did what it does to any process
        elif outcome.code != 128 + wanted or "Traceback" in outcome.err:
            said = outcome.told
        elif acknowledged is None or acknowledged > ACKNOWLEDGED:
            said = f"acknowledged after {acknowledged} s; then {outcome.told}"
        elif obeyed > OBEYED:
            said = f"it left after {obeyed:.1f} s"
        elif run.exists() and any(run.iterdir()):
            said = goes_on(recipe, run, whole, overrides)
        phases[phase] += 1
        tally.check(not said, f"{wanted.name} after {moment:.2f} s, in {phase}: {said}")
    tally.note = f"acknowledged within {slowest[0]:.2f} s, left within {slowest[1]:.2f} s; " + ", ".join(
        f"{phase} {times}" for phase, times in phases.most_common()
    )
    return tally


def last_event(run: Path) -> str:
    """Return what a run was doing, by its last event."""
    newest = max(run.rglob("events.jsonl"), key=lambda path: path.stat().st_mtime, default=None)
    lines = newest.read_text().splitlines() if newest else []
    return json.loads(lines[-1])["event"] if lines else "building"


def _signalled(process: Running, wanted: signal.Signals, before: str) -> tuple[float | None, float, trials.Outcome]:
    """Send a signal; return the seconds until stderr says so and until the process has left, and what it left."""
    sent = time.monotonic()
    os.kill(process.pid, wanted)
    acknowledged = None
    while process.running() and time.monotonic() - sent < 60:
        if acknowledged is None and "stop" in process.said()[len(before) :]:
            acknowledged = time.monotonic() - sent
        time.sleep(0.002)
    obeyed = time.monotonic() - sent
    outcome = process.wait()
    if acknowledged is None and "stop" in outcome.err[len(before) :]:
        acknowledged = obeyed
    return acknowledged, obeyed, outcome
