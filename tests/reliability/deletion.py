"""The forget images and the original weights are gone: what was found stays as it was."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import trials
from tiny_task import write_tiny
from trials import Tally

COMMANDS = {
    "report": ("report", "run"),
    "compare": ("compare", "run", "--to", "compared"),
    "export": ("export", "run", "--epsilon", "epsilon-at-0.75", "--to", "out"),
    "export of a boundary": ("export", "run", "--epsilon", "highest", "--to", "out"),
    "resume": ("resume", "run"),
}


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Do everything before and after the images and the weights are removed."""
    recipe = write_tiny(folder)
    trained = trials.command("pretrain", pretraining(recipe), "--to", "weights", cwd=folder)
    assert trained.code == 0, trained.told
    overrides = (*trials.FULL, "model.weights=weights/model.safetensors")
    assert (done := trials.run(recipe, folder / "run", *overrides)).code == 0, done.told
    before = {what: _tried(folder, *words) for what, words in COMMANDS.items()}
    shutil.rmtree(folder / "pictures" / "red")
    shutil.rmtree(folder / "weights")
    tally = Tally("after the forget images and the weights were removed", note=", ".join(COMMANDS))
    for what, words in COMMANDS.items():
        code, told, files = _tried(folder, *words)
        said = told if code else ", ".join(trials.differing(files, before[what][2]))
        tally.check(before[what][0] == 0 and not said, f"{what}: {said or before[what][1]}")
    shutil.rmtree(folder / "pictures")
    tally.check(_tried(folder, *COMMANDS["export"])[0] == 0, "export without any images")
    yield tally


def _tried(folder: Path, *words: str) -> tuple[int, str, dict[str, bytes]]:
    done = trials.command(*words, cwd=folder)
    names = {"out", "compared", "run"}
    files = {name: data for name, data in trials.whole(folder).items() if name.split("/")[0] in names}
    for name in names - {"run"}:
        trials.cleared(folder / name)
    return done.code, done.told, {name: data for name, data in files.items() if not name.endswith("events.jsonl")}


def pretraining(recipe: Path) -> Path:
    """Write a recipe for weights of the tiny model."""
    path = recipe.parent / "pretrain.yaml"
    model = recipe.read_text().partition("model:\n")[2].partition("data:")[0]
    path.write_text(
        f"name: small\nmodel:\n{model}data:\n  source: {{kind: image-folder, root: pictures}}\n"
        "tasks: [{kind: center-crop}]\npretrain: {steps: 4, batch_size: 8}\n"
    )
    return path
