"""What is installed here is the declared minimum of each dependency; `make test-lowest` says so, and nothing else."""

from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PACKAGES = ["unlearnkit", "unlearnkit-timm", "unlearnkit-diffusers", "unlearnkit-openclip", "unlearnkit-spandrel",
            "unlearnkit-ray", "unlearnkit-slurm"]  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_each_minimum_is_what_is_installed(package):
    least = {}
    for requirement in map(Requirement, requires(package)):
        bounds = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
        try:
            if bounds and requirement.name not in PACKAGES:
                least[requirement.name] = (str(max(bounds)), version(requirement.name))
        except PackageNotFoundError:  # of an extra that is not tested
            continue
    assert {name: found for name, found in least.items() if Version(found[0]) != Version(found[1])} == {}
