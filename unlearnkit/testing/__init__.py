"""Checks of each plugin contract, for the tests of plugin packages.

Each check takes a section and raises `AssertionError` with a message that names the class, the method and what was
expected of it. `check_plugin` runs all that fit the sections of a module.
"""

from unlearnkit.testing.audit import check_audit
from unlearnkit.testing.checks import (
    check_data,
    check_loss,
    check_metric,
    check_multiplier,
    check_psi,
    check_section,
    check_task,
)
from unlearnkit.testing.model import check_model
from unlearnkit.testing.plugin import check_plugin

__all__ = [
    "check_audit",
    "check_data",
    "check_loss",
    "check_metric",
    "check_model",
    "check_multiplier",
    "check_plugin",
    "check_psi",
    "check_section",
    "check_task",
]
