"""Packages as users get them: built into wheels, installed, and tested far from the checkout."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
TEMPLATE = "acme-unlearning"
TESTS = {
    "unlearnkit": ["tests/cli", "tests/plugins", "tests/recipe"],
    **{path.name: [f"{path.name}/tests"] for path in PLUGINS},
    TEMPLATE: [f"{TEMPLATE}/tests"],
}
BUILT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def done(*command, **settings):
    found = subprocess.run(command, capture_output=True, text=True, **settings)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Return a folder with copies of the tests, and an environment that has our packages from `wheels` only.

    What they depend on is not fetched again but seen from here.
    """
    place = tmp_path_factory.mktemp("downstream")
    sources = place / "sources" / "unlearnkit"  # built in the checkout, a wheel would take old files of `build` along
    shutil.copytree(ROOT / "unlearnkit", sources / "unlearnkit", ignore=BUILT)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    for plugin in PLUGINS:
        shutil.copytree(plugin, place / "sources" / plugin.name, ignore=BUILT)
        shutil.copytree(plugin / "tests", place / plugin.name / "tests", ignore=BUILT)
    for name in ("tests", "schemas", "recipes"):
        shutil.copytree(ROOT / name, place / name, ignore=BUILT)
    shutil.copy(ROOT / "pyproject.toml", place)  # how pytest is set up

    venv.create(place / "venv")
    [site] = (place / "venv").glob("lib/python*/site-packages")
    install(place, sources, *(place / "sources" / plugin.name for plugin in PLUGINS))
    # Only looked in: with its .pth files read, the checkout itself would be seen.
    (site / "seen.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    done(place / "venv/bin/unlearnkit", "init", "--plugin", TEMPLATE, cwd=place, env=clean())
    shutil.copytree(place / TEMPLATE, place / "sources" / TEMPLATE)
    shutil.rmtree(place / TEMPLATE / TEMPLATE.replace("-", "_"))
    install(place, place / "sources" / TEMPLATE)
    return place


def clean() -> dict[str, str]:
    """Return the environment without what would show our packages from elsewhere."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}


def install(place: Path, *sources: Path) -> None:
    """Build wheels of packages and install them."""
    pip, python = [sys.executable, "-m", "pip"], place / "venv/bin/python"
    done(*pip, "wheel", "-q", "--no-deps", "--wheel-dir", place / "wheels", *sources, env=clean())
    wheels = [wheel for source in sources for wheel in place.glob(f"wheels/{source.name.replace('-', '_')}-*.whl")]
    done(*pip, "--python", python, "install", "-q", "--no-deps", *wheels, env=clean())


@pytest.mark.parametrize("package", TESTS)
def test_a_wheel_has_every_file_of_its_package(place, package):
    [wheel] = place.glob(f"wheels/{package.replace('-', '_')}-*.whl")
    root = place / "sources" / package
    files = [path for path in (root / package.replace("-", "_")).rglob("*") if path.is_file()]
    assert len(files) > 1
    missing = {str(path.relative_to(root)) for path in files} - set(ZipFile(wheel).namelist())
    assert {name for name in missing if "__pycache__" not in name} == set()


@pytest.mark.parametrize("package", TESTS)
def test_the_tests_of_a_package_pass_on_its_wheel(place, package):
    """`witness` fails the session where a package of ours was not imported from the environment."""
    command = [place / "venv/bin/python", "-m", "pytest", "-q", "-n", "0", "-p", "witness", *TESTS[package]]
    print(done(*command, cwd=place, env={**clean(), "PYTHONPATH": str(place / "tests/downstream")}))
