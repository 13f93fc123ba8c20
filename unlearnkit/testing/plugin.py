"""Check that a plugin's module registers, and all its sections that can be built from defaults."""

from pathlib import Path

from pydantic import ValidationError

from unlearnkit.builtin.models import VitMae
from unlearnkit.plugins import discover, kind_of
from unlearnkit.recipe.sections import (
    AuditSection,
    DataSection,
    MetricSection,
    ModelSection,
    MultiplierSection,
    PsiSection,
    Section,
    TaskSection,
)
from unlearnkit.testing.audit import check_audit
from unlearnkit.testing.checks import (
    check_data,
    check_metric,
    check_multiplier,
    check_psi,
    check_section,
    check_task,
)
from unlearnkit.testing.model import check_model

SMALL = VitMae(
    kind="vit-mae", image_size=16, patch_size=4, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1,
    decoder_heads=2,
)  # fmt: skip
"""The model that audits are checked on."""


def check_plugin(module: object, base: Path) -> list[str]:
    """Register a plugin's module and check each section that needs no field but its kind; return what was checked."""
    plugins = discover(extra=[module], installed=False)
    plugin = plugins.all[-1]
    if plugin.error:
        raise AssertionError(f"{plugin.name}: expected to register, found {plugin.error}")
    checked = []
    for cls in plugin.sections:
        kind = kind_of(cls)
        try:
            section = cls.model_validate({"kind": kind})
        except ValidationError:
            continue
        _check(section, base)
        checked.append(kind)
    return checked


def _check(section: Section, base: Path) -> None:
    match section:
        case ModelSection():
            check_model(section)
        case TaskSection():
            check_task(section)
        case PsiSection():
            check_psi(section)
        case MultiplierSection():
            check_multiplier(section)
        case DataSection():
            check_data(section, base)
        case MetricSection():
            check_metric(section, base)
        case AuditSection():
            check_audit(section, SMALL, base=base)
        case _:
            check_section(section)
