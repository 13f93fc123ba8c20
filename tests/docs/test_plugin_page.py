"""Every block of Python on the page for plugin authors is right as it stands: what it defines keeps its contract."""

import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from blocks import ROOT, blocks

from unlearnkit import hookimpl
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import kind_of
from unlearnkit.recipe.sections import OPEN, Section
from unlearnkit.testing import check_audit, check_loss, check_model, check_plugin

BLOCKS = [block.text for block in blocks(ROOT / "docs/plugins.md") if block.language == "python"]
KINDS = ["acme-half-gap", "acme-picture", "acme-blur", "acme-corner", "acme-weighed", "acme-own-loss", "acme-keep-most"]
MODULE = "acme_unlearning"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Return the modules that the blocks are, in order; the first is the package that the last one tests."""
    monkeypatch.syspath_prepend(tmp_path)
    names = [MODULE, *(f"{MODULE}_{number}" for number in range(1, len(BLOCKS)))]
    for name, text in zip(names, BLOCKS, strict=True):
        (tmp_path / f"{name}.py").write_text(text)
    yield [import_module(name) for name in names]
    for name in names:
        del sys.modules[name]


@pytest.fixture
def page(modules) -> dict[str, type[Section]]:
    """Return the sections of the page by kind."""
    classes = [cls for module in modules for cls in vars(module).values() if isinstance(cls, type)]
    return {kind_of(cls): cls for cls in classes if issubclass(cls, Section) and cls.__module__.startswith(MODULE)}


def test_each_section_registers_and_keeps_its_contract(page, tmp_path):
    assert list(page) == KINDS
    for kind, cls in page.items():
        hooks = {hook: hookimpl(lambda cls=cls: [cls]) for hook, bases in OPEN.items() if issubclass(cls, bases)}
        checked = check_plugin(SimpleNamespace(__name__=kind, **hooks), tmp_path)
        assert checked == ([kind] if kind != "acme-picture" else []), "the picture's section needs its file"


def test_the_pages_model_task_loss_and_audit_suit_each_other(page, tmp_path, monkeypatch):
    model, task = page["acme-blur"](kind="acme-blur"), page["acme-corner"](kind="acme-corner")
    check_model(model, task.build())
    check_audit(page["acme-own-loss"](kind="acme-own-loss"), model, task.build())
    monkeypatch.chdir(tmp_path)
    loss = page["acme-picture"](kind="acme-picture", picture="gray.pt")
    with pytest.raises(UserError, match=r"there is no file gray\.pt") as caught:
        check_loss(loss, model, task)
    assert caught.value.code == Exit.RECIPE
    torch.save(torch.full((3, 32, 32), 0.5), tmp_path / "gray.pt")
    check_loss(loss, model, task)


def test_the_pages_method_gives_one_stage_a_value_and_refuses_what_does_not_suit(page):
    method = page["acme-weighed"](kind="acme-weighed", weight=[0.5, 2.0])
    setting = SimpleNamespace(reference=SimpleNamespace(sees_truth=False))
    stages = [stage for one in method.each() for stage in one.build(setting, object(), object())]
    assert [stage.rule.lam for stage in stages] == [0.5, 2.0]
    setting.reference.sees_truth = True
    with pytest.raises(UserError, match="leave it out"):
        method.build(setting, object(), object())


def test_the_pages_test_passes(modules, tmp_path):
    modules[-1].test_contracts(tmp_path)


def test_the_page_on_a_network_of_others_passes_its_own_test(tmp_path, monkeypatch):
    names = ["restorer", "acme_restorer", "test_restorer"]
    page = blocks(ROOT / "docs/how-to/wrap-a-network.md")
    for name, text in zip(names, [block.text for block in page if block.language == "python"], strict=True):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    import_module("test_restorer").test_a_restorer(tmp_path)
    with pytest.raises(UserError, match="a restorer needs `weights`, which say its sizes"):
        import_module("acme_restorer").RestorerSection(kind="acme-restorer").build(None)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: this is no restorer, for it has no head\.weight"):
        import_module("acme_restorer").RestorerSection(kind="acme-restorer").build(tmp_path / "other.pth")
