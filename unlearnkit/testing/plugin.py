"""Check that a plugin's module registers, and all its sections that can be built from defaults."""

from pathlib import Path

from pydantic import ValidationError

from unlearnkit.builtin.models.sections import VitMae
from unlearnkit.plugins import discover, kind_of
from unlearnkit.recipe import sections
from unlearnkit.testing.audit import check_audit
from unlearnkit.testing.checks import check_data, check_metric, check_multiplier, check_psi, check_section, check_task
from unlearnkit.testing.model import check_model

SMALL = VitMae(
    kind="vit-mae", image_size=16, patch_size=4, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1,
    decoder_heads=2,
)  # fmt: skip
"""The model that audits are checked on."""


def check_plugin(module: object, base: Path) -> list[str]:
    """Register a plugin's module and check each section that needs no field but its kind; return what was checked."""
    plugin = discover(extra=[module], installed=False).all[-1]
    if plugin.error:
        raise AssertionError(f"{plugin.name}: expected to register, found {plugin.error}")
    checked = []
    for cls in plugin.sections:
        try:
            section = cls.model_validate({"kind": kind_of(cls)})
        except ValidationError:
            continue
        _check(section, base)
        checked.append(kind_of(cls))
    return checked


def _check(section: sections.Section, base: Path) -> None:
    match section:
        case sections.ModelSection():
            check_model(section)
        case sections.TaskSection():
            check_task(section)
        case sections.PsiSection():
            check_psi(section)
        case sections.MultiplierSection():
            check_multiplier(section)
        case sections.DataSection():
            check_data(section, base)
        case sections.MetricSection():
            check_metric(section, base)
        case sections.AuditSection():
            check_audit(section, SMALL, base=base)
        case _:
            check_section(section)
