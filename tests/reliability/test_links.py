"""A run folder that somebody hands over leads nowhere: nothing in it is followed, and nothing beside it removed."""

import os
import resource
import shutil
from pathlib import Path

import pytest

from unlearnkit.disk import append
from unlearnkit.errors import UserError

PLACES = [
    "lock", "events.jsonl", "report.html", "report.md", "manifest.json", "recipe.resolved.json", "recipe.yaml",
    "results.json", "seal.json", "images", "plots", "solutions", "original", "evaluations", "images/forget-truth.png",
    "plots/front.png", "solutions/epsilon-at-0.5/tensors.safetensors", "original/model.safetensors", "new",
]  # fmt: skip
"""Files and folders of a finished run, and one that is none of it."""
COMMANDS = {
    "report": ("report", "run"),
    "resume": ("resume", "run"),
    "changed": ("resume", "run", "--set", "evaluate.images=2"),
    "export": ("export", "run", "--epsilon", "highest", "--to", "out"),
    "compare": ("compare", "run", "--to", "out"),
}


def listing(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["link", "dangling", "pipe"])
def test_a_link_in_a_run_folder_is_named_and_not_followed(finished, tmp_path, unlearnkit, place, how):
    outside, run = tmp_path / "outside", shutil.copytree(finished / "run", tmp_path / "run")
    outside.mkdir()
    (run / "new").touch()
    path, target = run / place, outside / Path(place).name
    if how == "pipe":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        os.mkfifo(path)
    elif how == "link":
        shutil.move(path, target)  # all that is read would be as it was
        path.symlink_to(target)
    else:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(target)
    before = listing(outside)
    for command in COMMANDS.values():
        outcome = unlearnkit(*command, cwd=tmp_path)
        assert outcome.code == 7, (command, outcome.err)
        assert Path(place).name in outcome.err
        assert "Traceback" not in outcome.err
    assert listing(outside) == before
    assert not (tmp_path / "out").exists()


def test_events_with_several_names_are_not_appended_to(finished, tmp_path, unlearnkit):
    run = shutil.copytree(finished / "run", tmp_path / "run")
    kept = (run / "events.jsonl").read_bytes()
    (tmp_path / "mine").hardlink_to(run / "events.jsonl")
    outcome = unlearnkit("resume", "run", "--set", "evaluate.images=2", cwd=tmp_path)
    assert outcome.code == 7
    assert "events.jsonl" in outcome.err
    assert (tmp_path / "mine").read_bytes() == kept


def test_a_name_that_leads_out_of_a_run_is_not_read(finished, tmp_path, unlearnkit):
    """Also where the seal has it, which whoever hands a folder over can write."""
    from unlearnkit.disk import sha256, write_record
    from unlearnkit.seal import FORMAT, Sealed

    run = shutil.copytree(finished / "run", tmp_path / "run")
    secret = shutil.copy(run / "images/forget-truth.png", tmp_path / "secret.png")
    text = (run / "results.json").read_text().replace("images/forget-truth.png", "../secret.png")
    (run / "results.json").write_text(text)
    files = Sealed.of(run).files | {"results.json": sha256(run / "results.json"), "../secret.png": sha256(secret)}
    write_record(run / "seal.json", {"format": FORMAT, "files": files})
    for name in ("report", "compare"):
        outcome = unlearnkit(*COMMANDS[name], cwd=tmp_path)
        assert outcome.code == 7
        assert "secret.png" in outcome.err


def test_an_export_leaves_what_is_not_its_own(finished, tmp_path, unlearnkit):
    run = finished / "run"
    for name in (".out.part", ".out.0123.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    before = listing(tmp_path)
    unlearnkit("export", run, "--epsilon", "highest", "--to", "out", cwd=tmp_path).succeeded()
    assert {name: data for name, data in listing(tmp_path).items() if f"{tmp_path}/out" not in name} == before
    assert unlearnkit("export", run, "--epsilon", "lowest", "--to", "out", cwd=tmp_path).code == 7


def test_a_run_folder_that_disappears_ends_the_run(tiny, tmp_path):
    from tiny_task import ran

    from unlearnkit.errors import Exit, UserError

    run = tmp_path / "run"

    def vanish(event):
        if event["event"] == "solution":
            shutil.rmtree(run)

    with pytest.raises(UserError, match=r"disappeared|No such file") as caught:
        ran(tiny, run, tell=vanish)
    assert caught.value.code == Exit.FOLDER
    assert not run.exists()


def test_a_folder_of_a_later_format_is_refused_with_the_version_that_wrote_it(finished, tmp_path, unlearnkit):
    from unlearnkit.disk import read_record, write_record

    run = shutil.copytree(finished / "run", tmp_path / "run")
    for name in ("manifest.json", "seal.json"):
        write_record(run / name, read_record(run / name) | {"format": 3, "unlearnkit": "9.1"})
    for command in COMMANDS.values():
        outcome = unlearnkit(*command, cwd=tmp_path)
        assert outcome.code == 7
        assert "of format 3, as unlearnkit 9.1 writes it, and this version reads format 2" in outcome.err


def test_a_line_that_a_full_disk_takes_half_is_not_there(tmp_path):
    path = tmp_path / "events.jsonl"
    append(path, b"whole\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            append(path, b"half of this is written\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    append(path, b"next\n")
    assert path.read_bytes() == b"whole\nnext\n"
