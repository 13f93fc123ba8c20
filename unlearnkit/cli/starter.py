"""Write what a person starts from: a recipe for a folder of images, or a plugin package."""

import os
import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import typer
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.disk import disk_errors, new_folder, write_text
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins, kind_of
from unlearnkit.recipe.problem import RecipeError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import ModelSection

SCHEMA = "recipe.schema.json"
BATCH = 16
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def models(plugins: Plugins) -> dict[str, str | None]:
    """Return the kinds of models that are installed, each with the shipped weights that fit its defaults, if any."""
    return {kind_of(cls): cast("type[ModelSection]", cls).usual for cls in plugins.classes(ModelSection)}


def write_recipe(
    model: str, weights: str | None, data: Path, forget: list[str], to: Path, plugins: Plugins
) -> list[str]:
    """Write a recipe and its schema; return what is still missing before it runs, in words.

    `data` is a folder with one folder of images a class; without `weights` the model is untrained. Raise `UserError`
    for a kind or class that is not there, where the file exists, and where the disk takes none; nothing is written
    before all is known, and the recipe last.
    """
    from unlearnkit.recipe.schema import text
    from unlearnkit.recipe.validate import load, recipe_class
    from unlearnkit.run.plan import describe

    if os.path.lexists(to):
        raise UserError(f"{to}: there is such a file already; give another with --to", Exit.USAGE)
    if model not in (known := list(models(plugins))):
        raise UserError(f"--model: there is no kind '{model}'{_meant(model, known)}", Exit.USAGE)
    if weights is not None and ":" not in weights and not Path(weights).exists():
        raise UserError(f"--weights: there is no file or folder {weights}", Exit.USAGE)
    name = re.sub("[^a-z0-9]+", "-", "-".join(["forget", *forget]).lower())[:64].strip("-")

    def made(base: Path, **look: object) -> tuple[str, Recipe]:
        """Return a recipe in the folder `base`, as text and checked."""
        written = _environment().get_template("recipe.yaml.j2").render(
            schema=SCHEMA, name=name, model=model, weights=_from(weights, base), root=_from(str(data), base),
            forget=forget, quoted=_quoted, **look,
        )  # fmt: skip
        with disk_errors(to), TemporaryDirectory() as place:
            path = Path(place) / to.name
            path.write_text(written, encoding="utf-8")
            try:
                recipe = load(path, plugins, folder=base).recipe
            except RecipeError as error:
                raise RecipeError([replace(one, file=str(to)) for one in error.problems], error.code) from None
        assert isinstance(recipe, Recipe)
        return written, recipe

    enlarge, batch = _look(data, forget, made(Path(), enlarge=False, batch=BATCH)[1])
    missing: list[str] = describe(made(Path(), enlarge=enlarge, batch=batch)[1], Path(), timed=False)["missing"]
    with disk_errors(to.parent):
        to.parent.mkdir(parents=True, exist_ok=True)
    written, _ = made(to.parent, enlarge=enlarge, batch=batch)
    schema = to.parent / SCHEMA
    ours = not schema.exists()
    try:
        write_text(schema, text(recipe_class(Recipe, plugins)))
        write_text(to, written)
    except UserError:
        for path in [to, schema] if ours else [to]:
            with disk_errors(path):
                path.unlink(missing_ok=True)
        raise
    return missing


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write a plugin package into `folder`/`name`; return its files. Raise `UserError` for a name that is none."""
    if not NAME.fullmatch(name):
        need = "use lower-case letters, digits and single hyphens, such as acme-unlearning"
        raise UserError(f"--plugin: '{name}' is no name for a package; {need}", Exit.USAGE)
    if os.path.lexists(folder / name):
        raise UserError(f"{folder / name}: exists already; give another name", Exit.USAGE)
    prefix = name.removeprefix("unlearnkit-").removesuffix("-unlearning")
    camel, module = "".join(part.capitalize() for part in prefix.split("-")), name.replace("-", "_")
    environment, written = _environment(), []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with new_folder(folder / name) as part:
        for template in environment.list_templates(filter_func=lambda template: template.startswith("plugin/")):
            path = template.removeprefix("plugin/").removesuffix(".j2").replace("MODULE", module)
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            text = environment.get_template(template).render(name=name, module=module, prefix=prefix, camel=camel)
            (part / path).write_text(text, encoding="utf-8")
            written.append(folder / name / path)
    return written


def _look(data: Path, forget: list[str], recipe: Recipe) -> tuple[bool, int]:
    """Return whether images must be enlarged for the model, and a batch that the smaller set can fill."""
    from unlearnkit.contracts import sides
    from unlearnkit.data import named
    from unlearnkit.run.plan import measured

    images = recipe.data.source.open(recipe.folder)
    forget = [named(label, images, "--forget") for label in forget]
    if strangers := sorted(set(forget) - images.labels):
        meant = _meant(strangers[0], sorted(images.labels))
        raise UserError(f"--forget: {data} has no class '{strangers[0]}'{meant}", Exit.USAGE)
    forgotten = sum(item.label in forget for item in images.items)
    if forgotten in (0, len(images.items)):
        raise UserError(f"--forget: {data} needs images of these classes, and of others to retain", Exit.USAGE)
    try:
        model = measured(recipe, recipe.folder)
    except UserError:  # `plan` says what is wrong with the weights
        model = recipe.model.build(None)
    side = max(sides(model.image_size))
    smallest = min(found for item in images.items if (found := images.side(item) or side))
    fewest = min(forgotten, len(images.items) - forgotten)
    return smallest < side, max(1, min(BATCH, fewest // 2))


def _environment() -> Environment:
    return Environment(  # noqa: S701 (YAML, TOML and Python, not HTML)
        loader=PackageLoader("unlearnkit"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip


def _from(path: str | None, folder: Path) -> str | None:
    """Return a path as it is seen from the recipe's folder; a reference such as `sample:NAME` stays."""
    if path is None or ":" in path or Path(path).is_absolute():
        return path
    return Path(os.path.relpath(path, folder.resolve())).as_posix()


def _quoted(value: object) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n...\n").strip()


def _meant(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(known[:20])}"


def ask(what: str, hint: str, usual: str | None = None) -> str:
    """Ask for one answer; raise `UserError` where nobody is there to give it."""
    try:
        return typer.prompt(f"{what} ({hint})", default=usual)
    except typer.Abort:
        message = f"no answer to '{what}'; give it as an option, see `unlearnkit init --help`"
        raise UserError(message, Exit.USAGE) from None
