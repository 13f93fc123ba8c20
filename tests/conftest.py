"""The tiny task for one test, and what tests of several modules and processes share."""

import atexit
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest
from filelock import FileLock
from tiny_task import ran, write_tiny

# Processes that the tests start share the machine; one thread each keeps them from fighting over it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is kept from run to run is theirs in common, and nothing of the user's.
if (folder := os.environ.setdefault("UNLEARNKIT_CACHE", own := mkdtemp())) == own:
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return a recipe beside the pictures that it names."""
    return write_tiny(tmp_path)


@pytest.fixture(scope="module")
def shared_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same for all tests of a module, which must not change it."""
    return write_tiny(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return what calls `make` with a folder of that name, in the first process that asks, and returns the folder."""
    own = tmp_path_factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def shared(name: str, make: Callable[[Path], object]) -> Path:
        done = base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(base / name, ignore_errors=True)  # of a process whose `make` failed
                (base / name).mkdir()
                make(base / name)
                done.touch()
        return base / name

    return shared


@pytest.fixture(scope="session")
def finished(once) -> Path:
    """Return a folder with the tiny recipe, its pictures and its finished `run`, for tests that only read."""
    return once("finished", lambda folder: ran(write_tiny(folder), folder / "run"))
