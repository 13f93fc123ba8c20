"""A plugin's fault is told as its own, with exit code 4 where the command cannot go on, and stops nothing else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from test_third_party import package

from unlearnkit.plugins import discover

HEAD = """
import torch
from typing import Literal
from unlearnkit import hookimpl
from unlearnkit.recipe.sections import *

def fall(error):
    raise error
"""
SECTION = '''
class {name}({base}):
    """What a test needs."""

    kind: Literal["acme-{kind}"]
    """What a test needs."""

    def build(self, *arguments):
{build}

@hookimpl
def register_{hook}():
    return [{name}]
'''
LOSS = """
        from unlearnkit.contracts import Loss

        class Odd(Loss):
            fixed = True

            def target(self, view, generator):
                return {target}

            def distance(self, student, view, target):
                near = student.embed(view).square()
                return {distance}

        return Odd()
"""
TASK = """
        from unlearnkit.contracts import Degraded, Task, whole

        class Odd(Task):
            fixed = True

            def degrade(self, images, generator):
                mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
                return {made}

        return Odd()
"""
MODEL = """
        from torch import nn
        from unlearnkit.contracts import ModelAdapter

        class Odd(ModelAdapter):
            image_size = 16

            def __init__(self):
                self.module = nn.ModuleDict({{"down": nn.Conv2d(3, 4, 4, 4), "up": nn.ConvTranspose2d(4, 3, 4, 4)}})
                self.encoder = self.module["down"]

            def embed(self, view):
                near = self.encoder(view.images)
                return {embed}

            def decode(self, embedding, view):
                made = self.module["up"](embedding)
                return {decode}

            def own_loss(self, images, view):
                error = (self.decode(self.embed(view), view) - images).square()
                return {own_loss}

            def draw(self, count, generator):
                return {draw}

        return Odd()
