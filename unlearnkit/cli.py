"""The command line: parse, call, print, exit code."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from unlearnkit import __version__
from unlearnkit.errors import Exit, Stopped, UserError
from unlearnkit.plugins import Plugins, discover

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Controllable machine unlearning of image-to-image generative models.",
)  # fmt: skip

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe, as a.b=1.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line; print what a user can mend as one message and exit with its code."""
    plugins = discover()
    plugins.hook.register_commands(app=app)
    try:
        app(obj=plugins)
    except UserError as error:
        print(f"error: {error}" if "\n" not in str(error) else error, file=sys.stderr)
        sys.exit(error.code)
    except Stopped as error:
        print(error, file=sys.stderr)
        sys.exit(128 + error.signal)


def _plugins(context: typer.Context) -> Plugins:
    plugins: Plugins = context.find_root().obj
    return plugins


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Take the options that belong to no command."""
    if version:
        print(f"unlearnkit {__version__}")
        raise typer.Exit


@app.command(epilog="Example: unlearnkit run recipes/quickstart.yaml --to runs/first")
def run(
    context: typer.Context,
    recipe: RecipeFile,
    to: Annotated[Path | None, typer.Option("--to", help="The run folder; runs/NAME when left out.")] = None,
    set_: Overrides = None,
) -> None:
    """Run a recipe: both phases, evaluation, report."""
    loaded = _load(recipe, _plugins(context), set_)
    from unlearnkit.progress import Screen
    from unlearnkit.seeds import start

    with Screen() as screen:
        folder = to or Path("runs") / loaded.recipe.name
        start(
            loaded.recipe, loaded.source.text, loaded.resolved, recipe.parent, folder, _plugins(context), screen.tell
        )  # fmt: skip


@app.command(epilog="Example: unlearnkit resume runs/first")
def resume(context: typer.Context, run: RunFolder, set_: Overrides = None) -> None:
    """Continue a stopped run from its last checkpoint."""
    loaded = _resolved(run, _plugins(context), set_)
    from unlearnkit.progress import Screen
    from unlearnkit.seeds import resume as continue_run

    with Screen() as screen:
        continue_run(loaded.recipe, loaded.resolved, run, tuple(set_ or ()), _plugins(context), screen.tell)


@app.command(epilog="Example: unlearnkit validate recipes/quickstart.yaml")
def validate(context: typer.Context, recipe: RecipeFile, set_: Overrides = None, json_: Json = False) -> None:
    """Check a recipe and print every problem with its place."""
    from unlearnkit.recipe.validate import load

    loaded = load(recipe, _plugins(context), tuple(set_ or ()))
    _print(loaded.resolved) if json_ else print(f"{recipe}: valid")


@app.command(epilog="Example: unlearnkit plan recipes/quickstart.yaml")
def plan(context: typer.Context, recipe: RecipeFile, set_: Overrides = None, json_: Json = False) -> None:
    """Show what a recipe would run, without running it."""
    loaded = _load(recipe, _plugins(context), set_)
    from unlearnkit.plan import describe, lines

    facts = describe(loaded.recipe, recipe.parent)
    _print(facts) if json_ else print("\n".join(lines(facts)))


@app.command("list", epilog="Example: unlearnkit list losses")
def list_(
    context: typer.Context,
    sort: Annotated[str | None, typer.Argument(metavar="[SORT]", help="Such as models, losses or metrics.")] = None,
    json_: Json = False,
) -> None:
    """List the kinds that a recipe can name."""
    from unlearnkit.catalogue import kinds

    rows = kinds(_plugins(context), sort)
    if json_:
        _print(rows)
        return
    for row in rows:
        print(f"{row['sort']:9} {row['kind']:22} {row['summary']}")


@app.command(epilog="Example: unlearnkit show noise-embedding")
def show(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="A kind, as `unlearnkit list` prints it.")],
    json_: Json = False,
) -> None:
    """Show the fields of a kind, with defaults and meaning."""
    from unlearnkit.catalogue import describe

    facts = describe(_plugins(context), kind)
    if json_:
        _print(facts)
        return
    for found in facts:
        print(f"{found['kind']} ({found['sort']}, from {found['package']})\n  {found['summary']}")
        for field in found["fields"]:
            default = "required" if field["required"] else f"default {json.dumps(field['default'])}"
            print(f"\n  {field['name']}: {field['type']} ({default})\n    {field['description']}")


@app.command(epilog="Example: unlearnkit schema recipe > schemas/recipe.schema.json")
def schema(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="recipe, pretrain (a pretraining recipe) or results.")] = "recipe",
) -> None:
    """Print a JSON Schema; that of recipes has the sections of the installed plugins."""
    from unlearnkit.recipe.recipe import PretrainRecipe, Recipe
    from unlearnkit.recipe.schema import text
    from unlearnkit.recipe.validate import recipe_class
    from unlearnkit.report.results import Results

    plugins = _plugins(context)
    shapes: dict[str, Callable[[], type[Any]]] = {
        "recipe": lambda: recipe_class(Recipe, plugins),
        "pretrain": lambda: recipe_class(PretrainRecipe, plugins),
        "results": lambda: Results,
    }
    if what not in shapes:
        raise UserError(f"'{what}' has no schema; there are: {', '.join(shapes)}", Exit.USAGE)
    print(text(shapes[what]()), end="")


@app.command(epilog="Example: unlearnkit init --model vit-mae --data pictures --forget faces")
def init(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="The kind of your model.")] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="Its weights: a file, folder or reference.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="A folder with one folder of images a class.")] = None,
    forget: Annotated[list[str] | None, typer.Option("--forget", help="A class to forget; may be repeated.")] = None,
    to: Annotated[Path, typer.Option("--to", help="The recipe, or the folder for the package.")] = Path("recipe.yaml"),
    plugin: Annotated[str | None, typer.Option("--plugin", help="Write a plugin package of this name instead.")] = None,
) -> None:
    """Write a recipe that validates, asking for what is not given; or a plugin package."""
    from unlearnkit import starter

    if plugin is not None:
        for path in starter.write_plugin(plugin, Path() if to == Path("recipe.yaml") else to):
            print(path)
        return
    plugins = _plugins(context)
    asked = None in (model, data, forget)
    model = model or _ask("Kind of model", " ".join(starter.model_kinds(plugins)), "vit-mae")
    usual = starter.usual_weights(model)
    if weights is None:
        weights = (_ask("Weights", "a file, folder or reference; - for none", usual or "-") if asked else usual) or "-"
    data = data or Path(_ask("Folder of images", "one folder a class"))
    forget = forget or [word.strip() for word in _ask("Classes to forget", "separated by commas").split(",")]
    missing = starter.write_recipe(
        starter.Start(model, None if weights == "-" else weights, data, forget), to, plugins
    )  # fmt: skip
    print(f"wrote {to}" + "".join(f"\n  missing: {text}" for text in missing))
    print(f"next: unlearnkit plan {to}; unlearnkit run {to}")


def _ask(what: str, hint: str, usual: str | None = None) -> str:
    """Ask for one answer; raise `UserError` where nobody is there to give it."""
    try:
        answer: str = typer.prompt(f"{what} ({hint})", default=usual)
    except typer.Abort:
        raise UserError(
            f"no answer to '{what}'; give it as an option, see `unlearnkit init --help`", Exit.USAGE
        ) from None
    return answer


@app.command(epilog="Example: unlearnkit plugins --json")
def plugins(context: typer.Context, json_: Json = False) -> None:
    """List plugins, what each brought, and why one failed to load."""
    from unlearnkit.catalogue import plugin_rows

    rows = plugin_rows(_plugins(context))
    if json_:
        _print(rows)
        return
    for row in rows:
        state = f"FAILED: {row['error']}" if row["error"] else ", ".join(row["kinds"]) or "no sections"
        print(f"{row['package']} {row['version']}: {row['name']}: {state}")


@app.command(epilog="Example: unlearnkit report runs/first")
def report(run: RunFolder) -> None:
    """Write the report of a finished run again; of a run with several seeds, all of theirs and their comparison."""
    from unlearnkit.comparison import places
    from unlearnkit.report import write
    from unlearnkit.report.comparison import write as compare

    finished = [place for place in places(run) if (place / "results.json").is_file()]
    if not finished:
        raise UserError(f"{run}: there is no results.json; finish the run with `unlearnkit resume {run}`", Exit.FOLDER)
    written = [path for one in finished for path in write(one)]
    for path in written + (compare(finished, run) if finished != [run] else []):
        print(path)


@app.command(epilog="Example: unlearnkit compare runs/first runs/second --to runs/compared")
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders; one with seeds stands for all of them.")
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")] = Path("runs/comparison"),
    x: Annotated[str, typer.Option("--x", help="f1, f2, or set/split/against/metric.")] = "f1",
    y: Annotated[str, typer.Option("--y", help="As --x, such as retain/validation/truth/psnr.")] = "f2",
) -> None:
    """Put the solutions of several runs, seeds and methods on the same two axes, with tables as CSV and LaTeX."""
    from unlearnkit.report.comparison import write

    for path in write(runs, to, x, y):
        print(path)


@app.command(epilog="Example: unlearnkit export runs/first --epsilon epsilon-1 --to exported")
def export(
    context: typer.Context,
    run: RunFolder,
    epsilon: Annotated[
        str, typer.Option("--epsilon", help="An id such as epsilon-1, highest, lowest, or a value of ε.")
    ],
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")],
) -> None:
    """Write one solution as a model, with a card that states the evidence."""
    loaded = _resolved(run, _plugins(context), None)
    if loaded.recipe.seeds is not None:
        first = run / f"seed-{loaded.recipe.seeds[0]}"
        raise UserError(f"{run} has a run for each seed; give one of them, such as {first}", Exit.FOLDER)
    from unlearnkit.export import export as write

    print(write(run, loaded.recipe, epsilon, to))


@app.command(epilog="Example: unlearnkit pretrain recipes/pretrain/mae-64.yaml --to weights/mae-64")
def pretrain(
    context: typer.Context,
    recipe: RecipeFile,
    to: Annotated[Path, typer.Option("--to", help="The folder for weights and figures.")],
    set_: Overrides = None,
) -> None:
    """Train a model with its own loss."""
    from unlearnkit.recipe.recipe import PretrainRecipe
    from unlearnkit.recipe.validate import load

    loaded = load(recipe, _plugins(context), tuple(set_ or ()))
    if not isinstance(loaded.recipe, PretrainRecipe):
        raise UserError(f"{recipe}: this recipe has no `pretrain:` section; use `unlearnkit run`", Exit.USAGE)
    from unlearnkit.pretrain import train

    def tell(step: int, figures: dict[str, float]) -> None:
        print(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)

    train(loaded.recipe, loaded.resolved, recipe.parent, to, tell)
    print(to)


def _load(recipe: Path, plugins: Plugins, overrides: list[str] | None) -> Any:
    from unlearnkit.recipe.recipe import PretrainRecipe
    from unlearnkit.recipe.validate import load

    loaded = load(recipe, plugins, tuple(overrides or ()))
    if isinstance(loaded.recipe, PretrainRecipe):
        raise UserError(f"{recipe}: this is a pretraining recipe; use `unlearnkit pretrain`", Exit.USAGE)
    return loaded


def _resolved(run: Path, plugins: Plugins, overrides: list[str] | None) -> Any:
    """Load the recipe that a run folder was made with."""
    if not (run / "recipe.resolved.json").is_file():
        raise UserError(f"{run}: this is no run folder; give one that `unlearnkit run` wrote", Exit.FOLDER)
    return _load(run / "recipe.resolved.json", plugins, overrides)
