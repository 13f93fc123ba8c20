"""What the documents say is what the code does."""

import inspect
import re
import shlex
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from unlearnkit.cli.commands import app
from unlearnkit.errors import Exit
from unlearnkit.plugins import discover, hookspecs, kind_of
from unlearnkit.recipe import load
from unlearnkit.recipe.sections import SORTS, MethodSection
from unlearnkit.testing import check_plugin

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PLUGINS = (ROOT / "docs" / "plugins.md").read_text()


def test_hooks_are_documented_with_their_arguments():
    hooks = {
        f"{name}({', '.join(inspect.signature(hook).parameters)})"
        for name, hook in vars(hookspecs).items()
        if name.startswith(("register_", "observe_"))
    }
    assert hooks == set(re.findall(r"^\| `((?:register|observe)_\w+\([^`]*\))`", PLUGINS, re.M))


def test_exit_codes_are_documented():
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", README, re.M)}
    assert documented == set(Exit)


def test_commands_are_documented():
    names = {command.name or command.callback.__name__.rstrip("_") for command in app.registered_commands}
    assert all(f"`unlearnkit {name}" in README or f"`{name}" in README for name in names)


@pytest.mark.parametrize("page", ["README.md", "docs/plugins.md"])
def test_fenced_recipes_are_valid(page, tmp_path, unlearnkit):
    text = (ROOT / page).read_text()
    for number, recipe in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.S)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(recipe)
        unlearnkit("validate", path).succeeded()


def commands():
    """Yield each command of the documents on a recipe of the project, as its words."""
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"```shell[^\n]*\n(.*?)```", page.read_text(), re.S):
            command = ""
            for line in block.replace("\\\n", " ").splitlines():
                command += f"{line}\n"
                with suppress(ValueError):  # a quotation that goes on
                    words, command = shlex.split(command, comments=True), ""
                    if words[:1] == ["unlearnkit"] and words[2:] and (ROOT / words[2]).is_file():
                        yield words


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_command_on_a_recipe_of_the_project_is_one_that_validates(words):
    given = [value for option, value in pairwise(words) if option == "--set"]
    load(ROOT / words[2], discover(), given)


def test_the_plugin_example_keeps_its_contract(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", PLUGINS, re.S)[1]
    (tmp_path / "acme_unlearning.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert check_plugin(import_module("acme_unlearning"), tmp_path) == ["acme-half-gap"]


def test_links_inside_the_project_resolve():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if re.match(r"(\.\./)?(gallery|reference)/", target):
                continue  # made when the site is built, where its links are tested
            assert target.startswith(("https://", "http://")) or (page.parent / target).exists(), f"{page}: {target}"


def test_every_method_stands_in_its_table():
    table = (ROOT / "docs/method.md").read_text().split("## Other methods")[1].split("\n## ")[0]
    named = {kind for row in re.findall(r"^\| (`.*?) \|", table, re.M) for kind in re.findall(r"`([\w-]+)`", row)}
    assert named == {kind_of(cls) for cls in discover(installed=False).classes(MethodSection)}


def test_every_builtin_has_a_summary_and_described_fields():
    plugins = discover(installed=False)
    assert not plugins.broken
    assert all(plugins.classes(sort.section) for sort in SORTS)
    for cls in plugins.sections:
        assert cls.__doc__
        assert kind_of(cls)
        assert all(info.description for info in cls.model_fields.values()), cls
