"""The command line: exit codes, frozen flags, JSON, and what it does not import."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import typer

from unlearnkit.cli.commands import app
from unlearnkit.errors import Exit

ROOT = Path(__file__).parents[2]
FLAGS = {
    "run": {"--set", "--to", "--executor"},
    "quickstart": {"--set", "--to"},
    "resume": {"--set", "--executor"},
    "validate": {"--set", "--json"},
    "plan": {"--set", "--json", "--all-images", "--executor"},
    "list": {"--json"},
    "show": {"--json"},
    "schema": set(),
    "init": {"--model", "--weights", "--data", "--forget", "--to", "--plugin"},
    "plugins": {"--json"},
    "doctor": {"--json"},
    "compare": {"--to", "--x", "--y"},
    "report": set(),
    "export": {"--epsilon", "--polish", "--to", "--attest"},
    "verify": {"--key", "--data"},
    "certificate": {"--epsilon", "--to"},
    "pretrain": {"--set", "--to"},
}
ROOMS = [
    "errors", "packages", "device", "disk", "seal", "fronts", "report", "weights", "contracts", "control", "recipe",
    "features", "patches", "data", "plugins", "solver", "evaluation", "run", "cli",
]  # fmt: skip
"""From what imports nothing to the command line."""


def test_commands_and_flags_are_frozen():
    """Options belong into the recipe."""
    commands = typer.main.get_command(app).commands
    found = {
        name: {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")} - {"--help"}
        for name, command in commands.items()
    }
    assert found == FLAGS
    assert all("Example: unlearnkit " in command.epilog for command in commands.values())


@pytest.mark.parametrize(
    "module",
    [
        "unlearnkit.cli", "unlearnkit.plugins", "unlearnkit.recipe.validate", "unlearnkit.plugins.catalogue",
        "unlearnkit.contracts", "unlearnkit.control",
    ],
)  # fmt: skip
def test_what_validates_does_not_import_torch(module):
    code = f"import sys, {module}; from unlearnkit.plugins import discover; discover(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def imported(room: str) -> set[str]:
    """Return the other rooms that the modules of a room import, inside functions too."""
    package = ROOT / "unlearnkit"
    found = set()
    for path in [*(package / room).rglob("*.py"), *package.glob(f"{room}.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unlearnkit."):
                found.add(node.module.split(".")[1])
            elif isinstance(node, ast.ImportFrom) and node.module == "unlearnkit":
                found |= {alias.name for alias in node.names} & {path.stem for path in package.iterdir()}
    return found - {room}


def test_imports_point_one_way():
    """A room imports those above it alone, and nothing but `testing` imports what a plugin might bring."""
    for place, room in enumerate(ROOMS):
        assert imported(room) <= set(ROOMS[:place]), room
    assert imported("builtin") <= set(ROOMS[: ROOMS.index("plugins")])
    rooms = {path.parent.name for path in (ROOT / "unlearnkit").glob("*/*.py")} - {"samples"}
    assert rooms <= {*ROOMS, "builtin", "testing"}, "a new room has its place in ROOMS"


def test_usage_errors_and_unknown_kinds(unlearnkit):
    assert unlearnkit("nonsense").code == 2
    outcome = unlearnkit("show", "center-crob")
    assert outcome.code == 2
    assert "did you mean 'center-crop'?" in outcome.err
    assert unlearnkit("list", "nonsense").code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("run r.yaml --device cuda", "it is a field of the recipe: --set training.device=cuda"),
        ("run r.yaml --device=cuda:1 --to x", "it is a field of the recipe: --set training.device=cuda:1"),
        ("plan --seed 3 r.yaml", "it is a field of the recipe: --set seed=3"),
        ("run r.yaml --epochs 4", "it is a field of the recipe: --set training.epochs=4"),
        ("resume runs/first --steps", "it is a field of the recipe: --set training.steps=VALUE"),
        ("pretrain r.yaml --steps 9", "it is a field of the recipe: --set pretrain.steps=9"),
        ("validate r.yaml --batch-size 8", "it is a field of the recipe: --set training.batch_size=8"),
        ("run r.yaml --lr 1e-3", "it is a field of the recipe: --set training.optimizer.lr=1e-3"),
        ("run r.yaml --compile --to x", "it is a field of the recipe: --set training.compile=true"),
        ("run r.yaml --optimizer sgd", "it is a field of the recipe: --set training.optimizer.kind=sgd"),
        ("run r.yaml --ratio 0.5", "it is a field of the recipe: --set task.ratio=0.5"),
        ("run r.yaml --metric kid", "it is a field of the recipe: --set 'evaluate.metrics=[{kind: kid}]'"),
        ("run r.yaml --epsilon 0.3", "it is a field of the recipe: "
         "--set 'epsilons.fractions=[0.3]' or --set 'epsilons.values=[0.3]'"),
        ("run r.yaml --output runs/x", "use --to runs/x"),
        ("export runs/first -o", "use --to DIR"),
        ("run --config r.yaml", "the recipe needs none: unlearnkit run r.yaml"),
    ],
)  # fmt: skip
def test_an_option_that_has_another_place_is_told_it(unlearnkit, words, meant):
    outcome = unlearnkit(*words.split())
    flag = next(word for word in words.split() if word.startswith("-") and not word.startswith("--to"))
    assert outcome.err == f"error: there is no option {flag.partition('=')[0]}; {meant}\n"
    assert outcome.code == 2


@pytest.mark.parametrize("words", ["run r.yaml --nonsense", "export runs/first --device cpu", "validate r.yaml -o x"])
def test_an_option_that_is_nowhere_is_clicks_own_error(unlearnkit, words):
    outcome = unlearnkit(*words.split())
    assert outcome.code == 2
    assert "No such option: -" in outcome.err


@pytest.mark.parametrize("command", FLAGS)
def test_an_option_without_its_value_or_with_one_too_many_is_a_mistake(unlearnkit, command):
    for option in typer.main.get_command(app).commands[command].params:
        if isinstance(option, typer.core.TyperOption):
            flag = max(option.opts, key=len)
            outcome = unlearnkit(command, f"{flag}=1" if option.is_flag else flag)
            assert outcome.code == Exit.USAGE
            said = "does not take a value" if option.is_flag else "requires an argument"
            assert f"Option '{flag}' {said}." in outcome.err


@pytest.mark.parametrize("command", ["", *FLAGS])
def test_h_is_help(unlearnkit, command):
    outcome = unlearnkit(*filter(None, [command]), "-h").succeeded()
    assert outcome.out == unlearnkit(*filter(None, [command]), "--help").out
    assert "-h" in outcome.out


def test_make_help_has_every_target():
    makefile = (ROOT / "Makefile").read_text()
    printed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    assert sorted(targets) == sorted(re.findall(r"[a-z-]+", "".join(line[:26] for line in printed.splitlines())))


def test_a_mistake_has_its_place_and_no_traceback(tiny, unlearnkit):
    tiny.write_text(tiny.read_text().replace("seed: 3", "sed: 3"))
    outcome = unlearnkit("validate", tiny)
    assert outcome.code == 3
    assert "tiny.yaml:2:1: sed: unknown key; did you mean 'seed'?" in outcome.err
    assert "Traceback" not in outcome.err


def test_plan_says_what_would_run_and_writes_nothing(tiny, unlearnkit):
    before = sorted(tiny.parent.rglob("*"))
    plan = json.loads(unlearnkit("plan", tiny, "--json").succeeded().out)
    assert plan["steps_each"] == 24
    assert plan["steps"] == 24 * 5
    assert plan["sets"] == {"forget": {"train": 8, "validation": 4}, "retain": {"train": 16, "validation": 8}}
    assert plan["missing"] == []
    assert sorted(tiny.parent.rglob("*")) == before


def test_plan_works_without_the_data_and_says_what_is_missing(tiny, unlearnkit):
    outcome = unlearnkit("plan", tiny, "--set", "data.source.root=nowhere", "--set", "model.weights=no.safetensors")
    assert outcome.code == 3
    assert "there is no folder" in outcome.out
    assert "there is no file" in outcome.out
    assert "5 problems on a budget of 24 steps" in outcome.out


def test_export_writes_a_model_that_a_recipe_can_use(finished, tiny, unlearnkit):
    run = finished / "run"
    results = json.loads((run / "results.json").read_text())
    unlearnkit("export", run, "--epsilon", "epsilon-at-0.5", "--to", "out").succeeded()
    card = (tiny.parent / "out" / "README.md").read_text()
    assert f"{results['solutions'][3]['f1']:.6g}" in card
    assert "None" not in card.partition("## Provenance")[0]
    unlearnkit("run", tiny, "--to", "next", "--set", "model.weights=out/model.safetensors", "--set", "training.steps=2")
    unlearned = json.loads((tiny.parent / "next" / "results.json").read_text())["original"]["metrics"]
    expected = results["solutions"][3]["metrics"]["forget"]["train"]["truth"]
    assert unlearned["forget"]["train"]["truth"] == pytest.approx(expected, rel=1e-4)
    again = unlearnkit("export", run, "--epsilon", "epsilon-at-0.5", "--to", "out")
    assert again.code == 7
    unknown = unlearnkit("export", run, "--epsilon", "tightest", "--to", "other")
    assert unknown.code == 2
    assert "epsilon-at-0 " in unknown.err


def test_pretrain_writes_weights_with_recipe_and_figures(tiny, unlearnkit):
    recipe = tiny.parent / "pretrain.yaml"
    model = tiny.read_text().partition("model:\n")[2].partition("data:")[0]
    recipe.write_text(
        f"name: small\nmodel:\n{model}data:\n  source: {{kind: image-folder, root: pictures}}\n"
        "tasks: [{kind: center-crop}, {kind: random-tokens, token: 4}]\n"
        "pretrain: {steps: 6, batch_size: 8, optimizer: {kind: adamw, lr: 3e-3}}\n"
    )
    unlearnkit("pretrain", recipe, "--to", "weights").succeeded()
    facts = json.loads((tiny.parent / "weights" / "model.json").read_text())
    assert facts["figures"]["validation_images"] == 9
    assert facts["recipe"]["pretrain"]["steps"] == 6
    unlearnkit("run", tiny, "--to", "run", "--set", "model.weights=weights/model.safetensors").succeeded()
    assert unlearnkit("pretrain", recipe, "--to", "weights").code == 7
    assert unlearnkit("run", recipe).code == 2


@pytest.mark.parametrize("what", ["recipe", "pretrain", "results"])
def test_committed_schemas_are_fresh(what, unlearnkit):
    printed = (
        unlearnkit("schema", what, env={"UNLEARNKIT_LOAD_PLUGINS": "timm,diffusers,openclip,spandrel"}).succeeded().out
    )
    assert printed == (ROOT / "schemas" / f"{what}.schema.json").read_text(), "run `make schemas`"


def test_results_keep_their_schema_and_have_neither_clock_nor_path(finished):
    text = (finished / "run" / "results.json").read_text()
    schema = json.loads((ROOT / "schemas" / "results.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(json.loads(text))
    assert str(finished) not in text
    assert "time" not in json.loads(text)


def test_every_committed_recipe_is_valid(unlearnkit):
    recipes = sorted((ROOT / "recipes").rglob("*.yaml"))
    assert len(recipes) >= 2
    for recipe in recipes:
        outcome = unlearnkit("validate", recipe)
        if "weights: ~/.cache/" in recipe.read_text() and outcome.code:  # which `unlearnkit download` brings
            assert "model.weights: there is no file" in outcome.err
        elif "kind: cifar10" in recipe.read_text() and recipe.parent.name != "papers" and outcome.code:
            assert "data.source.root: " in outcome.err
        elif recipe.parent.name == "papers":
            assert "data.source.root: " in outcome.err
            assert "model.weights: there is no file" in outcome.err
            assert outcome.code == 3
        else:
            outcome.succeeded()
        first = recipe.read_text().splitlines()[0]
        schema = (recipe.parent / first.partition("$schema=")[2]).resolve()
        assert schema.is_file()
