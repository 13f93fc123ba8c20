"""What the tests of the documents share: the built site, a shell, a folder with a finished run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import ROOT

from unlearnkit.testing.pytest_plugin import Outcome

ALONE = re.compile(r"unlearnkit [^|&;<>$`\\\n]+")


@pytest.fixture(scope="session")
def site(once) -> Path:
    """Return the folder of the built site; a warning of Sphinx fails the build."""
    out = ROOT / "build" / "docs"

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "docs.builder", "site", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    once("site", make)
    return out / "html"


@pytest.fixture
def shell(tmp_path: Path, unlearnkit: Callable[..., Outcome]) -> Callable[[str, Path], None]:
    """Return a function that runs the lines of a script in a folder; each must succeed.

    A line that is just a command of unlearnkit runs in this process, any other in a shell with this checkout's
    `unlearnkit` on the path.
    """
    shim = tmp_path / "bin" / "unlearnkit"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unlearnkit "$@"\n')
    shim.chmod(0o755)

    def run(script: str, folder: Path) -> None:
        env = {**os.environ, "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "80"}
        for line in script.splitlines():
            if ALONE.fullmatch(line):
                unlearnkit(*shlex.split(line)[1:], cwd=folder).succeeded()
                continue
            done = subprocess.run(["bash", "-euc", line], cwd=folder, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"

    return run


@pytest.fixture
def workplace(tmp_path: Path, finished: Path) -> Path:
    """Return a folder with `recipe.yaml`, its `pictures` and the finished `runs/first`."""
    work = tmp_path / "work"
    shutil.copytree(finished / "pictures", work / "pictures")
    shutil.copytree(finished / "run", work / "runs" / "first")
    shutil.copy(finished / "tiny.yaml", work / "recipe.yaml")
    return work
