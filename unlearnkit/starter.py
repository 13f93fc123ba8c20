"""Write what a person starts from: a recipe for a folder of images, or a plugin package."""

import os
import re
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import cast

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins, kind_of
from unlearnkit.recipe.sections import ModelSection

SCHEMA = "recipe.schema.json"
BATCH = 16
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Start:
    """The answers that a first recipe needs."""

    model: str
    """A model's kind."""
    weights: str | None
    """Its trained weights; None leaves it untrained."""
    data: Path
    """A folder with one folder of images a class."""
    forget: list[str]
    """Classes to forget; the others are retained."""


def model_kinds(plugins: Plugins) -> list[str]:
    """Return the kinds of models that are installed."""
    return [kind_of(cls) for cls in plugins.classes(ModelSection)]


def usual_weights(model: str) -> str | None:
    """Return the shipped weights that fit a kind's defaults, where there are some."""
    return "sample:mae-64" if model == "vit-mae" else None


def write_recipe(start: Start, to: Path, plugins: Plugins) -> list[str]:
    """Write a recipe and its schema; return what is still missing before it runs, in words.

    Raise `UserError` for a kind or class that is not there, and where the file exists.
    """
    from unlearnkit.plan import describe
    from unlearnkit.recipe.recipe import Recipe
    from unlearnkit.recipe.schema import text
    from unlearnkit.recipe.validate import load, recipe_class

    if to.exists():
        raise UserError(f"{to}: there is such a file already; give another with --to", Exit.USAGE)
    if start.model not in (known := model_kinds(plugins)):
        raise UserError(f"--model: there is no kind '{start.model}'{_meant(start.model, known)}", Exit.USAGE)
    if start.weights is not None and ":" not in start.weights and not Path(start.weights).exists():
        raise UserError(f"--weights: there is no file or folder {start.weights}", Exit.USAGE)
    enlarge, batch = _look(start, plugins)
    name = re.sub("[^a-z0-9]+", "-", "-".join(["forget", *start.forget]).lower())[:64].strip("-")
    made = _environment().get_template("recipe.yaml.j2").render(
        schema=SCHEMA, name=name, start=start, weights=_from(start.weights, to), root=_from(str(start.data), to),
        enlarge=enlarge, batch=batch, quoted=_quoted,
    )  # fmt: skip
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(made, encoding="utf-8")
    (to.parent / SCHEMA).write_text(text(recipe_class(Recipe, plugins)), encoding="utf-8")
    recipe = load(to, plugins).recipe
    assert isinstance(recipe, Recipe)
    missing: list[str] = describe(recipe, to.parent)["missing"]
    return missing


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write a plugin package into `folder`/`name`; return its files. Raise `UserError` for a name that is none."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"--plugin: '{name}' is no name for a package; use lower-case letters, digits and single hyphens, "
            "such as acme-unlearning",
            Exit.USAGE,
        )
    if (folder / name).exists():
        raise UserError(f"{folder / name}: exists already; give another name", Exit.USAGE)
    prefix = name.removeprefix("unlearnkit-").removesuffix("-unlearning")
    words = {
        "name": name,
        "module": name.replace("-", "_"),
        "prefix": prefix,
        "camel": "".join(part.capitalize() for part in prefix.split("-")),
    }
    environment, written = _environment(), []
    root = resources.files("unlearnkit") / "templates" / "plugin"
    for template in sorted(Path(str(root)).rglob("*.j2")):
        inside = template.relative_to(Path(str(root)))
        path = folder / name / str(inside).removesuffix(".j2").replace("MODULE", words["module"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template(f"plugin/{inside.as_posix()}").render(words), encoding="utf-8")
        written.append(path)
    return written


def _look(start: Start, plugins: Plugins) -> tuple[bool, int]:
    """Return whether images must be enlarged for the model, and a batch that the smaller set can fill."""
    from unlearnkit.builtin.images import Folder

    images = Folder(start.data)
    if strangers := sorted(set(start.forget) - images.labels):
        meant = _meant(strangers[0], sorted(images.labels))
        raise UserError(f"--forget: {start.data} has no class '{strangers[0]}'{meant}", Exit.USAGE)
    forget = [item for item in images.items if item.label in start.forget]
    if not forget or len(forget) == len(images.items):
        raise UserError(f"--forget: {start.data} needs images of these classes, and of others to retain", Exit.USAGE)
    section = next(cls for cls in plugins.classes(ModelSection) if kind_of(cls) == start.model)
    side = cast("ModelSection", section.model_validate({"kind": start.model})).build(None).image_size
    smallest = side
    for item in images.items:
        with images.open_image(item) as image:  # reads the header alone
            smallest = min(smallest, *image.size)
    fewest = min(len(forget), len(images.items) - len(forget))
    return smallest < side, max(1, min(BATCH, fewest // 2))


def _environment() -> Environment:
    return Environment(  # noqa: S701 (YAML, TOML and Python, not HTML)
        loader=PackageLoader("unlearnkit"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip


def _from(path: str | None, recipe: Path) -> str | None:
    """Return a path as it is seen from the recipe's folder; a reference such as `sample:NAME` stays."""
    if path is None or ":" in path:
        return path
    return path if Path(path).is_absolute() else Path(os.path.relpath(path, recipe.parent)).as_posix()


def _quoted(value: object) -> str:
    """Return a value as YAML on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("\n...\n").strip()
    )


def _meant(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(known[:20])}"
