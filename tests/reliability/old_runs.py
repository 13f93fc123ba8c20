"""Run folders of earlier versions are refused by name, not read by luck."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import trials
from tiny_task import write_tiny
from trials import Tally

ROOT = Path(__file__).parents[2]
COMMITS = ("6ad6d28", "6dd018f", "41cc610")
"""An early one, the one before the package had rooms, and the last of format 1."""
COMMANDS = (["resume"], ["report"], ["export", "--epsilon", "highest", "--to", "out"], ["compare", "--to", "c"])
KEPT = Path(__file__).with_name("format-1")
"""A tiny finished run of the last commit of format 1, without its pictures and plots."""


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Make a run with each of some earlier commits (in small, take the one that is kept), for each command."""
    recipe = write_tiny(folder)
    runs = {commit: _made(folder, recipe, commit) for commit in COMMITS} if large else {"kept": KEPT}
    tally = Tally("a run folder of format 1: refused with its format and version", note=", ".join(runs))
    for name, old in runs.items():
        for words in (
            ["resume"],
            ["report"],
            ["export", "--epsilon", "highest", "--to", "out"],
            ["compare", "--to", "c"],
        ):
            run = trials.fresh(old, folder / "old")
            files = trials.whole(run)
            outcome = trials.command(words[0], run, *words[1:], cwd=folder)
            said = "format 1" in outcome.err and "0.1.0" in outcome.err and "Traceback" not in outcome.err
            same = trials.whole(run) == files and not (folder / "out").exists() and not (folder / "c").exists()
            tally.check(outcome.code == 7 and said and same, f"{words[0]} of {name}: {outcome.told}")
    yield tally


def _made(folder: Path, recipe: Path, commit: str) -> Path:
    """Return a run folder as a commit of this repository wrote it."""
    tree, run = folder / f"tree-{commit}", folder / f"run-{commit}"
    tree.mkdir()
    archive = subprocess.run(["git", "archive", commit, "unlearnkit"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    environment.pop("LD_PRELOAD", None)
    code = "from unlearnkit.cli import main; main()"  # `-c` looks in the working folder first
    words = [sys.executable, "-c", code, "run", str(recipe), "--to", str(run), *trials.sets(trials.SHORT)]
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]
    shutil.rmtree(tree)
    return run