"""
SOUND = {"embed": "near", "decode": "made", "own_loss": "error.mean()", "draw": "()"}


def section(hook: str, base: str, kind: str, build: str) -> str:
    return HEAD + SECTION.format(hook=hook, base=base, kind=kind, name=base.removesuffix("Section"), build=build)


def loss(target: str = "()", distance: str = "near.mean()") -> str:
    return section("losses", "LossSection", "loss", LOSS.format(target=target, distance=distance))


def task(made: str) -> str:
    return section("tasks", "TaskSection", "task", TASK.format(made=made))


def model(**parts: str) -> str:
    return section("models", "ModelSection", "model", MODEL.format(**SOUND | parts))


@pytest.fixture
def installed(tmp_path_factory, monkeypatch) -> Callable[[str], str]:
    """Return a function that installs a package of one module, of a name that no other test has, and returns that."""
    root = tmp_path_factory.mktemp("site")

    def install(source: str) -> str:
        name = f"acme_{os.getpid()}_{root.name}".replace("-", "_")
        package(root, name, source)
        monkeypatch.syspath_prepend(root)
        return name

    return install


def fault(outcome, name: str, *words: str) -> None:
    assert outcome.code == 4, outcome.err
    assert f"the plugin '{name}' of package {name}, 1.2, failed: " in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("\n") <= 20
    for word in words:
        assert word in outcome.err


def misfit(outcome, name: str, *words: str) -> None:
    assert outcome.code == 4, outcome.err
    assert outcome.err.count("error: ") == 1
    for word in (name, *words):
        assert word in outcome.err


# What is raised while plugins load


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise KeyboardInterrupt", "import: KeyboardInterrupt"),
        ("raise SystemExit(0)", "import: SystemExit: 0"),
        ("class Odd(BaseException):\n    def __str__(self): raise Odd\nraise Odd", "import: Odd: its text cannot"),
        ("def x(:", "import: SyntaxError"),
        (HEAD + "@hookimpl\ndef register_losses():\n    raise GeneratorExit", "register_losses: GeneratorExit"),
        (HEAD + "@hookimpl\ndef register_losses():\n    yield 3", "register_losses: TypeError: it returned 3"),
        (HEAD + "@hookimpl\ndef register_losses():\n    while True: yield LossSection", "lacks the method"),
        (HEAD + "@hookimpl\ndef register_losses():\n    return None", "register_losses: TypeError"),
        (HEAD + "@hookimpl\ndef register_losses(missing):\n    return []", "its hooks: PluginValidationError"),
        (HEAD + "@hookimpl\ndef register_nothing():\n    return []", "its hooks: PluginValidationError"),
        (loss().replace('"acme-loss"', '"../../acme"'), "the kind '../../acme'"),
        (loss().replace('"acme-loss"', '"a\\nb"'), "the kind 'a"),
        (loss().replace('"acme-loss"', '"a", "b"'), 'must declare `kind: Literal["its-name"]`'),
        (loss().replace("    def build", '    odd: "Nothing"\n\n    def build'), "has no schema"),
        (loss().replace('    """What a test needs."""\n\n    kind', "    __doc__ = 5\n\n    kind"), "docstring|doc"),
        (
            loss().replace(
                "    def build",
                "    model_config = {'arbitrary_types_allowed': True}\n    odd: type(hookimpl)\n\n    def build",
            ),
            "has no schema",
        ),
    ],
)  # fmt: skip
def test_whatever_loading_raises_is_kept_and_every_command_goes_on(tiny, installed, unlearnkit, source, words):
    name = installed(source)
    row = next(row for row in json.loads(unlearnkit("plugins", "--json").succeeded().out) if row["package"] == name)
    assert any(word in row["error"] for word in words.split("|")), row["error"]
    unlearnkit("validate", tiny).succeeded()
    unlearnkit("schema").succeeded()
    unlearnkit("list").succeeded()


def test_a_generator_may_bring_sections(installed):
    name = installed(loss().replace("return [Loss]", "yield Loss"))
    (plugin,) = (plugin for plugin in discover().all if plugin.name == name)
    assert plugin.error is None
    assert [cls.__name__ for cls in plugin.sections] == ["Loss"]


def test_where_loading_failed_is_told(installed):
    name = installed("def deep():\n    raise ValueError('no')\n\ndeep()\n")
    (plugin,) = (plugin for plugin in discover().all if plugin.name == name)
    assert plugin.error.startswith("import: ValueError: no (")
    assert f"{name}.py:2, in deep)" in plugin.error


def test_a_package_whose_metadata_are_not_whole_stops_nothing(tiny, tmp_path_factory, monkeypatch, unlearnkit):
    root = tmp_path_factory.mktemp("site")
    for name, points in (("acme_bare", "[unlearnkit]\nacme = acme\n"), ("acme_odd", "[unlearnkit]\n=\nnothing\n")):
        (root / f"{name}-1.dist-info").mkdir()
        (root / f"{name}-1.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(root)
    unlearnkit("validate", tiny).succeeded()


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_real_interrupt_while_plugins_load_ends_the_command(tmp_path, swallowed):
    # In one long sleep a signal that came just before it would wait for its end.
    nap = "import time, pathlib; pathlib.Path('loading').touch(); [time.sleep(0.01) for _ in range(6000)]\n"
    source = f"try: {nap}except BaseException: pass\n" if swallowed else nap
    (tmp_path / "acme_slow.py").write_text(source)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    started = subprocess.Popen(
        [sys.executable, "-m", "unlearnkit", "list"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"UNLEARNKIT_PLUGINS": "acme_slow", "PYTHONPATH": path}, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which a shell's background job ignores
    )  # fmt: skip
    while not (tmp_path / "loading").exists():
        assert started.poll() is None
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=30)
    assert started.returncode == 130
    assert (out, err) == ("", "")


# Commands


COMMANDS = HEAD + "@hookimpl\ndef register_commands(app):\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    raise RuntimeError('no')", "RuntimeError: no"),
        ("    raise SystemExit(0)", "SystemExit: 0"),
        ("    raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("    yield", "a generator (it has a `yield` in it)"),
        ("    return 3", "expected it to return None, got a int"),
        ("    @app.command('greet')\n    def greet(what: 'Nowhere'): pass", "NameError"),
        ("    @app.command('run')\n    def run(): pass", "the command 'run' is there already"),
        ("    app.nothing()", "AttributeError"),
    ],
)
def test_commands_that_cannot_be_had_are_warned_of(tiny, installed, unlearnkit, body, words):
    name = installed(COMMANDS + body)
    outcome = unlearnkit("validate", tiny).succeeded()
    assert outcome.err.startswith(f"warning: the plugin '{name}' of package {name} failed in register_commands: ")
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert words in unlearnkit("plugins").succeeded().out


def test_another_plugins_commands_are_still_there(installed, unlearnkit, monkeypatch, tmp_path_factory):
    installed(COMMANDS + "    raise RuntimeError('no')")
    root = tmp_path_factory.mktemp("site")
    package(root, "acme_fine", COMMANDS + "    app.command('greet')(lambda: print('hello'))")
    monkeypatch.syspath_prepend(root)
    assert unlearnkit("greet").succeeded().out == "hello\n"
    assert unlearnkit("greet").succeeded().out == "hello\n"


def test_a_command_that_raises_is_named_and_may_exit(installed, unlearnkit):
    name = installed(
        COMMANDS + "    @app.command('fall')\n    def fall():\n        raise KeyError('x')\n"
        "    @app.command('stop')\n    def stop():\n        raise KeyboardInterrupt\n"
        "    @app.command('leave')\n    def leave():\n        raise SystemExit(9)\n"
    )
    fault(unlearnkit("fall"), name, "KeyError: 'x'", ".py:", "in fall", "raise KeyError('x')")
    fault(unlearnkit("stop"), name, "KeyboardInterrupt")
    assert unlearnkit("leave").code == 9


# Observers


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    raise RuntimeError('no')", "failed in observe_run: RuntimeError: no"),
        ("    raise SystemExit(0)", "failed in observe_run: SystemExit: 0"),
        ("    return 3", "failed in observe_run: TypeError: expected a function or None, got a int"),
        ("    yield", "got a generator (it has a `yield` in it)"),
        ("    def observe(event): raise SystemExit(0)\n    return observe", "was dropped: SystemExit"),
        ("    def observe(event): raise KeyboardInterrupt\n    return observe", "was dropped: KeyboardInterrupt"),
        ("    def observe(): pass\n    return observe", "was dropped: TypeError"),
    ],
)  # fmt: skip
def test_an_observer_stops_no_run(tiny, installed, unlearnkit, body, words):
    name = installed(HEAD + "@hookimpl\ndef observe_run(run):\n" + body)
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", "training.steps=2").succeeded()
    (line,) = (line for line in outcome.err.splitlines() if words in line)
    assert name in line
    events = [json.loads(line) for line in (tiny.parent / "run" / "events.jsonl").read_text().splitlines()]
    assert sum(words in event.get("message", "") for event in events) == 1


# Code of a plugin that raises


RAISED = [
    "[][0]", "{}['x']", "int('x')", "1 / 0", "torch.ones(2) @ torch.ones(3)", "len(3)",
    "fall(AssertionError())", "fall(SystemExit(0))", "fall(SystemExit(3))", "fall(KeyboardInterrupt())",
    "open('nowhere')",
]  # fmt: skip


@pytest.mark.parametrize("code", RAISED)
def test_a_loss_that_raises_in_a_run_is_its_plugins(tiny, installed, unlearnkit, code):
    name = installed(loss(distance=code))
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", "forget={kind: acme-loss}")
    fault(outcome, name, f"{name}.py:", "fall" if "fall" in code else "in distance")
    assert not (tiny.parent / "run").exists()


def test_what_a_run_meets_later_is_an_event_with_its_traceback(tiny, installed, unlearnkit):
    late = "near.mean() if count.append(0) or len(count) < 9 else {}['x']"
    name = installed("count = []\n" + loss(distance=late))
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", "forget={kind: acme-loss}")
    fault(outcome, name, "KeyError: 'x'", "The event `failed` of the run has the traceback")
    assert outcome.err.splitlines()[-1].startswith("error: ")
    event = json.loads((tiny.parent / "run" / "events.jsonl").read_text().splitlines()[-1])
    assert event["event"] == "failed"
    assert event["what"] == f"the plugin '{name}' of package {name}"
    assert event["traceback"].startswith("Traceback")
    assert "unlearnkit/solver" in event["traceback"]


PLACES = {
    "plan": (task("1 / 0"), ["plan", "tiny.yaml", "--set", "task={kind: acme-task}"]),
    "model": (model(embed="1 / 0"), ["run", "tiny.yaml", "--set", "model={kind: acme-model}"]),
    "plan of a model": (model(embed="1 / 0"), ["plan", "tiny.yaml", "--set", "model={kind: acme-model}"]),
    "build": (
        section("losses", "LossSection", "loss", "        1 / 0"),
        ["run", "tiny.yaml", "--set", "forget={kind: acme-loss}"],
    ),
    "psi": (
        section("controls", "PsiSection", "psi", "        return lambda *given: 1 / 0"),
        ["run", "tiny.yaml", "--set", "control.epsilon={kind: acme-psi}"],
    ),
    "method": (
        section("methods", "MethodSection", "method", "        1 / 0"),
        ["run", "tiny.yaml", "--set", "compare=[{kind: acme-method}]"],
    ),
    "validator": (
        loss().replace("    def build", "    def model_post_init(self, context):\n        1 / 0\n\n    def build"),
        ["validate", "tiny.yaml", "--set", "forget={kind: acme-loss}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_so_is_what_other_commands_meet(tiny, installed, unlearnkit, place):
    source, words = PLACES[place]
    name = installed(source)
    fault(unlearnkit(*words), name, "ZeroDivisionError")


def test_a_metric_that_raises_stays_in_its_cell_and_one_that_exits_is_its_plugins(tiny, installed, unlearnkit):
    name = installed(section("metrics", "MetricSection", "metric", "        raise SystemExit(0)"))
    fault(unlearnkit("run", tiny, "--set", "evaluate.metrics=[{kind: acme-metric}]"), name, "SystemExit")


def test_our_own_bug_keeps_its_traceback(tiny, monkeypatch, unlearnkit):
    monkeypatch.setattr("unlearnkit.solver.workbench.budget", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        unlearnkit("run", tiny)


# What returns something else than its contract says


@pytest.mark.parametrize(
    ("source", "override", "words"),
    [
        (loss(distance="near.flatten(1).mean(1)"), "forget", ["forget: ", "Odd.distance", "a tensor [2] of float32"]),
        (loss(distance="near.mean().reshape(1, 1)"), "forget", ["Odd.distance", "a tensor [1, 1]"]),
        (loss(distance="near.mean().item()"), "forget", ["Odd.distance", "returned a float"]),
        (loss(distance="near.mean().long()"), "forget", ["Odd.distance", "a tensor [] of int64"]),
        (loss(distance="None"), "retain", ["retain: ", "Odd.distance", "returned None"]),
        (loss(distance="near.mean().detach()"), "forget", ["Odd.distance", "it was detached"]),
        (loss(target="None"), "forget", ["Odd.target", "returned None"]),
        (loss(target="3.0"), "forget", ["Odd.target", "returned a float"]),
        (loss(target="torch.ones(7)"), "forget", ["Odd.target", "a tensor [7]", "one row an image"]),
        (loss(target="[None]"), "forget", ["Odd.target", "a list of None"]),
        (task("images"), "task", ["task: ", "Odd.degrade", "expected a Degraded"]),
        (task("None"), "task", ["Odd.degrade", "returned None"]),
        (task("whole(images[:1])"), "task", ["Odd.degrade", "`images` ["]),
        (task("Degraded(images, mask.float())"), "task", ["Odd.degrade", "`hidden` in booleans"]),
        (task("Degraded(images, mask[:, 0])"), "task", ["Odd.degrade", "`hidden` in booleans"]),
        (model(embed="None"), "model", ["Odd.embed"]),
        (model(embed="near.mean(0)"), "model", ["Odd.embed"]),
        (model(decode="made[..., :8]"), "model", ["Odd.decode", "expected floating-point images"]),
        (model(draw="None"), "model", ["Odd.draw", "returned None"]),
        (model(draw="torch.ones(7)"), "model", ["Odd.draw"]),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_before_anything_is_trained(tiny, installed, unlearnkit, source, override, words):
    name = installed(source)
    kind = {"forget": "loss", "retain": "loss"}.get(override, override)
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", f"{override}={{kind: acme-{kind}}}")
    misfit(outcome, name, *words)
    assert not (tiny.parent / "run").exists()


@pytest.mark.parametrize("made", ["3.0", "None", "norm.reshape(1)", "torch.ones((), dtype=torch.long)"])
@pytest.mark.parametrize("phase", ["boundary", "epsilon"])
def test_so_is_a_psi(tiny, installed, unlearnkit, made, phase):
    source = section("controls", "PsiSection", "psi", f"        return lambda loss, epsilon, norm, objective: {made}")
    name = installed(source)
    outcome = unlearnkit("run", tiny, "--to", "run", "--set", f"control.{phase}={{kind: acme-psi}}")
    misfit(outcome, name, f"control.{phase}: ", "expected a floating-point scalar")
    assert not (tiny.parent / "run").exists()


@pytest.mark.parametrize(
    ("hook", "base", "kind", "override"),
    [
        ("models", "ModelSection", "model", "model={kind: acme-model}"),
        ("tasks", "TaskSection", "task", "task={kind: acme-task}"),
        ("losses", "LossSection", "loss", "retain={kind: acme-loss}"),
        ("controls", "PsiSection", "psi", "control.epsilon={kind: acme-psi}"),
        ("controls", "MultiplierSection", "rule", "control.multiplier={kind: acme-rule}"),
        ("methods", "MethodSection", "method", "compare=[{kind: acme-method}]"),
    ],
)
def test_so_is_a_build_that_returns_nothing(tiny, installed, unlearnkit, hook, base, kind, override):
    name = installed(section(hook, base, kind, "        return None"))
    misfit(unlearnkit("run", tiny, "--set", override), name, f".build of the kind 'acme-{kind}' returned a NoneType")


def test_own_loss_is_held_to_it_before_a_method_begins(tiny, installed, unlearnkit):
    name = installed(model(own_loss="error.flatten(1).mean(1)"))
    words = ["--set", "model={kind: acme-model}", "--set", "compare=[{kind: max-loss}]"]
    misfit(unlearnkit("run", tiny, *words), name, "model: ", "Odd.own_loss", "a tensor [1]")
