"""One bit or the end of a file: what is not as it was written is named by every command whose outcome it would change.

`resume` reads a finished run whole, and names it in any case.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random

import trials
from tiny_task import write_tiny
from trials import Outcome, Tally

UNREAD = ("lock",)
"""What no command reads."""
MADE_AGAIN = (*UNREAD, "cache", "events.jsonl", "images")
"""What a run that goes on reads no more, or makes again."""
COMMANDS = ("resume", "report", "export", "compare")


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Damage finished runs, one with seeds among them, and runs that were stopped at three places."""
    flips, cuts = (2000, 300) if large else (16, 8)
    recipe = write_tiny(folder)
    assert (done := trials.run(recipe, folder / "finished", *trials.FULL)).code == 0, done.told
    assert (done := trials.run(recipe, folder / "seeds", *trials.SEEDS)).code == 0, done.told
    stops = {
        "solving": ("checkpoints/epsilon-", 3, (*trials.FULL, *trials.DISK)),
        "evaluating": ("evaluations/", 4, trials.FULL),
        "auditing": ("audits/", 5, trials.FULL),
    }
    for name, (words, times, overrides) in stops.items():
        killed = trials.run(recipe, folder / name, *overrides, before=trials.killed_before(folder / name, words, times))
        assert killed.code == -9, f"{name}: nothing was written to {words}: {killed.told}"
    every = ("finished", "seeds", *stops)
    for what, damage, count in (("single-bit flips", flip, flips), ("truncations", cut, cuts)):
        for name in every:
            half = name in stops
            tried = partial(_half, folder, name) if half else partial(_finished, folder, name)
            share = count // (2 if name == "finished" else 8)
            said = f"{what}, a run stopped while {name}" if half else f"{what}, a {name} run"
            yield from _spread(folder / name, said.replace("a seeds run", "a run with seeds"), damage, share, tried)


def flip(data: bytes, draw: Random) -> bytes:
    """Return the bytes with one bit changed."""
    changed = bytearray(data)
    changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: Random) -> bytes:
    """Return fewer of the bytes."""
    return data[: draw.randrange(len(data))]


def kind(name: str) -> str:
    """Return which sort of file one is by its path: that of a solution's tensors is one for all solutions."""
    steps = [step for step in name.split("/") if not step.startswith("seed-")]
    last = steps[-1] if steps[0] not in ("images", "evaluations", "audits", "plots") else steps[-1].rpartition(".")[2]
    return "/".join((steps[0], last)) if len(steps) > 1 else steps[0]


def _spread(
    run: Path, what: str, damage: Callable[[bytes, Random], bytes], count: int, tried: Callable[[str, bytes], str]
) -> Iterator[Tally]:
    """Damage so many files, as many of each kind of file."""
    kinds = defaultdict(list)
    for name, data in trials.whole(run).items():
        if data and not name.split("/")[-1].endswith(".part") and ".part/" not in name:
            kinds[kind(name)].append(name)
    tally = Tally(what, note=f"{len(kinds)} kinds of files")
    draw = trials.drawn(what)
    for number in range(count):
        files = kinds[sorted(kinds)[number % len(kinds)]]
        name = draw.choice(files)
        pristine = (run / name).read_bytes()
        changed = damage(pristine, draw)
        said = tried(name, changed)
        (run / name).write_bytes(pristine)
        place = next((at for at, (a, b) in enumerate(zip(pristine, changed, strict=False)) if a != b), len(changed))
        tally.check(not said, f"{name} at byte {place} of {len(pristine)}: {said}")
    yield tally


def _words(what: str, run: Path, folder: Path) -> list[object]:
    return {
        "resume": ["resume", run],
        "report": ["report", run],
        "export": ["export", run, "--epsilon", "highest", "--to", folder / "out"],
        "compare": ["compare", run, "--to", folder / "compared"],
    }[what]  # fmt: skip


def verdict(done: Outcome, name: str, same: bool, harmless: bool) -> str:
    """Say what is wrong with how a command took a damaged file, nothing where all is right.

    `same` is whether its outcome is that of the undamaged folder; `harmless` whether the file may stay unnoticed then.
    """
    named = name in done.err or (name.rpartition("/")[0] in done.err and "/" in name)
    if "Traceback" in done.err:
        return f"traceback: {done.told}"
    if done.code == 7:
        return "" if named else f"not named: {done.told}"
    if done.code != 0:
        return f"another exit code: {done.told}"
    if not same:
        return f"another outcome{' (named)' if named else ', without a word'}: {done.told}"
    return "" if named or harmless else f"not noticed: {done.told}"


def _finished(folder: Path, name: str, file: str, changed: bytes) -> str:
    """Try every command on a finished run with one damaged file."""
    run, kept, wrong = folder / name, folder / f"{name}-kept", []
    expected = _expected(folder, name)
    if not kept.exists():
        trials.fresh(run, kept)
    commands = [what for what in COMMANDS if what != "export" or name != "seeds"]
    for what in commands:
        (run / file).write_bytes(changed)
        before = trials.whole(run)
        done = trials.command(*_words(what, run, folder), cwd=folder)
        after = trials.whole(run)
        written = _written(folder)
        same = written == expected[what] and all(
            after.get(one) in (before[one], data) for one, data in trials.whole(kept).items() if one != "events.jsonl"
        )
        harmless = what != "resume" or file.split("/")[-1] in UNREAD
        if said := verdict(done, file, same, harmless):
            wrong.append(f"{what}: {said}")
        if after != before:
            trials.fresh(kept, run)
    return "; ".join(wrong)


def _written(folder: Path) -> dict[str, bytes]:
    """Return what export and compare wrote, and remove it."""
    found = {
        f"{place}/{name}": data
        for place in ("out", "compared")
        if (folder / place).exists()
        for name, data in trials.whole(folder / place).items()
    }
    for place in ("out", "compared"):
        shutil.rmtree(folder / place, ignore_errors=True)
    return found


@cache
def _expected(folder: Path, name: str) -> dict[str, dict[str, bytes]]:
    """Return what each command writes outside of an undamaged run."""
    copy = trials.fresh(folder / name, folder / "undamaged" / name)
    found = {}
    for what in COMMANDS:
        done = trials.command(*_words(what, copy, folder), cwd=folder)
        assert done.code == 0 or (what == "export" and name == "seeds"), done.told
        found[what] = _written(folder)
    return found


def _half(folder: Path, name: str, file: str, changed: bytes) -> str:
    """Resume a stopped run with one damaged file."""
    copy = trials.fresh(folder / name, folder / "damaged")
    (copy / file).write_bytes(changed)
    done = trials.command("resume", copy, cwd=folder)
    # The solving one has its cache on disk, which changes no number but stands in the recipe.
    whole = trials.lasting(folder / "finished") if done.code == 0 else {}
    same = done.code == 0 and not trials.differing(trials.lasting(copy), whole)
    return verdict(done, file, same, file.split("/")[0] in MADE_AGAIN)
