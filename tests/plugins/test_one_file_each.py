"""A method, model, metric, audit, task, control function and target: one new file and one line of registration each.

No file knows of another, and no other file of unlearnkit of any.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from outside import METRIC, MODEL
from PIL import Image
from safetensors.torch import load_file
from tiny_task import ran

from unlearnkit.control import LAM_MAX
from unlearnkit.plugins import discover
from unlearnkit.testing import (
    check_audit,
    check_metric,
    check_model,
    check_plugin,
    check_psi,
    check_section,
    check_task,
)

PACKAGE = "acme_six"
FILES = {
    "model": MODEL,
    "task": '''
from typing import Literal

from unlearnkit.recipe.sections import TaskSection


class Corner(TaskSection):
    """The upper left quarter is hidden."""

    kind: Literal["six-corner"]
    """The upper left quarter is hidden."""

    def build(self):
        import torch

        from unlearnkit.contracts import Task, hide

        class Quarter(Task):
            fixed = True

            def degrade(self, images, generator):
                height, width = images.shape[2:]
                mask = torch.zeros(len(images), 1, height, width, dtype=torch.bool)
                mask[:, :, : height // 2, : width // 2] = True
                return hide(images, mask)

        return Quarter()
''',
    "control": '''
from typing import Literal

from unlearnkit.recipe.sections import PsiSection


class Switch(PsiSection):
    """A decrease beyond all measure above ε, and as much of an increase below it."""

    kind: Literal["six-switch"]
    """All or nothing."""

    def build(self):
        return lambda loss, epsilon, squared_norm, objective_norm: 1e30 * (loss - epsilon).sign()
''',
    "method": '''
from typing import ClassVar, Literal

from unlearnkit.recipe.sections import MethodSection


class Weighed(MethodSection):
    """Minimise f2 + w f1."""

    part: ClassVar = "encoder"
    kind: Literal["six-weighed"]
    """A weighed sum."""
    weight: float | list[float] = 0.5
    """Weight w of the forget loss."""

    def build(self, setting, forget, retain):
        from unlearnkit.control import Constant, Stage

        return [Stage(forget, retain, Constant(1, self.weight))]
''',
    "metric": METRIC,
    "audit": '''
from typing import Literal

from unlearnkit.recipe.sections import AuditSection


class OnForget(AuditSection):
    """The model's own loss on forget images that it never saw."""

    kind: Literal["six-own-loss"]
    """Own loss on forget validation images."""

    def build(self, base, device):
        import torch

        from unlearnkit.audits import Audit, Figure

        class OwnLoss(Audit):
            figures = {
                "loss": Figure("own loss", "Own loss, mean over chunks.", "higher"),
                "classes": Figure("classes", "Classes of the source of the forget images.", None),
            }

            def samples(self, images):
                return f"{len(images['forget']['validation'])} forget validation images."

            def examine(self, case):
                with torch.no_grad():
                    losses = [case.model.own_loss(view.truth, view) for view in case.views("forget", "validation")]
                return {"loss": float(torch.stack(losses).mean()), "classes": len(case.sources["forget"].labels)}

        return OwnLoss()
''',
    "target": '''
from typing import Literal

from unlearnkit.recipe.sections import TargetSection


class Kept(TargetSection):
    """The most complete solution whose retain loss f2 is at most a bound."""

    kind: Literal["six-kept"]
    """A bound on f2."""
    at_most: float = 1.0e-3
    """The largest f2."""

    def build(self, base, device, metrics):
        from unlearnkit.contracts import Aim, Target

        class Most(Target):
            loosest = False
            label = f"f2 at most {self.at_most}"

            def aim(self, model, original, retrained, most=self.at_most):
                return Aim(model.f2, most, model.f2 - most, 0.002 * most)

        return Most()
