"""ENOSPC and EIO at every operation that writes: a message, nothing half, and a second try as if it had not been."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import deletion
import trials
from tiny_task import write_tiny
from trials import Before, Tally

SHIM = Path(__file__).with_name("faults.c")
SHORTER = (
    "training={steps: 6, batch_size: 4, checks: 1, checkpoint_every: 3, device: cpu,"
    " optimizer: {kind: adamw, lr: 3.0e-3}, cache: {memory_mib: 0}}",
    "epsilons={fractions: [0.5]}",
    "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 1, audits: [{kind: membership}]}",
)


def preload() -> None:
    """Start this process again with the shim in it, where there is a C compiler; without, Python's own calls fail."""
    compiler = shutil.which("cc")
    if compiler is None or "faults" in os.environ.get("LD_PRELOAD", "") or not sys.platform.startswith("linux"):
        return
    library = Path(os.environ.get("TMPDIR", "/tmp")) / f"faults-{os.getuid()}.so"
    made = library.with_suffix(f".{os.getpid()}")
    done = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SHIM, "-ldl"], check=False)
    if done.returncode == 0:
        made.rename(library)
        environment = {**os.environ, "LD_PRELOAD": str(library)}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def _shim() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "fault_arm") else None


def failing(below: Path, number: int, code: int, for_good: bool) -> Before:
    """Return what lets a command's n-th operation below a folder fail, and all after it too `for_good`."""
    shim = _shim()
    if shim is not None:
        return partial(shim.fault_arm, os.fsencode(below.absolute()), ctypes.c_long(number), code, int(for_good))

    def act(count: int, event: str, path: str) -> None:
        if count == number or (for_good and count > number):
            raise OSError(code, os.strerror(code), path)

    return trials.at_operation(below, act)


def counted(below: Path, words: Sequence[object], cwd: Path, to: Path) -> int:
    """Return how many operations a command has below a folder, having run it."""
    shim = _shim()
    if shim is None:
        done = trials.command(*words, cwd=cwd, before=trials.operations(below, to))
        count = int(to.read_text())
    else:
        done = trials.command(*words, cwd=cwd, before=failing(below, 0, 0, False))
        shim.fault_count.restype = ctypes.c_long
        count = shim.fault_count()
    assert done.code == 0, done.told
    return count


@dataclass(frozen=True)
class Case:
    """A command, where it writes, and what has to be there for it."""

    name: str
    words: Sequence[object]
    below: Path
    prepare: Callable[[], object]
    found: Callable[[], dict[str, bytes]]
    """What it left, of which the same bytes are asked."""
    resumed: Path | None = None
    """What `resume` continues; of any other command nothing may be there where it failed, or all."""


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Let each command fail at every operation (some of them in small)."""
    shim = "every libc call" if _shim() else "Python's calls alone"
    for case in _cases(folder):
        case.prepare()
        count = counted(case.below, case.words, folder, folder / "count.txt")
        expected = case.found()
        numbers = range(1, count + 1)
        chosen = numbers if large else sorted(trials.drawn(case.name).sample(numbers, min(1, count)))
        tally = Tally(f"ENOSPC or EIO at a write of `{case.name}`", note=f"{len(chosen)} of {count}, {shim}")
        for number in chosen:
            code, for_good = (errno.ENOSPC, True) if number % 2 else (errno.EIO, False)
            case.prepare()
            said = _tried(folder, case, number, code, for_good, expected)
            tally.check(not said, f"{errno.errorcode[code]} at {number} of {count}: {said}")
        yield tally


def _tried(folder: Path, case: Case, number: int, code: int, for_good: bool, expected: dict[str, bytes]) -> str:
    before = case.found()
    done = trials.command(*case.words, cwd=folder, before=failing(case.below, number, code, for_good))
    if "Traceback" in done.err:
        return f"traceback: {done.told}"
    if done.code not in (0, 7):
        return f"exit code: {done.told}"
    if done.code == 7 and os.strerror(code) not in done.err:
        return f"says not why: {done.told}"
    if done.code == 0:
        wrong = trials.differing(case.found(), expected)
        return f"exit 0, but other bytes: {wrong[:6]}" if wrong else ""
    if case.resumed is None and (wrong := trials.differing(found := case.found(), before)):
        return "" if found == expected else f"left half: {wrong[:6]}"
    again = trials.command(*case.words, cwd=folder)
    if again.code == 7 and case.resumed is not None and "unlearnkit resume" in again.err:
        again = trials.command("resume", case.resumed, cwd=folder)
    if again.code != 0:
        return f"the second try: {again.told}"
    if wrong := trials.differing(case.found(), expected):
        return f"other bytes after the second try: {wrong[:6]}"
    left = trials.parts(case.below)
    return f"left behind: {left[:4]}" if left else ""


def _cases(folder: Path) -> Iterator[Case]:
    recipe = write_tiny(folder)
    pretraining = deletion.pretraining(recipe)
    runs, outs, half, done = (folder / name for name in ("runs", "outs", "half", "done"))
    made, out = runs / "made", outs / "out"
    start = ["run", recipe, "--to", made, *trials.sets(SHORTER)]
    assert (first := trials.run(recipe, done, *SHORTER)).code == 0, first.told
    killed = trials.run(recipe, half, *SHORTER, before=trials.killed_before(half, "solutions/epsilon"))
    assert killed.code == -9, killed.told

    def clear() -> None:
        for place in (runs, outs):
            trials.cleared(place).mkdir()

    def lasting() -> dict[str, bytes]:
        return trials.lasting(made) if made.exists() else {}

    def everything() -> dict[str, bytes]:
        return trials.whole(outs)

    clear()

    yield Case("run", start, runs, clear, lasting, made)
    yield Case("resume", ["resume", made], runs, partial(trials.fresh, half, made), lasting, made)
    untold = partial(trials.whole, made, ("lock", "events.jsonl"))
    yield Case("report", ["report", made], runs, partial(trials.fresh, done, made), untold, made)
    yield Case("compare", ["compare", done, "--to", out], outs, clear, everything)
    yield Case("export", ["export", done, "--epsilon", "highest", "--to", out], outs, clear, everything)
    yield Case("pretrain", ["pretrain", pretraining, "--to", out], outs, clear, everything, out)
    words = ["init", "--model", "vit-mae", "--data", "pictures", "--forget", "red", "--to", out / "recipe.yaml"]
    yield Case("init", words, outs, clear, everything)
    yield Case("init --plugin", ["init", "--plugin", "acme-unlearning", "--to", out], outs, clear, everything)
