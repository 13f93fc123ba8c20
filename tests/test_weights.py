"""Weights references and files: what is read, what is refused, and what the message says."""

import argparse
import errno
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tiny_task import MODEL
from torch import nn

from unlearnkit.contracts import saved
from unlearnkit.disk import sha256
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load as load_recipe
from unlearnkit.run import pretrain
from unlearnkit.solver.pretrained import built
from unlearnkit.solver.workbench import build
from unlearnkit.weights import FAMILIES, family, fit, load, read, resolve, save

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(folder: Path) -> Path:
    """Write a repository as the hub's client keeps it after a download."""
    snapshot = folder / "models--acme--mae" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    save_file({"weight": torch.ones(2)}, snapshot / "model.safetensors")
    return snapshot


@pytest.fixture
def hub(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cached(tmp_path)


def test_a_pinned_reference_is_a_file_or_a_folder_of_the_hub(hub):
    assert resolve(f"hub:acme/mae/model.safetensors@{COMMIT}", Path()) == hub / "model.safetensors"
    assert resolve(f"hub:acme/mae@{COMMIT}", Path()) == hub


@pytest.mark.parametrize("reference", ["hub:acme/mae", "hub:acme/mae@main", "hub:acme@" + COMMIT, "hub:"])
def test_an_unpinned_reference_is_refused(reference):
    with pytest.raises(UserError, match="40 digits of the commit"):
        resolve(reference, Path())


def test_what_the_hub_does_not_give_is_one_message(hub):
    with pytest.raises(UserError, match=r"could not be fetched .*give a local file"):
        resolve(f"hub:acme/other@{COMMIT}", Path())


def test_without_the_client_the_message_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'unlearnkit\[hub\]'"):
        resolve(f"hub:acme/mae@{COMMIT}", Path())


def test_checkpoints_of_training_scripts_are_read(tmp_path):
    weights = {"weight": torch.arange(3.0)}
    for name, content in {
        "bare.pth": weights,
        "mae.pth": {"model": weights, "args": argparse.Namespace(lr=1e-3), "epoch": 799},
        "taming.ckpt": {"state_dict": weights, "global_step": 3},
    }.items():
        torch.save(content, tmp_path / name)
        assert torch.equal(read(tmp_path / name)["weight"], weights["weight"])


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


def test_a_pickle_that_is_not_plain_tensors_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="no complete checkpoint of plain tensors") as caught:
        read(tmp_path / "evil.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()
    torch.save({"epoch": 3}, tmp_path / "log.pth")
    with pytest.raises(UserError, match="no table of tensors"):
        read(tmp_path / "log.pth")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_a_half_downloaded_file_is_one_message(tmp_path, name):
    path = tmp_path / name
    save_file({"weight": torch.ones(999)}, path) if name.endswith("s") else torch.save({"w": torch.ones(999)}, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="no complete") as caught:
        read(path)
    assert "download" in str(caught.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_of_another_family_is_named(name):
    found = dict.fromkeys(FAMILIES[name], torch.ones(1))
    assert family(found) == name
    with pytest.raises(UserError) as caught:
        fit(nn.Linear(2, 2).state_dict(), found, Path("weights.pth"))
    assert f"The file looks like {name}" in str(caught.value)


def test_a_folder_holds_model_safetensors_and_has_a_hash_of_its_own(tmp_path):
    layer = nn.Linear(2, 2)
    save_file({name: value.half() for name, value in layer.state_dict().items()}, tmp_path / "model.safetensors")
    other = nn.Linear(2, 2)
    load(other, tmp_path)
    assert torch.allclose(other.weight, layer.weight, atol=1e-3)
    one = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert sha256(tmp_path / "model.safetensors") == one
    listed = hashlib.sha256(f"model.safetensors {one}\n".encode()).hexdigest()
    assert sha256(tmp_path) == listed


def test_tensors_are_written_as_safetensors_writes_them(tmp_path):
    tensors = {"b": torch.randn(3, 4).T, "a": torch.arange(5).half(), "c": torch.tensor(2)}
    save(tensors, tmp_path / "ours")
    save_file({name: value.contiguous() for name, value in tensors.items()}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/there/config.json"), "/there/config.json"),
        (OSError(errno.EROFS, "Read-only file system"), "/here"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "/here"),
    ],
)
def test_what_a_model_cannot_write_itself_is_one_message(error, place):
    class Model:
        def save(self, folder):
            raise error

    with pytest.raises(UserError, match=rf"{place}: cannot be written \((No space left|Read-only)") as found:
        saved(Model(), Path("/here"))
    assert found.value.code == Exit.FOLDER


@pytest.mark.parametrize("error", [SafetensorError("shared memory"), OSError(errno.EINVAL, "a bug"), KeyError("a bug")])
def test_a_bug_of_a_model_that_saves_keeps_its_traceback(error):
    class Model:
        def save(self, folder):
            raise error

    with pytest.raises(type(error)):
        saved(Model(), Path("/here"))


def test_what_was_taken_off_names_is_told_wherever_weights_are_read(tiny):
    """A run's model, a further model for a target, and a model that is trained on."""
    recipe = load_recipe(tiny, discover()).recipe
    tensors = recipe.model.build(None).module.state_dict()
    for name in ("model", "target"):
        torch.save({f"net.{key}": value for key, value in tensors.items()}, tiny.parent / f"{name}.pth")
    left_out = "the weights taken are those behind net., which is left out of the names"
    said = [f"{name}.pth: {left_out}" for name in ("model", "target")]
    target = "{kind: target-output, target: {kind: retrained, weights: target.pth}}"
    overrides = ("model.weights=model.pth", f"forget={target}", "retain={kind: reference-output}")
    bench = build(load_recipe(tiny, discover(), overrides).recipe, tiny.parent)
    assert bench.facts["notes"] == said
    small = tiny.with_name("small.yaml")
    data = "data: {source: {kind: image-folder, root: pictures}}\ntasks: [{kind: center-crop}]\n"
    steps = "pretrain: {steps: 1, batch_size: 2, device: cpu}\n"
    small.write_text(f"name: small\n{MODEL}  weights: model.pth\n{data}{steps}")
    found, told = load_recipe(small, discover()), []
    pretrain.train(found.recipe, found.resolved, tiny.parent, tiny.parent / "to", lambda *_: None, told.append)
    assert told == [{"event": "warning", "message": said[0]}]


@pytest.mark.parametrize("wrong", [torch.int8, torch.bool, torch.complex64])
def test_numbers_that_are_none_of_a_network_are_refused(tmp_path, wrong):
    wanted = {"w": torch.ones(2), "count": torch.tensor(0)}
    with pytest.raises(UserError, match=f"no real numbers: w is {wrong} in the file and torch.float32 in the model"):
        fit(wanted, {"w": torch.ones(2, dtype=wrong), "count": torch.tensor(7)}, tmp_path / "given.pth")
    assert (wanted["w"] == 1).all()
    assert wanted["count"] == 0
    fit(wanted, {"w": torch.full((2,), 0.5, dtype=torch.bfloat16), "count": torch.tensor(7)}, tmp_path / "given.pth")
    assert (wanted["w"] == 0.5).all()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers_are_refused_before_any_is_copied(tmp_path, broken):
    wanted, given = {"a": torch.ones(3), "b": torch.ones(2)}, {"a": torch.zeros(3), "b": torch.zeros(2)}
    given["a"][1:] = given["b"][0] = broken
    with pytest.raises(UserError, match=r"given.pth: .* NaN or infinite: 2 of 3 in a, 1 of 2 in b; take a checkpoint"):
        fit(wanted, given, tmp_path / "given.pth")
    assert all((value == 1).all() for value in wanted.values())


def test_weights_that_an_adapter_reads_by_itself_are_looked_at_too(tmp_path):
    module = torch.nn.BatchNorm1d(3)
    module.running_var.fill_(torch.inf)  # a buffer, where infinite numbers may be meant
    section = SimpleNamespace(build=lambda weights: SimpleNamespace(module=module))
    assert built(section, tmp_path).module is module
    torch.nn.init.constant_(module.bias, torch.nan)
    with pytest.raises(UserError, match=f"{tmp_path}: the weights have .* NaN or infinite: 3 of 3 in bias; take"):
        built(section, tmp_path)
    assert built(section, None).module is module  # untrained: what it is is the plugin's


def test_a_run_on_weights_that_diverged_is_refused_by_plan_and_by_run(tiny, unlearnkit):
    state = build(load_recipe(tiny, discover()).recipe, tiny.parent).student.module.state_dict()
    next(iter(state.values())).view(-1)[0] = torch.nan
    torch.save(state, tiny.with_name("diverged.pth"))
    for command in (("plan", tiny), ("run", tiny, "--to", "run")):
        ended = unlearnkit(*command, "--set", "model.weights=diverged.pth")
        assert ended.code != 0
        assert "NaN or infinite: 1 of" in " ".join((ended.out + ended.err).split())
    assert not tiny.with_name("run").exists()
