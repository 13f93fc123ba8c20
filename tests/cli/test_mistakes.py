"""Mistakes that people make: each is one message that names the place and the remedy, and an exit code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
LINES = 4
"""What a message has at most: what is wrong, the line of the recipe, a caret, the count."""


def changed(old: str, new: str):
    """Return what writes a recipe with something else in it."""
    return lambda recipe: recipe.write_text(recipe.read_text().replace(old, new))


MISTAKES = {
    "a misspelt key": (
        changed("seed: 3", "sede: 3"), "run tiny.yaml", 3,
        ["tiny.yaml:2:1: sede: unknown key; did you mean 'seed'?"],
    ),
    "a wrong kind": (
        changed("vit-mae", "vitmae"), "validate tiny.yaml", 3,
        ["tiny.yaml:4:9: model.kind: unknown kind 'vitmae'; did you mean 'vit-mae'?"],
    ),
    "a class in the wrong case": (
        changed("[red]", "[Red]"), "validate tiny.yaml", 3,
        ["data.forget: unknown class 'Red'; did you mean 'red'? The source has: blue, green, red"],
    ),
    "a missing folder": (
        changed("root: pictures", "root: pictrues"), "run tiny.yaml", 3,
        ["data.source.root: there is no folder pictrues; give one with a folder of images for each class"],
    ),
    "a tab in YAML": (
        changed("  kind: vit-mae", "\tkind: vit-mae"), "run tiny.yaml", 3,
        ["tiny.yaml:4:1: not valid YAML", "indent with spaces, not tabs"],
    ),
    "a wrong path of weights": (
        None, "run tiny.yaml --set model.weights=mae.safetensor", 3,
        ["model.weights: there is no file or folder mae.safetensor; give one, sample:NAME, or hub:OWNER/NAME@COMMIT"],
    ),
    "an ε out of range": (
        changed("[0, 0.5, 1]", "[0, 0.5, 1.5]"), "run tiny.yaml", 3,
        ["tiny.yaml:18:32: epsilons.fractions[2]: expected a number of at most 1, got the number 1.5"],
    ),
    "a batch larger than the set": (
        None, "plan tiny.yaml --set training.batch_size=12", 0,
        ["training.batch_size: 12 is more than the 8 training images of the forget set; each step takes all of them"],
    ),
    "no GPU for device: cuda": (
        changed("device: cpu", "device: cuda:99"), "run tiny.yaml", 5,
        ["training.device: 'cuda:99' is asked for", "use --set training.device=cpu, or auto"],
    ),
    "a run folder that is there": (
        lambda recipe: shutil.copytree(recipe.parent / "pictures", recipe.parent / "runs/tiny"), "run tiny.yaml", 7,
        ["runs/tiny exists already; continue it with `unlearnkit resume runs/tiny`, or give another with --to"],
    ),
    "a folder that is no run": (
        None, "resume pictures", 7,
        ["pictures: there is no manifest.json: no run was begun here; `unlearnkit run RECIPE --to pictures` begins"],
    ),
    "a recipe in place of a run": (
        None, "report tiny.yaml", 7, ["tiny.yaml: this is no run folder; give one that `unlearnkit run` wrote"],
    ),
    "a run below a file": (
        None, "run tiny.yaml --to tiny.yaml/first", 7,
        ["tiny.yaml/first: a file stands at tiny.yaml; give another folder with --to"],
    ),
    "a certificate of a recipe": (
        None, "certificate tiny.yaml", 7, ["tiny.yaml: this is no run folder; give one that `unlearnkit run` wrote"],
    ),
    "a folder that is no exported model": (
        None, "verify pictures", 8, ["pictures: this is no exported model; give a folder that `unlearnkit export`"],
    ),
    "a recipe in place of an exported model": (
        None, "verify tiny.yaml", 2, ["tiny.yaml: this is no exported model; give a folder that `unlearnkit export`"],
    ),
    "an empty recipe": (
        lambda recipe: recipe.write_text(""), "run tiny.yaml", 3,
        ["tiny.yaml:1:1: the recipe is empty; write sections such as `model:` and `data:`"],
    ),
    "a folder in place of a recipe": (
        None, "validate pictures", 3, ["pictures: can't be read: Is a directory; name a recipe file"],
    ),
    "--set without =": (
        None, "run tiny.yaml --set training.steps", 3,
        ["--set:1:1: expected PATH=VALUE, such as training.steps=100 or data.forget.classes[0]=faces"],
    ),
    "--set with a blank for =": (
        None, "run tiny.yaml --set training.steps 5", 2,
        ["--set training.steps has no value; write it without a blank: --set training.steps=5"],
    ),
}  # fmt: skip
"""By what it is: what is done to the tiny recipe, the command, its exit code, and what its message has to say."""


def held(outcome, code: int, words: list[str]) -> None:
    """Fail where the outcome of a command is not one message with these words and this code."""
    said = outcome.err if code else outcome.out
    assert outcome.code == code, said
    assert all(word in said for word in words), said
    assert "Traceback" not in outcome.err
    if code:
        assert outcome.out == ""
        assert len(outcome.err.splitlines()) <= LINES, said
        assert outcome.err.count("error: ") == outcome.err.startswith("error: ")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_with_place_and_remedy(tiny, unlearnkit, mistake):
    make, command, code, words = MISTAKES[mistake]
    if make:
        make(tiny)
    before = sorted(tiny.parent.rglob("*"))
    held(unlearnkit(*command.split()), code, words)
    assert sorted(tiny.parent.rglob("*")) == before, "something was written"


def test_a_finished_run_is_not_resumed_and_says_what_would_change_it(finished, unlearnkit):
    before = {path: path.stat().st_mtime_ns for path in (finished / "run").rglob("*") if path.is_file()}
    outcome = unlearnkit("resume", finished / "run").succeeded()
    assert "the run has finished, and nothing in it has changed; change it with `--set KEY=VALUE`" in outcome.err
    assert len(outcome.err.splitlines()) <= LINES
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_says_of_a_batch_that_is_larger_than_a_set(tiny, unlearnkit):
    outcome = unlearnkit("run", tiny, "--set", "training.batch_size=12", "--set", "training.steps=8").succeeded()
    assert "warning: training.batch_size: 12 is more than the 8 training images of the forget set" in outcome.err
    assert "images of the retain set" not in outcome.err


SLOW = {"torch", "torchvision", "torchmetrics", "scipy.optimize", "scipy.stats", "matplotlib", "sympy"}
"""What takes a good part of a second, or seconds, to import."""
PROBE = f"""
import sys
from unlearnkit.cli import main
try:
    main()
