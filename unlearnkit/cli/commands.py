"""The command line: parse, call, print, exit code."""

import json
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from copy import copy
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Context, Option

from unlearnkit import __version__
from unlearnkit import recipe as recipes
from unlearnkit.cli.ends import ended
from unlearnkit.cli.hints import Commands
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins, catalogue, discover
from unlearnkit.plugins.faults import watched
from unlearnkit.seal import Sealed, refuse_sealed, refuse_unsealed

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None, cls=Commands,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="Controllable machine unlearning of image-to-image generative models.",
)  # fmt: skip

RecipeFile = Annotated[Path, Argument(metavar="RECIPE", help="The recipe, a YAML file.")]
RunFolder = Annotated[Path, Argument(metavar="RUN", help="A run folder.")]
Overrides = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe, as a.b=1.")
]
Executor = Annotated[
    str,
    Option(
        "--executor", envvar="UNLEARNKIT_EXECUTOR", metavar="NAME[:KEY=VALUE,...]",
        help="What does the tasks of the run, such as processes:workers=4.",
    ),
]  # fmt: skip
Json = Annotated[bool, Option("--json", help="Print JSON.")]
NewRun = Annotated[Path | None, Option("--to", help="The run folder; runs/NAME when left out.")]
NewFolder = Annotated[Path, Option("--to", help="The folder to write.")]
Trained = Annotated[Path, Option("--to", help="The folder for weights and figures.")]
SortName = Annotated[str | None, Argument(metavar="[SORT]", help="Such as models, losses or metrics.")]
Kind = Annotated[str, Argument(help="A kind, as `unlearnkit list` prints it.")]
Shape = Annotated[str, Argument(help="recipe, pretrain (a pretraining recipe) or results.")]
Epsilon = Annotated[
    str,
    Option("--epsilon", help="An id, a value of ε, a percentage of its range, or a target such as '{kind: unseen}'."),
]
Read = tuple["recipes.Loaded", "recipes.Recipe"]
Polish = Annotated[int, Option("--polish", min=0, help="Steps to take from where it is found, kept if they help.")]


def main() -> None:
    """Run the command line, with what plugins add to it, and exit with its code."""
    with watched():
        try:
            plugins = discover()
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        whole = copy(app)
        whole.registered_commands, whole.registered_groups = [*app.registered_commands], [*app.registered_groups]
        plugins.commands(whole, lambda line: print(f"warning: {line}", file=sys.stderr))
        code = ended(partial(whole, obj=plugins), plugins)
    sys.exit(code)


def _plugins(context: Context) -> Plugins:
    return context.find_root().obj


def _print(value: Any, as_json: bool, lines: Iterable[str]) -> None:
    """Print a value as JSON, or the lines that say it to a person."""
    print(json.dumps(value, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, Option("--version", help="Print the version and exit.")] = False) -> None:
    """Take the options that belong to no command."""
    if version:
        print(f"unlearnkit {__version__}")
        raise typer.Exit


@app.command(epilog="Example: unlearnkit run recipes/quickstart.yaml --to runs/first")
def run(
    context: Context, recipe: RecipeFile, to: NewRun = None, set_: Overrides = None, executor: Executor = recipes.SERIAL
) -> None:
    """Run a recipe: both phases, evaluation, report; under torchrun, in several processes."""
    if _follows(context):
        return
    crew = _crew(context, executor)
    loaded, its = _load(recipe, context, set_)
    from unlearnkit.cli.screen import Screen
    from unlearnkit.run.folder import refuse_begun

    refuse_begun(to := to or Path("runs") / its.name)
    from unlearnkit.run.several import start  # which takes seconds to import
    from unlearnkit.solver.ranks import leading

    with Screen() as screen, leading():
        start(its, loaded.source.text, loaded.resolved, recipe.parent, to, _plugins(context), screen.tell, crew)


@app.command(epilog="Example: unlearnkit quickstart --to runs/first")
def quickstart(context: Context, to: NewRun = None, set_: Overrides = None) -> None:
    """Run the recipe that comes with the package, on images and a model that do too."""
    with as_file(files("unlearnkit.samples") / "quickstart.yaml") as recipe:
        run(context, recipe, to, set_)


