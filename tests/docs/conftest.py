"""What the tests of the documents share: the built site, a shell, a folder with a finished run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import ROOT
from filelock import FileLock


def once(folder: Path, make: Callable[[], None], name: str, session: str) -> None:
    """Call `make` in one of the processes that run the tests, while the others wait."""
    with FileLock(folder / f"{name}.lock"):
        done = folder / f"{name}.done"
        if not done.is_file() or done.read_text() != session:
            make()
            done.write_text(session)


@pytest.fixture(scope="session")
def site(testrun_uid) -> Path:
    """Return the folder of the built site; a warning of Sphinx fails the build."""
    out = ROOT / "build" / "docs"
    out.mkdir(parents=True, exist_ok=True)

    def make() -> None:
        command = [sys.executable, "-m", "docs.builder", "site", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    once(out, make, "site", testrun_uid)
    return out / "html"


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str, Path], subprocess.CompletedProcess[str]]:
    """Return a function that runs a script in a folder, with this checkout's `unlearnkit` on the path."""
    shim = tmp_path / "bin" / "unlearnkit"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unlearnkit "$@"\n')
    shim.chmod(0o755)

    def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "80"}
        return subprocess.run(["bash", "-euc", script], cwd=folder, env=env, capture_output=True, text=True)

    return run


@pytest.fixture
def workplace(tmp_path: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Path:
    """Return a folder with `recipe.yaml`, its `pictures` and the finished `runs/first`."""
    shared = tmp_path_factory.getbasetemp().parent / f"workplace-{testrun_uid}"
    shared.mkdir(exist_ok=True)

    def make() -> None:
        shutil.copytree(tiny.parent / "pictures", shared / "pictures")
        shutil.copy(tiny, shared / "recipe.yaml")
        command = [sys.executable, "-m", "unlearnkit", "run", "recipe.yaml", "--to", "runs/first"]
        subprocess.run(command, cwd=shared, check=True, capture_output=True)

    once(shared.parent, make, shared.name, testrun_uid)
    return Path(shutil.copytree(shared, tmp_path / "work"))