finally:
    print(*({SLOW} & sys.modules.keys()))
"""
IMPORTED = {
    "a misspelt key": "", "a run folder that is there": "", "a folder that is no run": "", "--set without =": "",
    "a run below a file": "", "a certificate of a recipe": "matplotlib",
    "a class in the wrong case": "torch", "a missing folder": "torch",
}  # fmt: skip
"""By mistake, what of that its message comes after."""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_misspelt_key_beside_any_model_is_told_before_what_is_slow_is_imported(recipe):
    line = [sys.executable, "-c", PROBE, "run", recipe, "--set", "odd=3"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert "odd: unknown key" in done.stderr
    assert done.stdout == "\n"


@pytest.mark.parametrize("mistake", IMPORTED)
def test_what_needs_no_model_is_told_before_what_is_slow_is_imported(tiny, mistake):
    make, command, code, words = MISTAKES[mistake]
    if make:
        make(tiny)
    line = [sys.executable, "-c", PROBE, *command.split()]
    done = subprocess.run(line, cwd=tiny.parent, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words)
    assert done.stdout == f"{IMPORTED[mistake]}\n"


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_in_is_told_first(tiny):
    (tiny.parent / "locked").mkdir(0o555)
    rights = "-dac_override,-dac_read_search"  # without which root is bound by a folder's mode like anybody
    bound = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    line = [*bound, sys.executable, "-c", PROBE, "run", "tiny.yaml", "--to", "locked/deep/run"]
    done = subprocess.run(line, cwd=tiny.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "\n"), done.stderr
    assert "locked/deep/run: nothing can be written in locked; give another folder with --to" in done.stderr
