"""Fixtures for the tests of unlearnkit and of plugin packages."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    """Return a function that runs `unlearnkit ARGUMENTS` in the test's own folder, as a process of its own."""

    def run(*arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None) -> Outcome:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "unlearnkit", *map(str, arguments)],
            cwd=cwd or tmp_path, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(autouse=True)
def _unlearnkit_leaves_environment() -> Iterator[None]:
    """Fail a test that leaves the environment changed."""
    before = {name: value for name, value in os.environ.items() if name.startswith("UNLEARNKIT_")}
    yield
    after = {name: value for name, value in os.environ.items() if name.startswith("UNLEARNKIT_")}
    assert after == before, "the test changed UNLEARNKIT_ variables"
