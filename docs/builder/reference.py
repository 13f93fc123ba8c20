"""Reference pages from the code: sections, hooks, command line, exit codes, contracts."""

import inspect
import json
from collections.abc import Iterable
from typing import Any

import typer

from unlearnkit.cli import commands as cli
from unlearnkit.errors import Exit
from unlearnkit.plugins import Plugins, discover, hookspecs
from unlearnkit.plugins.catalogue import describe, fields, kinds
from unlearnkit.recipe import data, pretraining, recipe, training
from unlearnkit.recipe.sections import SORTS, Section, Sort

CONTRACTS = {
    "unlearnkit.recipe.sections": "What a plugin author subclasses",
    "unlearnkit.contracts": "What sections build",
    "unlearnkit.control": "Control functions, multipliers and the stages of methods",
    "unlearnkit.weights": "Files of weights",
    "unlearnkit.testing": "Checks for plugins",
}


def pages() -> dict[str, str]:
    """Return the text of each generated reference page by its path below docs/."""
    plugins = discover()
    made = {"reference/recipe.md": recipe_page()}
    made |= {f"reference/{sort.name}.md": sort_page(plugins, sort) for sort in SORTS}
    made |= {"reference/hooks.md": hooks_page(), "reference/cli.md": cli_page(), "reference/contracts.md": contracts()}
    made["reference/exit-codes.md"] = exit_page()
    return made


def recipe_page() -> str:
    """Return the page of the sections that are no plugin's: what stands around the kinds."""
    named: list[type[Section]] = [recipe.Recipe, pretraining.PretrainRecipe]
    for module in (data, training, recipe, pretraining):
        own = [cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == module.__name__]
        named += [cls for cls in own if issubclass(cls, Section) and cls not in named]
    parts = [
        "# The recipe",
        "The sections of a recipe, from the top. Fields whose type ends in `Section` take a `kind`; the other "
        "reference pages list them.",
    ]
    for cls in named:
        parts += [f"## {cls.__name__}", _sentence(cls.__doc__), field_table(fields(cls))]
    return _page(parts)


def sort_page(plugins: Plugins, sort: Sort) -> str:
    """Return the page of one sort of kinds, such as losses: what `unlearnkit show` prints of each."""
    parts = [f"# Kinds: {sort.name}", _sentence(sort.section.__doc__)]
    for row in kinds(plugins, sort.name):
        for found in describe(plugins, row["kind"]):
            if found["sort"] == sort.name:
                parts += [f"## {found['kind']}", found["summary"], f"From {found['package']}."]
                parts += [field_table(found["fields"]) if found["fields"] else "It has no fields."]
    return _page(parts)


def hooks_page() -> str:
    """Return the page of hooks, with their exact arguments."""
    parts = ["# Hooks", "A plugin implements those it needs, marked with `unlearnkit.hookimpl`; "
             "[Writing a plugin](../plugins.md) shows how."]  # fmt: skip
    for name, hook in vars(hookspecs).items():
        if name in hookspecs.__all__ and inspect.isfunction(hook):
            signature = inspect.signature(hook)
            arguments = ", ".join(signature.parameters)
            parts += [f"## {name}({arguments})", _sentence(hook.__doc__)]
            parts += [f"```python\ndef {name}{signature}: ...\n```"]
    return _page(parts)


def cli_page() -> str:
    """Return the page of commands: the help of each as it is printed."""
    group: Any = typer.main.get_command(cli.app)
    parts = ["# Command line", _block(help_text(group, "unlearnkit"))]
    for name, command in group.commands.items():
        parts += [f"## unlearnkit {name}", _block(help_text(command, f"unlearnkit {name}"))]
    return _page(parts)


def help_text(command: Any, name: str) -> str:
    """Return what `NAME --help` prints on 80 columns."""
    settings = cli.app.info.context_settings or {}
    context = command.make_context(name, [], resilient_parsing=True, **settings)
    context.terminal_width = 78
    return str(command.get_help(context))


def exit_page() -> str:
    """Return the page of exit codes."""
    rows = [f"| {code.value} | {code.meaning} |" for code in Exit]
    rows.append("| 128 + N | stopped by signal N after saving |")
    return _page(["# Exit codes", "\n".join(["| code | meaning |", "|---|---|", *rows])])


def contracts() -> str:
    """Return the page of the public modules that plugin authors meet."""
    parts = ["# Contracts", "What plugin packages may rely on. Shapes and units stand with each member."]
    for module, title in CONTRACTS.items():
        parts += [f"## {title}", f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n   :undoc-members:\n```"]
    return _page(parts)


def field_table(rows: Iterable[dict[str, Any]]) -> str:
    """Return a table of fields: name, type, default, meaning."""
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = "required" if row["required"] else f"`{json.dumps(row['default'], ensure_ascii=False)}`"
        cells = [f"`{row['name']}`", row["type"], default, row["description"]]
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _sentence(doc: str | None) -> str:
    return " ".join((doc or "").split())


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"
