"""`unlearnkit init`: a recipe that runs, and a plugin package whose own tests pass and catch broken contracts."""

import errno
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from tiny_task import failing

MODULE = "acme_unlearning"
BREAKS = {
    "embed: expected one row an image": ("self.encoder(view.images)", "self.encoder(view.images)[:1]"),
    "decode: expected": ("return self.module.decoder(embedding)", "return self.module.decoder(embedding)[..., :8]"),
    "own_loss: expected a finite scalar": ("return (error * weight).sum() / weight.sum()", "return error"),
    "encoder: expected a submodule": ("module, module.encoder,", "module, Autoencoder(4).encoder,"),
    "distance: expected a gradient": ("student.embed(view)", "student.embed(view).detach().requires_grad_()"),
}  # fmt: skip
"""What a broken package is told, and the line of it that is changed to what."""


@pytest.fixture
def package(tmp_path, unlearnkit) -> Path:
    unlearnkit("init", "--plugin", "acme-unlearning").succeeded()
    return tmp_path / "acme-unlearning"


def outcome_of(package: Path, *only: str) -> subprocess.CompletedProcess[str]:
    """Run the package's own tests with what an installation would leave: the module and its entry points."""
    facts = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    info = package / f"{MODULE}-{facts['version']}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {facts['name']}\nVersion: {facts['version']}\n")
    points = "\n".join(f"{name} = {value}" for name, value in facts["entry-points"]["unlearnkit"].items())
    (info / "entry_points.txt").write_text(f"[unlearnkit]\n{points}\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *only]
    return subprocess.run(command, cwd=package, env=env, capture_output=True, text=True)


def test_a_folder_of_images_becomes_a_recipe_that_runs(tiny, unlearnkit):
    outcome = unlearnkit("init", "--model", "vit-mae", "--data", "pictures", "--forget", "red").succeeded()
    assert "next: unlearnkit plan recipe.yaml" in outcome.out
    assert "missing" not in outcome.out
    recipe = tiny.parent / "recipe.yaml"
    assert [line.partition("$schema")[2] for line in recipe.read_text().splitlines()[:2]] == [
        "=recipe.schema.json", ": recipe.schema.json",
    ]  # fmt: skip
    assert json.loads((tiny.parent / "recipe.schema.json").read_text())["properties"]["model"]
    small = [
        "training={steps: 12, checks: 1, batch_size: 4, device: cpu}",
        "epsilons.fractions=[0.5]",
        "evaluate.images=1",
    ]
    unlearnkit("run", "recipe.yaml", "--to", "run", *(word for one in small for word in ("--set", one))).succeeded()
    sets = json.loads((tiny.parent / "run" / "results.json").read_text())["sets"]
    assert sets["forget"]["classes"] == ["red"]
    assert sets["retain"]["classes"] == ["blue", "green"]


def test_what_is_not_given_is_asked_for(tiny, unlearnkit):
    command = [sys.executable, "-m", "unlearnkit", "init", "--to", "asked.yaml"]
    answers = "vit-mae\n-\npictures\nred, green\n"
    done = subprocess.run(command, cwd=tiny.parent, input=answers, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((tiny.parent / "asked.yaml").read_text())
    assert recipe["data"]["forget"]["classes"] == ["red", "green"]
    assert recipe["data"]["source"]["enlarge"] is True
    assert "weights" not in recipe["model"]
    unlearnkit("validate", "asked.yaml").succeeded()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "vit-mea", "--data", "pictures", "--forget", "red"], "did you mean 'vit-mae'?"),
        (["--model", "vit-mae", "--data", "pictures", "--forget", "rad"], "did you mean 'red'?"),
        (["--model", "vit-mae", "--data", "nowhere", "--forget", "red"], "there is no folder nowhere"),
        (["--model", "vit-mae", "--data", "pictures", "--forget", "red", "--weights", "no.pt"], "or folder no.pt"),
        (["--model", "vit-mae", "--data", "pictures", "--forget", "red", "--to", "tiny.yaml"], "such a file already"),
        (["--plugin", "Acme Unlearning"], "is no name for a package"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message_and_writes_nothing(tiny, unlearnkit, options, words):
    before = sorted(tiny.parent.rglob("*"))
    outcome = unlearnkit("init", *options)
    assert outcome.code in (2, 3)
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert sorted(tiny.parent.rglob("*")) == before


RECIPE = ["--model", "vit-mae", "--data", "pictures", "--forget", "red", "--to", "new/own.yaml"]
PACKAGE = ["--plugin", "acme-unlearning", "--to", "new"]


@pytest.mark.parametrize("where", [(os, "open"), (os, "fsync"), (os, "mkdir"), (Path, "rename"), (Path, "write_text")])
@pytest.mark.parametrize(("options", "wanted"), [(RECIPE, "own.yaml"), (PACKAGE, "acme-unlearning")])
def test_a_full_disk_leaves_nothing_that_is_in_the_way(tiny, unlearnkit, monkeypatch, where, options, wanted):
    new = tiny.parent / "new"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    failures = 0
    for at in range(100):
        with monkeypatch.context() as patch:
            patch.setattr(*where, failing(getattr(*where), at, full))
            outcome = unlearnkit("init", *options)
        if outcome.code == 0:
            break
        failures += 1
        assert outcome.code == 7
        assert "cannot be written (No space left on device)" in outcome.err
        assert outcome.err.count("\n") == 1
        if (new / wanted).exists():  # whole, and the system only could not promise that it stays
            break
        assert {path.name for path in new.rglob("*")} <= {"recipe.schema.json"}
    assert failures
    assert (new / wanted).exists()
    if wanted == "own.yaml":
        unlearnkit("validate", new / wanted).succeeded()


@pytest.mark.parametrize(("options", "wanted"), [(RECIPE, "own.yaml"), (PACKAGE, "acme-unlearning")])
def test_an_init_that_was_killed_is_not_in_the_way(tiny, unlearnkit, monkeypatch, options, wanted):
    """Nothing is there before the last renaming."""
    for at in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", failing(Path.rename, at, GeneratorExit()))
            for cleaning in ("os.unlink", "shutil.rmtree"):  # a process that is killed cleans nothing
                patch.setattr(cleaning, lambda *arguments, **options: None)
            try:
                outcome = unlearnkit("init", *options)
            except GeneratorExit:
                assert not (tiny.parent / "new" / wanted).exists()
                continue
        outcome.succeeded()
        break
    assert (tiny.parent / "new" / wanted).exists()


@pytest.mark.parametrize("place", ["tiny.yaml/own.yaml", "tiny.yaml/below/own.yaml", "broken/own.yaml", "x" * 300])
def test_a_place_that_cannot_be_is_one_message_and_writes_nothing(tiny, unlearnkit, place):
    (tiny.parent / "broken").symlink_to("nowhere")
    before = sorted(tiny.parent.rglob("*"))
    for options in (RECIPE[:-1], PACKAGE[:-1]):
        outcome = unlearnkit("init", *options, place)
        assert outcome.code == 7
        assert "cannot be written" in outcome.err
        assert outcome.err.count("\n") == 1
        assert sorted(tiny.parent.rglob("*")) == before


def test_a_wrong_answer_makes_no_folder(tiny, unlearnkit):
    assert unlearnkit("init", *RECIPE[:-3], "rad", "--to", "new/own.yaml").code == 2
    assert not (tiny.parent / "new").exists()
    unlearnkit("init", *RECIPE).succeeded()


def test_paths_in_a_recipe_below_a_link_are_right(tiny, unlearnkit):
    (tiny.parent / "far" / "below").mkdir(parents=True)
    (tiny.parent / "new").symlink_to("far/below")
    assert "missing" not in unlearnkit("init", *RECIPE).succeeded().out
    assert "nothing is missing" in unlearnkit("plan", "new/own.yaml").succeeded().out


def test_the_packages_own_tests_pass_and_name_what_is_broken(package):
    done = outcome_of(package)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    sources = {path: path.read_text() for path in (package / MODULE).glob("*.py")}
    for words, (line, changed) in BREAKS.items():
        [path] = [path for path, text in sources.items() if line in text]
        path.write_text(sources[path].replace(line, changed))
        done = outcome_of(package, "tests/test_contracts.py")
        path.write_text(sources[path])
        name = "AcmeAbsolute" if "distance" in words else "AcmeAutoencoder"
        assert done.returncode == 1, words
        assert f"{name}.{words}" in done.stdout, done.stdout


@pytest.mark.slow
def test_the_package_installs_into_a_fresh_environment_and_its_tests_pass(package, tmp_path):
    """What it depends on is not fetched again but seen from here."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    [site] = (tmp_path / "venv").glob("lib/python*/site-packages")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site / "seen.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in paths))
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", package], check=True, timeout=300)
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:xdist", package / "tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    listed = subprocess.run([python, "-m", "unlearnkit", "plugins"], capture_output=True, text=True, check=True).stdout
    assert "acme-unlearning 0.1.0: acme: acme-autoencoder, acme-absolute" in listed