@app.command(epilog="Example: unlearnkit resume runs/first")
def resume(context: Context, run: RunFolder, set_: Overrides = None, executor: Executor = recipes.SERIAL) -> None:
    """Continue a stopped run or training from its last checkpoint."""
    if _follows(context):
        return
    crew = _crew(context, executor)
    from unlearnkit.cli.screen import Screen

    if (run / recipes.STATE).exists() or (run / "model.json").exists():
        if set_:
            raise UserError(f"{run}: a training goes on as it began; leave --set out, or pretrain anew", Exit.USAGE)
        from unlearnkit.run.pretrain import resume as continue_training

        continue_training(run, _plugins(context), _validated, Screen().tell)
        print(run)
        return
    loaded, its = _resolved(run, context, set_)
    from unlearnkit.run.several import resume as continue_run
    from unlearnkit.solver.ranks import leading

    with Screen() as screen, leading():
        continue_run(its, loaded.resolved, run, tuple(set_ or ()), _plugins(context), screen.tell, crew)


def _crew(context: Context, executor: str) -> "recipes.ExecutorSection | None":
    """Return what does the tasks of a run; raise `UserError` where processes of torchrun share each of them."""
    crew = recipes.executor(executor, _plugins(context))
    if crew is not None and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError("--executor: torchrun has several processes do each task; use one of the two", Exit.USAGE)
    return crew


