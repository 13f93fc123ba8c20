"""Commands in processes of their own, forked from this one, which has imported all that they need but run none.

A command costs a fork where it would cost four seconds of imports, and what is done to it (`before`) stays in it. This
process must take no gradient: PyTorch's autograd can be used after a fork only where it was not before.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import Any

from tiny_task import write_tiny

SHORT = (
    "training={steps: 6, batch_size: 4, checks: 2, checkpoint_every: 2, device: cpu,"
    " optimizer: {kind: adamw, lr: 3.0e-3}}",
    "epsilons={fractions: [0.25, 0.75]}",
    "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 1}",
)
"""What makes the tiny recipe one of a third of a second."""
BESIDE = ("compare=[{kind: composite, alpha: [0.25, 1.0]}]",)
FULL = (
    *SHORT[:2],
    *BESIDE,
    "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 1, tasks: [{kind: half}],"
    " audits: [{kind: membership}, {kind: relearning, steps: 4, every: 2}]}",
)
"""With methods, audits and another task."""
SEEDS = (*SHORT, "seeds=[3, 4]")
VARIED = (*SHORT, "control={epsilon: {kind: relative-gap}}", "vary={control.epsilon.delta: [1, 2]}")
STREAMED = ("data.memory_mib=0", "data.workers=2")
AIMED = ("epsilons.targets=[{kind: unseen}, {kind: epsilon, fraction: 0.5, polish: 3}]",)
DISK = ("training.cache.memory_mib=0",)

LASTING = ("results.json", "solutions", "images", "evaluations", "audits", "original", "recipe.yaml", "comparison.csv")
"""What has the same bytes in every run of a recipe; the rest of a run folder has times, or is drawn of these."""

Before = Callable[[], object]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind; `code` is −N where signal N killed it."""

    code: int
    out: str
    err: str
    seconds: float = 0.0

    @property
    def told(self) -> str:
        """The end of what it said."""
        said = (self.err.strip() or self.out.strip())[-500 if self.code else -120 :]
        return f"exit {self.code}: {said}"


@dataclass
class Tally:
    """How often something was tried, and where it did not hold."""

    what: str
    tried: int = 0
    broken: int = 0
    note: str = ""
    """A figure to show beside it."""

    def check(self, holds: bool, said: str) -> bool:
        """Count one trial, and say at once of one that does not hold what is to be seen."""
        self.tried += 1
        if not holds:
            self.broken += 1
            print(f"{self.what}: {said}\n", file=sys.stderr, flush=True)
        return holds


class Running:
    """A command under way in a process of its own."""

    def __init__(self, words: Sequence[object], cwd: Path, before: Before) -> None:
        self.place = Path(mkdtemp(prefix="trial-"))
        for name in ("out", "err"):  # also of one that is killed before it has opened them
            (self.place / name).touch()
        sys.stdout.flush()
        sys.stderr.flush()
        self.began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _child([str(word) for word in words], cwd, self.place, before)

    def said(self) -> str:
        """Return what it has printed to stderr up to now."""
        path = self.place / "err"
        return path.read_text(errors="replace") if path.exists() else ""

    def running(self) -> bool:
        """Tell whether it has not ended yet, without waiting."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self, limit: float = 300.0) -> Outcome:
        """Return what it left behind; one that does not end in `limit` seconds is killed."""
        while self.running():
            if time.monotonic() - self.began > limit:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.0005)
        _, status = os.waitpid(self.pid, 0)
        out, err = ((self.place / name).read_text(errors="replace") for name in ("out", "err"))
        shutil.rmtree(self.place)
        return Outcome(os.waitstatus_to_exitcode(status), out, err, time.monotonic() - self.began)


def _child(words: list[str], cwd: Path, place: Path, before: Before) -> None:
    """Run the command line here and leave: nothing of what called the fork goes on."""
    code = 1
    try:
        for name, number in (("out", 1), ("err", 2)):
            os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(cwd)
        from unlearnkit.cli.commands import main

        sys.argv = ["unlearnkit", *words]
        _undrawn()
        before()
        main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _undrawn() -> None:
    """Leave plots blank in this process: to draw them is most of a tiny run's time."""
    from matplotlib.figure import Figure

    from unlearnkit.report import svg

    Figure.savefig = lambda plot, stream, **how: stream.write(b"blank")
    svg.inline = lambda plot, label, links=None: "<svg></svg>"


def nothing() -> None:
    """Do nothing to a command."""


def started(*words: object, cwd: Path, before: Before = nothing) -> Running:
    """Start `unlearnkit WORDS` in the folder `cwd`, having called `before` in its process."""
    return Running(words, cwd, before)