''',
}
"""The new files, by what each brings; a file imports torch where it builds alone."""
LINES = {
    "model": "register_models = hookimpl(lambda: [model.Blur])",
    "task": "register_tasks = hookimpl(lambda: [task.Corner])",
    "control": "register_controls = hookimpl(lambda: [control.Switch])",
    "method": "register_methods = hookimpl(lambda: [method.Weighed])",
    "metric": "register_metrics = hookimpl(lambda: [metric.Error])",
    "audit": "register_audits = hookimpl(lambda: [audit.OnForget])",
    "target": "register_targets = hookimpl(lambda: [target.Kept])",
}
"""The line of registration of each."""
KINDS = {
    "model": "acme-blur", "task": "six-corner", "control": "six-switch", "method": "six-weighed",
    "metric": "acme-error", "audit": "six-own-loss", "target": "six-kept",
}  # fmt: skip
RECIPE = """\
name: six
model: {kind: acme-blur, channels: 6}
data:
  source: {kind: image-folder, root: pictures}
  forget: {classes: [red]}
  retain: {classes: [green, blue]}
  per_class: {train: 8, validation: 4}
task: {kind: six-corner}
control: {epsilon: {kind: six-switch}, multiplier: {kind: closed-form}}
epsilons: {fractions: [0.5], targets: [{kind: six-kept}]}
sweep: {kind: independent}
compare: [{kind: six-weighed, weight: [0.5, 2.0]}]
training: {batch_size: 4, steps: 20, device: cpu, optimizer: {kind: adamw, lr: 1e-2}}
evaluate: {metrics: [{kind: acme-error}], audits: [{kind: six-own-loss}], images: 2}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes and imports a package of some of the files."""

    def made(*names: str) -> ModuleType:
        folder = tmp_path / PACKAGE
        folder.mkdir()
        for name in names:
            (folder / f"{name}.py").write_text(FILES[name])
        top = [f"from {PACKAGE} import {', '.join(names)}", "from unlearnkit import hookimpl"]
        (folder / "__init__.py").write_text("\n".join([*top, *(LINES[name] for name in names)]))
        monkeypatch.syspath_prepend(tmp_path)
        return import_module(PACKAGE)

    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.mark.parametrize("name", FILES)
def test_one_file_and_one_line_bring_one_kind_that_keeps_its_contract(name, package, tmp_path):
    assert check_plugin(package(name), tmp_path) == [KINDS[name]]


def test_each_of_the_six_keeps_its_contract_beside_the_others(package, tmp_path):
    six = package(*FILES)
    model, task = six.model.Blur(kind="acme-blur", channels=6), six.task.Corner(kind="six-corner")
    check_model(model, task.build())
    check_task(task)
    check_psi(six.control.Switch(kind="six-switch"))
    check_section(six.method.Weighed(kind="six-weighed", weight=[0.5, 2.0]))
    check_metric(six.metric.Error(kind="acme-error"), tmp_path)
    check_audit(six.audit.OnForget(kind="six-own-loss"), model, task.build())


def test_a_recipe_uses_all_six_and_each_takes_effect(package, tiny):
    recipe = tiny.parent / "six.yaml"
    recipe.write_text(RECIPE)
    run = ran(recipe, tiny.parent / "run", plugins=discover(extra=[package(*FILES)], installed=False))
    results, report = json.loads((run / "results.json").read_text()), (run / "report.md").read_text()
    rows = {row["id"]: row for row in results["solutions"]}

    weights = {name: load_file(run / "solutions" / name / "tensors.safetensors")["theta"] for name in rows}
    assert {len(theta) for theta in weights.values()} == {6 * 3 * 16 + 6}, "the model's encoder is what is trained"
    assert results["images"]["size"] == 16

    shown = pixels(run / results["images"]["forget"]["input"])[:, :16]
    hidden = (shown == 128).all(2)
    assert hidden[:8, :8].all(), "the task hides the corner"
    assert not hidden[8:].all(1).any()

    assert results["mode"]["epsilon"] == "six-switch"
    lam = torch.tensor(rows["epsilon-at-0.5"]["history"]["lam"])
    assert ((lam == 0) | (lam == LAM_MAX)).all(), "the control function asks for all or nothing"
    assert (lam == LAM_MAX).any()

    swept = [row for row in results["solutions"] if row["method"] == "six-weighed"]
    assert [row["label"] for row in swept] == ["six-weighed weight = 0.5", "six-weighed weight = 2.0"]
    assert [set(row["history"]["lam"]) for row in swept] == [{0.5}, {2.0}], "the method's weight is what λ is"
    assert swept[0]["f1"] != swept[1]["f1"]

    solved = {name: row for name, row in rows.items() if "target" not in row}  # the target has the original model here
    cells = results["original"]["metrics"]["forget"]["validation"]
    assert cells["original"]["acme-error"] == 0.0
    assert 0 < cells["truth"]["acme-error"] < 1
    assert all(row["metrics"]["forget"]["validation"]["original"]["acme-error"] > 0 for row in solved.values())

    (audit,) = results["audits"]
    assert audit["samples"] == "4 forget validation images."
    assert audit["original"]["classes"] == 3
    assert audit["solutions"].keys() == rows.keys()
    losses = [found["loss"] for found in (audit["original"], *map(audit["solutions"].get, solved))]
    assert len(set(losses)) == len(losses), "each model has its own finding"

    kept = rows["target-six-kept"]
    assert kept["target"]["value"] == pytest.approx(kept["f2"], rel=1e-6)
    assert kept["target"]["met"] == (kept["f2"] <= 1e-3), "the target is looked for by what it measures"

    for words in ("Mean absolute error", "own loss", "six-weighed weight = 0.5", "six-switch"):
        assert words in report
    assert (run / "report.html").is_file()


def pixels(path: Path) -> torch.Tensor:
    """Return a picture as [H, W, 3]."""
    with Image.open(path) as image:
        return torch.tensor(np.asarray(image.convert("RGB")))