def _follows(context: Context) -> bool:
    """Work for the first of the processes that torchrun started, if this is another one; tell whether it was."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0":
        return False
    from unlearnkit.run.follow import follow
    from unlearnkit.run.worker import share

    follow(_plugins(context), share)
    return True


@app.command(epilog="Example: unlearnkit validate recipes/quickstart.yaml")
def validate(context: Context, recipe: RecipeFile, set_: Overrides = None, json_: Json = False) -> None:
    """Check a recipe, and that what it names is there; print every problem with its place."""
    loaded = recipes.load(recipe, _plugins(context), set_ or ())
    from unlearnkit.run.named import look_at_all

    look_at_all(loaded.recipe, loaded.resolved, recipe.parent).refuse()
    _print(loaded.resolved, json_, [f"{recipe}: valid"])


@app.command(epilog="Example: unlearnkit plan recipes/quickstart.yaml")
def plan(
    context: Context, recipe: RecipeFile, set_: Overrides = None, json_: Json = False,
    all_images: Annotated[bool, Option("--all-images", help="Look at every image, not at a sample.")] = False,
    executor: Executor = recipes.SERIAL,
) -> None:  # fmt: skip
    """Show what a recipe would run, how long that takes, and what is missing or wrong, without running it."""
    _, its = _load(recipe, context, set_)
    from unlearnkit.run.plan import describe, lines

    facts = describe(its, recipe.parent, all_images, executor=recipes.executor(executor, _plugins(context)))
    _print(facts, json_, lines(facts))
    raise typer.Exit(facts["exit_code"])


@app.command("list", epilog="Example: unlearnkit list losses")
def list_(context: Context, sort: SortName = None, json_: Json = False) -> None:
    """List the kinds that a recipe can name."""
    rows = catalogue.kinds(_plugins(context), sort)
    _print(rows, json_, (f"{row['sort']:9} {row['kind']:22} {row['summary']}" for row in rows))


@app.command(epilog="Example: unlearnkit show noise-embedding")
def show(context: Context, kind: Kind, json_: Json = False) -> None:
    """Show the fields of a kind, with defaults and meaning."""
    facts = catalogue.describe(_plugins(context), kind)
    said = []
    for found in facts:
        said.append(f"{found['kind']} ({found['sort']}, from {found['package']})\n  {found['summary']}")
        for field in found["fields"]:
            default = "required" if field["required"] else f"default {json.dumps(field['default'])}"
            said.append(f"\n  {field['name']}: {field['type']} ({default})\n    {field['description']}")
    _print(facts, json_, said)


@app.command(epilog="Example: unlearnkit schema recipe > schemas/recipe.schema.json")
def schema(context: Context, what: Shape = "recipe") -> None:
    """Print a JSON Schema; that of recipes has the sections of the installed plugins."""
    from unlearnkit.report.shape import Results

    shapes: dict[str, type[Any]] = {"recipe": recipes.Recipe, "pretrain": recipes.PretrainRecipe, "results": Results}
    if what not in shapes:
        raise UserError(f"'{what}' has no schema; there are: {', '.join(shapes)}", Exit.USAGE)
    shape = shapes[what]
    print(recipes.text(shape if shape is Results else recipes.recipe_class(shape, _plugins(context))), end="")


@app.command(epilog="Example: unlearnkit init --model vit-mae --data pictures --forget faces")
def init(
    context: Context,
    model: Annotated[str | None, Option("--model", help="The kind of your model.")] = None,
    weights: Annotated[str | None, Option("--weights", help="Its weights: a file, folder or reference.")] = None,
    data: Annotated[Path | None, Option("--data", help="A folder with one folder of images a class.")] = None,
    forget: Annotated[list[str] | None, Option("--forget", help="A class to forget; may be repeated.")] = None,
    to: Annotated[Path, Option("--to", help="The recipe, or the folder for the package.")] = Path("recipe.yaml"),
    plugin: Annotated[str | None, Option("--plugin", help="Write a plugin package of this name instead.")] = None,
) -> None:
    """Write a recipe that validates, asking for what is not given; or a plugin package."""
    from unlearnkit.cli import starter

    if plugin is not None:
        for path in starter.write_plugin(plugin, Path() if to == Path("recipe.yaml") else to):
            print(path)
        return
    plugins = _plugins(context)
    known = starter.models(plugins)
    asked = None in (model, data, forget)
    model = model or starter.ask("Kind of model", " ".join(known), next(kind for kind, usual in known.items() if usual))
    usual = known.get(model)
    if weights is None:
        weights = (
            starter.ask("Weights", "a file, folder or reference; - for none", usual or "-") if asked else usual
        ) or "-"
    data = data or Path(starter.ask("Folder of images", "one folder a class"))
    forget = forget or [word.strip() for word in starter.ask("Classes to forget", "separated by commas").split(",")]
    missing = starter.write_recipe(model, None if weights == "-" else weights, data, forget, to, plugins)
    print(f"wrote {to}" + "".join(f"\n  missing: {text}" for text in missing))
    print(f"next: unlearnkit plan {to}; unlearnkit run {to}")


@app.command(epilog="Example: unlearnkit plugins --json")
def plugins(context: Context, json_: Json = False) -> None:
    """List plugins, what each brought, and why one failed to load."""
    rows = catalogue.plugin_rows(_plugins(context))
    states = [f"FAILED: {row['error']}" if row["error"] else ", ".join(row["kinds"]) or "no sections" for row in rows]
    named = (f"{row['package']} {row['version']}: {row['name']}" for row in rows)
    _print(rows, json_, map(": ".join, zip(named, states, strict=True)))


@app.command(epilog="Example: unlearnkit doctor --json")
def doctor(context: Context, json_: Json = False) -> None:
    """Print versions, devices, plugins and missing extras: what a bug report needs."""
    from unlearnkit.run.doctor import describe, lines

    facts = describe(_plugins(context))
    _print(facts, json_, lines(facts))
    raise typer.Exit(Exit.PLUGIN if any(row["error"] for row in facts["plugins"]) else Exit.DONE)


@app.command(epilog="Example: unlearnkit report runs/first")
def report(run: RunFolder) -> None:
    """Write the report of a finished run again; of several runs, all of theirs and their comparison."""
    from unlearnkit.report import write
    from unlearnkit.report.comparison import ours, places
    from unlearnkit.report.comparison import write as compare

    every = [Sealed.of(place) for place in places(run)]
    for one in every:
        written = write(one)
        one.write(written)
        print(*written, sep="\n")
    if every[0].folder != run:
        whole = Sealed.of(run)
        whole.write(written := compare(every, run), ours)
        print(*written, sep="\n")


@app.command(epilog="Example: unlearnkit compare runs/first runs/second --to runs/compared")
def compare(
    runs: Annotated[list[Path], Argument(metavar="RUN...", help="Run folders; one of several runs stands for all.")],
    to: NewFolder = Path("runs/comparison"),
    x: Annotated[str, Option("--x", help="f1, f2, epsilon, a key that is varied, or set/split/against/metric.")] = "f1",
    y: Annotated[str, Option("--y", help="As --x, such as retain/validation/truth/psnr.")] = "f2",
) -> None:
    """Put the solutions of several runs, seeds and methods on the same two axes, with tables as CSV and LaTeX."""
    from unlearnkit.disk import disk_errors, new_folder
    from unlearnkit.report.comparison import places, write

    refuse_sealed(to)
    every = [Sealed.of(place) for run in runs for place in places(run)]
    with disk_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    with nullcontext(to) if to.exists() else new_folder(to) as folder:
        written = write(every, folder, x, y)
    print(*(to / path.relative_to(folder) for path in written), sep="\n")


@app.command(epilog="Example: unlearnkit export runs/first --epsilon epsilon-at-0.5 --to exported")
def export(
    context: Context, run: RunFolder, epsilon: Epsilon, to: NewFolder, polish: Polish = 0,
    attest: Annotated[Path | None, Option("--attest", metavar="KEY", help="Sign it with this private key.")] = None,
) -> None:  # fmt: skip
    """Write one solution as a model, with a card that states the evidence; an ε between them is found first."""
    loaded, its = _resolved(run, context, alone=True)
    from unlearnkit.run import export as exports

    if polish or not exports.solved(run, epsilon):
        exports.ready(to, attest)
        targets = [*loaded.resolved["epsilons"]["targets"], exports.target(run, epsilon, polish)]
        added = [f"epsilons.targets={json.dumps(targets)}"]
        *known, last = _resolved(run, context, added)[1].epsilons.targets
        if last not in known:
            resume(context, run, added)
            _, its = _resolved(run, context)
        epsilon = exports.served(run, [*known, last].index(last))
    print(exports.export(run, its, epsilon, to, attest))


@app.command(epilog="Example: unlearnkit verify exported --key public.pem --data runs/first")
def verify(
    context: Context,
    folder: Annotated[Path, Argument(metavar="FOLDER", help="A folder that `unlearnkit export` wrote.")],
    key: Annotated[Path | None, Option("--key", metavar="PUBLIC", help="The public key of its signature.")] = None,
    data: Annotated[
        Path | None, Option("--data", help="A run folder, or a recipe: compute the figures again from its data.")
    ] = None,
) -> None:
    """Check an exported model: its files, its signature, and its figures where their data is given."""
    refuse_unsealed(folder)  # at once: what follows imports PyTorch
    from unlearnkit.run import verify as checks
    from unlearnkit.run.folder import base_of, begun

    given = None
    if data is not None and data.is_dir():
        given = checks.Data(_resolved(data, context, alone=True)[1], base_of(data, begun(data)), data)
    elif data is not None:
        given = checks.Data(_load(data, context, None)[1], data.parent)
    for line in checks.verify(folder, key, given):
        print(line)


@app.command(epilog="Example: unlearnkit certificate exported --to certificate.html")
def certificate(
    place: Annotated[Path, Argument(metavar="RUN|FOLDER", help="A finished run, or a model that was exported.")],
    epsilon: Annotated[
        str | None, Option("--epsilon", help="Of a run: an id or a value of ε; where its report starts if left out.")
    ] = None,
    to: Annotated[Path, Option("--to", help="The page to write.")] = Path("certificate.html"),
) -> None:
    """Write one page to print: what was asked, what was done, what was found; no images are needed for it."""
    from unlearnkit.run import certificate as pages

    print(pages.write(place, epsilon, to))


@app.command(epilog="Example: unlearnkit pretrain recipes/pretrain/mae-64.yaml --to weights/mae-64")
def pretrain(context: Context, recipe: RecipeFile, to: Trained, set_: Overrides = None) -> None:
    """Train a model with its own loss."""
    loaded = recipes.load(recipe, _plugins(context), set_ or ())
    if not isinstance(loaded.recipe, recipes.PretrainRecipe):
        raise UserError(f"{recipe}: this recipe has no `pretrain:` section; use `unlearnkit run`", Exit.USAGE)
    from unlearnkit.cli.screen import Screen
    from unlearnkit.run.pretrain import train

    train(loaded.recipe, loaded.resolved, recipe.parent, to, _validated, Screen().tell)
    print(to)


def _validated(step: int, figures: dict[str, float]) -> None:
    print(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)


def _load(recipe: Path, context: Context, set_: Overrides, folder: Path | None = None) -> Read:
    """Read a recipe; raise `UserError` for one that does not unlearn."""
    loaded = recipes.load(recipe, _plugins(context), set_ or (), folder)
    if not isinstance(loaded.recipe, recipes.Recipe):
        raise UserError(f"{recipe}: this is a pretraining recipe; use `unlearnkit pretrain`", Exit.USAGE)
    return loaded, loaded.recipe


def _resolved(run: Path, context: Context, set_: Overrides = None, *, alone: bool = False) -> Read:
    """Read the recipe of a run folder; relative paths start where they did. Refuse several runs where one is meant."""
    from unlearnkit.run.folder import RESOLVED, base_of, begun

    loaded, its = _load(run / RESOLVED, context, set_, base_of(run, begun(run)))
    if alone and (runs := recipes.children(its, loaded.resolved)):
        raise UserError(f"{run} has several runs; give one of them, such as {run / runs[0].name}", Exit.FOLDER)
    return loaded, its
