"""Check that a plugin's module registers, and all its sections that can be built from defaults."""

from collections.abc import Mapping
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


def check_plugin(module: object, base: Path, fields: Mapping[str, Mapping[str, object]] | None = None) -> list[str]:
    """Register a plugin's module and check each section that needs no field but its kind; return what was checked.

    `fields` has fields by kind: small sizes of a model whose own are large, or what a section needs beside its kind.
    Relative paths start at `base`.
    """
    given, plugin = fields or {}, discover(extra=[module], installed=False).all[-1]
    if plugin.error:
        raise AssertionError(f"{plugin.name}: expected to register, found {plugin.error}")
    if unknown := given.keys() - set(map(kind_of, plugin.sections)):
        raise AssertionError(f"{plugin.name}: expected a section for each kind in `fields`, found none for {unknown}")
    checked = []
    for cls in plugin.sections:
        kind = kind_of(cls)
        try:
            section = sections.placed(cls.model_validate({"kind": kind, **given.get(kind, {})}), base)
        except ValidationError:
            if kind in given:
                raise
            continue
        _check(section, base)
        checked.append(kind)
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
