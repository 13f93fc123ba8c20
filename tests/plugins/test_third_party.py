"""A package outside the repository adds a model, a loss, a control and a metric; a broken one stops nothing."""

import json
from pathlib import Path

import pytest
from outside import METRIC, MODEL

OWN = '''
from typing import Literal

from unlearnkit import hookimpl
from unlearnkit.recipe.sections import LossSection, PsiSection


class Zero(LossSection):
    """Draw embeddings to zero."""

    kind: Literal["acme-zero"]
    """Squared norm of the embeddings."""

    def build(self, setting):
        from unlearnkit.contracts import Loss

        class ToZero(Loss):
            fixed, mode = True, "zero"

            def target(self, view, generator):
                return ()

            def distance(self, student, view, target):
                return student.embed(view).square().mean()

        return ToZero()


class Twenty(PsiSection):
    """Twenty times the squared gradient norm."""

    kind: Literal["acme-twenty"]
    """Twenty times the squared gradient norm."""

    def build(self):
        return lambda loss, epsilon, norm, objective: 20 * norm


@hookimpl
def register_models():
    return [Blur]


@hookimpl
def register_losses():
    return [Zero]


@hookimpl
def register_controls():
    return [Twenty]


@hookimpl
def register_metrics():
    return [Error]


@hookimpl
def observe_run(run):
    def observe(event):
        if event["event"] == "evaluated":
            raise RuntimeError("the observer fell over")

    return observe
'''

GOOD = MODEL + METRIC + OWN

RECIPE = """\
name: third-party
model: {kind: acme-blur, channels: 6}
data:
  source: {kind: image-folder, root: pictures}
  forget: {classes: [red]}
  retain: {classes: [green, blue]}
  per_class: {train: 8, validation: 4}
forget: {kind: acme-zero}
control: {boundary: {kind: acme-twenty}}
epsilons: {fractions: [0.5]}
training: {batch_size: 4, steps: 20, device: cpu, optimizer: {kind: adamw, lr: 1e-2}}
evaluate: {metrics: [{kind: acme-error}], images: 2}
"""


def package(root: Path, name: str, source: str) -> None:
    """Write an installed package with an entry point."""
    module = name.replace("-", "_")
    (root / f"{module}.py").write_text(source)
    info = root / f"{module}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[unlearnkit]\n{module} = {module}\n")


@pytest.fixture
def site(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("site")
    package(root, "acme-plugin", GOOD)
    package(root, "broken-plugin", "import a_package_that_nobody_has\n")
    package(root, "exiting-plugin", "raise SystemExit(3)\n")
    return root


def test_a_recipe_uses_a_plugins_model_loss_control_and_metric(tiny, site, unlearnkit):
    env = {"PYTHONPATH": str(site)}
    (tiny.parent / "recipe.yaml").write_text(RECIPE)
    outcome = unlearnkit("run", "recipe.yaml", "--to", "run", env=env).succeeded()
    results = json.loads((tiny.parent / "run" / "results.json").read_text())
    assert results["mode"] | {"boundary": "acme-twenty", "forget": "acme-zero", "target": "zero"} == results["mode"]
    assert isinstance(results["original"]["metrics"]["forget"]["train"]["truth"]["acme-error"], float)
    assert outcome.err.count("an observer failed and was dropped: RuntimeError: the observer fell over") == 1
    manifest = json.loads((tiny.parent / "run" / "manifest.json").read_text())
    assert {"name": "acme_plugin", "package": "acme-plugin", "version": "1.2", "error": None} in manifest["plugins"]


def test_broken_packages_are_named_and_stop_nothing(tiny, site, unlearnkit):
    env = {"PYTHONPATH": str(site)}
    rows = json.loads(unlearnkit("plugins", "--json", env=env).succeeded().out)
    by_package = {row["package"]: row for row in rows if row["package"] != "unlearnkit"}
    assert by_package["acme-plugin"]["kinds"] == ["acme-blur", "acme-zero", "acme-twenty", "acme-error"]
    assert "a_package_that_nobody_has" in by_package["broken-plugin"]["error"]
    assert "SystemExit" in by_package["exiting-plugin"]["error"]
    unlearnkit("validate", tiny, env=env).succeeded()
    listed = unlearnkit("list", "models", env=env).succeeded().out
    assert "acme-blur" in listed


def test_a_recipe_that_needs_a_broken_package_says_so(tiny, site, unlearnkit):
    outcome = unlearnkit("validate", tiny, "--set", "model={kind: broken-model}", env={"PYTHONPATH": str(site)})
    assert outcome.code == 4
    assert "broken_plugin" in outcome.err
    assert "unlearnkit plugins" in outcome.err


def test_schema_show_and_loading_switch_know_the_plugin(site, unlearnkit):
    env = {"PYTHONPATH": str(site)}
    assert "acme-twenty" in unlearnkit("schema", env=env).succeeded().out
    shown = unlearnkit("show", "acme-blur", env=env).succeeded().out
    assert "channels: integer (default 4)\n    Channels of the bottleneck." in shown
    without = unlearnkit("plugins", "--json", env=env | {"UNLEARNKIT_LOAD_PLUGINS": ""}).succeeded().out
    assert "acme" not in without


def test_the_shipped_checks_accept_the_plugin(site, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(site)
    import acme_plugin

    from unlearnkit.builtin.tasks.sections import CenterCrop
    from unlearnkit.testing import check_loss, check_plugin

    assert check_plugin(acme_plugin, tmp_path) == ["acme-blur", "acme-zero", "acme-twenty", "acme-error"]
    check_loss(acme_plugin.Zero(kind="acme-zero"), acme_plugin.Blur(kind="acme-blur"), CenterCrop(kind="center-crop"))
