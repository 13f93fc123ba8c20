"""Each hook, with the smallest plugin that implements it: what it returns is there for recipes."""

import os
from types import SimpleNamespace
from typing import Literal

import pytest
import typer

from unlearnkit import hookimpl
from unlearnkit.plugins import discover
from unlearnkit.recipe import sections


def brought(hook, base, *methods):
    """Register one section through a hook, and return whether it is found among the sections of its sort."""

    def method(self, *arguments):
        raise NotImplementedError

    fields = {"__annotations__": {"kind": Literal["acme"]}, "__doc__": "One.", "__module__": __name__}
    cls = type(base)("Acme", (base,), fields | dict.fromkeys(methods, method))
    plugin = SimpleNamespace(__name__="acme", **{hook: hookimpl(lambda: [cls])})
    plugins = discover(extra=[plugin], installed=False)
    assert plugins.all[-1].error is None
    return cls in plugins.classes(base)


def test_hook_register_models():
    assert brought("register_models", sections.ModelSection, "build")


def test_hook_register_data():
    assert brought("register_data", sections.DataSection, "open")


def test_hook_register_tasks():
    assert brought("register_tasks", sections.TaskSection, "build")


def test_hook_register_losses():
    assert brought("register_losses", sections.LossSection, "build")


@pytest.mark.parametrize("base", [sections.PsiSection, sections.MultiplierSection])
def test_hook_register_controls(base):
    assert brought("register_controls", base, "build")


def test_hook_register_methods():
    assert brought("register_methods", sections.MethodSection, "build")


def test_hook_register_extractors():
    assert brought("register_extractors", sections.ExtractorSection, "build")


def test_hook_register_metrics():
    assert brought("register_metrics", sections.MetricSection, "build")


def test_hook_register_audits():
    assert brought("register_audits", sections.AuditSection, "build")


def test_hook_register_targets():
    assert brought("register_targets", sections.TargetSection, "build")


def test_hook_register_executors():
    assert brought("register_executors", sections.ExecutorSection, "open")


def test_hook_register_commands():
    @hookimpl
    def register_commands(app):
        app.command("greet")(lambda: print("hello"))

    app = typer.Typer()
    plugins = discover(extra=[SimpleNamespace(__name__="acme", register_commands=register_commands)], installed=False)
    plugins.commands(app, pytest.fail)
    assert [command.name for command in app.registered_commands] == ["greet"]


WATCHER = """
from pathlib import Path

from unlearnkit import hookimpl


@hookimpl
def observe_run(run):
    seen = Path(run["folder"]).parent / "seen.txt"

    def observe(event):
        with seen.open("a") as file:
            file.write(event["event"] + "\\n")

    return observe
"""


def test_hook_observe_run(tiny, unlearnkit):
    (tiny.parent / "watcher.py").write_text(WATCHER)
    env = {
        "UNLEARNKIT_PLUGINS": "watcher",
        "PYTHONPATH": f"{tiny.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    unlearnkit("run", tiny, "--to", "run", env=env).succeeded()
    seen = (tiny.parent / "seen.txt").read_text().split()
    recorded = [
        line.split('"event": "')[1].split('"')[0]
        for line in (tiny.parent / "run/events.jsonl").read_text().splitlines()
    ]
    assert seen == recorded
    assert {"start", "problem", "step", "check", "solution", "done"} <= set(seen)
