"""Fixtures for the tests of unlearnkit and of plugin packages."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def succeeded(self) -> "Outcome":
        """Return itself, or fail with what was printed."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self


@pytest.fixture
def unlearnkit(tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that runs `unlearnkit ARGUMENTS` in the test's own folder, or in the folder `cwd`.

    It runs in this process, which need not import torch again; with `env`, further variables, in one of its own.
    """

    def run(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Outcome:
        words, folder = [str(word) for word in arguments], cwd or tmp_path
        return _here(words, folder) if env is None else _apart(words, folder, env)

    return run


def _here(words: list[str], folder: Path) -> Outcome:
    from unlearnkit.cli.commands import main

    out, err, code = StringIO(), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, chdir(folder), redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["unlearnkit", *words])
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


def _apart(words: list[str], folder: Path, env: dict[str, str]) -> Outcome:
    command = [sys.executable, "-m", "unlearnkit", *words]
    done = subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, check=False)  # noqa: S603
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def _unlearnkit_leaves_environment() -> Iterator[None]:
    """Fail a test that leaves the environment changed."""
    before = {name: value for name, value in os.environ.items() if name.startswith("UNLEARNKIT_")}
    yield
    after = {name: value for name, value in os.environ.items() if name.startswith("UNLEARNKIT_")}
    assert after == before, "the test changed UNLEARNKIT_ variables"