def command(*words: object, cwd: Path, before: Before = nothing) -> Outcome:
    """Run `unlearnkit WORDS` in the folder `cwd`, having called `before` in its process."""
    return Running(words, cwd, before).wait()


def run(recipe: Path, to: Path, *overrides: str, before: Before = nothing) -> Outcome:
    """Run a recipe with overrides."""
    return command("run", recipe, "--to", to, *sets(overrides), cwd=recipe.parent, before=before)


def sets(overrides: Sequence[str]) -> list[str]:
    """Return overrides as words of a command."""
    return [word for override in overrides for word in ("--set", override)]


@cache
def ready() -> None:
    """Import here what the commands import, as one process that runs them all finds them."""
    os.environ.setdefault("UNLEARNKIT_LOAD_PLUGINS", "")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = Path(mkdtemp(prefix="warm-"))
    recipe = write_tiny(folder)

    def all_of_them() -> None:
        for words in (
            ["run", str(recipe), "--to", "run", *sets(FULL)],
            ["export", "run", "--epsilon", "highest", "--to", "out"],
            ["compare", "run", "--to", "compared"],
            ["plan", str(recipe)],
        ):
            sys.argv = ["unlearnkit", *words]
            from unlearnkit.cli.commands import main

            try:
                main()
            except SystemExit as left:
                if left.code:
                    raise
        (folder / "modules.json").write_text(json.dumps(sorted(sys.modules)))

    warm = command("plugins", cwd=folder, before=all_of_them)
    assert (folder / "modules.json").is_file(), warm.told
    import torch

    torch.set_num_threads(1)
    for name in json.loads((folder / "modules.json").read_text()):
        try:
            importlib.import_module(name)
        except Exception:  # such as a lazy face's own names, which are no modules
            continue
    shutil.rmtree(folder)


def whole(folder: Path, but: Collection[str] = ("lock",)) -> dict[str, bytes]:
    """Return all files below a folder by their path in it, leaving out some by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lasting(folder: Path) -> dict[str, bytes]:
    """Return what has the same bytes in every run of a recipe, also of one of several runs."""
    found = whole(folder)
    return {name: data for name, data in found.items() if {*LASTING} & {*name.split("/")[:2]}}


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """Return the names of files that two folders do not have alike."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def parts(folder: Path) -> list[str]:
    """Return what a process left behind half written."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*.part"))


def fresh(source: Path, to: Path) -> Path:
    """Return a copy of a folder in a place where something may stand."""
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(source, to)


# What happens to a process at its n-th file operation. An audit hook is told of an operation before it is done.

OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


def operation(event: str, arguments: tuple[Any, ...], below: str) -> str | None:
    """Return the path that an operation changes, where it is one and is below a folder."""
    if event not in OPERATIONS:
        return None
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            return None
    else:
        path = arguments[1] if event == "os.rename" else arguments[0]
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    name = os.path.abspath(os.fsdecode(path))
    return name if name == below or name.startswith(below + os.sep) else None


def at_operation(below: Path, act: Callable[[int, str, str], object]) -> Before:
    """Return what tells `act` of each file operation below a folder: its number from 1, what it is, and its path."""

    def arm() -> None:
        owner, count, busy = os.getpid(), [0], [False]

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if busy[0] or event not in OPERATIONS or os.getpid() != owner:
                return
            busy[0] = True
            try:
                if (path := operation(event, arguments, str(below.absolute()))) is not None:
                    count[0] += 1
                    act(count[0], event, path)
            finally:
                busy[0] = False

        sys.addaudithook(hook)

    return arm


def killed_at(below: Path, number: int) -> Before:
    """Return what kills a command before its n-th file operation below a folder."""

    def act(count: int, event: str, path: str) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return at_operation(below, act)


def killed_before(below: Path, words: str, times: int = 1) -> Before:
    """Return what kills a command before the n-th renaming to a path that has `words` in it."""
    seen = [0]

    def act(count: int, event: str, path: str) -> None:
        seen[0] += event == "os.rename" and words in path
        if seen[0] == times:
            os.kill(os.getpid(), signal.SIGKILL)

    return at_operation(below, act)


def operations(below: Path, to: Path) -> Before:
    """Return what writes the number of file operations of a command below a folder to a file outside of it."""

    def act(count: int, event: str, path: str) -> None:
        to.write_text(str(count))

    return at_operation(below, act)


def drawn(*purpose: object) -> Random:
    """Return a source of random moments and places that is the same in every run of the trials."""
    return Random("-".join(map(str, purpose)))


def cleared(folder: Path) -> Path:
    """Return a path where nothing stands."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder
