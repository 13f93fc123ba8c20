"""Weights as they are found: however they were wrapped, cut and rounded, the same tensors come in, or a true reason."""

import argparse
import json
import pathlib
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from unlearnkit.builtin.models.sections import VitMae
from unlearnkit.errors import UserError
from unlearnkit.weights import load, noted, read

KEYS = [
    "",
    "model",
    "state_dict",
    "model_state_dict",
    "net",
    "generator",
    "module",
    "params",
    "params_ema",
    "ema",
    "a.b",
]
PREFIXES = ["", "module.", "_orig_mod.", "model.", "net.", "model.module.", "module._orig_mod.", "backbone."]


def net() -> nn.Module:
    """Return a small network whose names also have `module` in them, as some networks' have."""
    return nn.Sequential(OrderedDict(first=nn.Linear(3, 2), module=nn.BatchNorm1d(2)))


def put(found, key: str):
    return found if not key else {key: found, "epoch": 3, "best": torch.tensor(0.5), "optimizer": {"state": {0: {}}}}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KEYS), st.sampled_from(KEYS), st.sampled_from(PREFIXES),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), st.sampled_from(["whole", "legacy", "shards"]),
    st.sampled_from(["bin", "pth", "safetensors", "odd"]),
)  # fmt: skip
def test_the_same_tensors_come_in(tmp_path_factory, outer, inner, prefix, dtype, way, suffix):
    folder = tmp_path_factory.mktemp("found")
    torch.manual_seed(0)
    state = {name: value.to(dtype) if value.ndim else value for name, value in net().state_dict().items()}
    named = {prefix + name: value for name, value in state.items()}
    if way == "shards":
        names, index = list(named), {}
        for place, half in enumerate((names[:3], names[3:])):
            shard = f"model-0000{place + 1}-of-00002.{'bin' if suffix == 'bin' else 'safetensors'}"
            tensors = {name: named[name] for name in half}
            torch.save(tensors, folder / shard) if suffix == "bin" else save_file(tensors, folder / shard)
            index |= dict.fromkeys(half, shard)
        kind = "bin" if suffix == "bin" else "safetensors"
        (folder / f"model.{kind}.index.json").write_text(json.dumps({"weight_map": index}))
        path = folder
    else:
        path = folder / f"x.{suffix}"
        torch.save(put(put(named, inner), outer), path, _use_new_zipfile_serialization=way == "whole")
    other = net()
    with noted() as notes:
        load(other, path)
    for name, value in other.state_dict().items():
        assert torch.equal(value, state[name].float() if value.is_floating_point() else state[name]), name
    assert len(notes) <= 1
    if prefix:
        assert notes, "what is taken off is said"


def table(scale: float = 1.0) -> dict[str, torch.Tensor]:
    return {name: scale * value for name, value in net().state_dict().items()}


def test_an_average_is_taken_where_nothing_else_fits(tmp_path):
    wanted = net().state_dict()
    torch.save({"params": table(2), "params_ema": table(3)}, tmp_path / "both.pth")
    assert torch.equal(read(tmp_path / "both.pth", wanted)["module.running_var"], 2 * torch.ones(2))
    torch.save({"params": {"other": torch.ones(1)}, "params_ema": table(3)}, tmp_path / "one.pth")
    assert torch.equal(read(tmp_path / "one.pth", wanted)["module.running_var"], 3 * torch.ones(2))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"student": table(), "teacher": table()}, "several tables fit the model: `student`, `teacher`"),
        ({"net_g": {"x": torch.ones(1)}, "net_d": {"y": torch.ones(1)}}, r"wants: `net_g` \(1, such as x\), `net_d`"),
        ({"epoch": 3, "history": []}, "no table of tensors; it holds epoch, history"),
        ({"model": {f"module.{n}": v for n, v in list(table().items())[1:]}}, r"missing: first\.weight\."),
    ],
)
def test_the_reason_is_the_true_one(tmp_path, found, words):
    torch.save(found, tmp_path / "x.pth")
    with pytest.raises(UserError, match=words):
        load(net(), tmp_path / "x.pth")


def lightning(monkeypatch) -> type:
    """Return a class of a package that is not there when the file is read."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    found = type("ModelCheckpoint", (), {"__module__": name})
    sys.modules[name].ModelCheckpoint = found
    return found


def test_what_trainers_keep_beside_weights_is_not_made(tmp_path, monkeypatch):
    callback = lightning(monkeypatch)
    beside = {
        "callbacks": {callback: {"score": torch.tensor(1.0), "best": callback()}}, "best": np.float64(0.3),
        "history": np.arange(3), "hyper_parameters": argparse.Namespace(lr=1e-3, path=pathlib.PurePosixPath("x")),
        "kinds": {1, 2}, "dtype": torch.float16, "size": torch.Size([2]), "device": torch.device("cpu"), "r": slice(2),
    }  # fmt: skip
    torch.save({"state_dict": table(), "pytorch-lightning_version": "1.0.8", **beside}, tmp_path / "last.ckpt")
    for part in [part for part in sys.modules if part.startswith("pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, part)
    assert read(tmp_path / "last.ckpt", net().state_dict()).keys() == table().keys()


class Config:
    """What a training script of one's own may have saved."""


def test_another_class_is_named_with_the_way_out(tmp_path):
    torch.save({"model": table(), "config": Config()}, tmp_path / "x.pth")
    with pytest.raises(
        UserError, match=r"it names [\w.]*Config, and reading that could run code; save the weights alone"
    ):
        read(tmp_path / "x.pth")


def test_of_a_folder_the_only_variant_is_read(tmp_path):
    save_file({"w": torch.ones(2).half()}, tmp_path / "model.fp16.safetensors")
    assert read(tmp_path)["w"].dtype == torch.float32
    save_file({"w": torch.zeros(2).half()}, tmp_path / "model.fp32.safetensors")
    with pytest.raises(UserError, match=r"which are the weights, model.fp16.safetensors, model.fp32.safetensors\?"):
        read(tmp_path)
    save_file({"w": torch.full((2,), 3.0)}, tmp_path / "model.safetensors")
    assert read(tmp_path)["w"][0] == 3


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"w": "../x.safetensors"}}, "not a file beside it"),
        ({"weight_map": {"w": "x.safetensors"}}, "there is no such file"),
        ({"weight_map": {"v": "a.safetensors"}}, "a.safetensors has no v"),
        ({"weight_map": []}, "no table|no index"),
        ([], "no index of weights"),
    ],
)
def test_an_index_that_does_not_hold_is_told(tmp_path, index, words):
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=words):
        read(tmp_path)


def test_shards_without_their_index_are_told(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match="come without their index"):
        read(tmp_path)


def test_the_small_autoencoder_names_the_layout_of_transformers(tmp_path):
    found = {"vit.embeddings.cls_token": torch.ones(1, 1, 4), "decoder.mask_token": torch.ones(1, 1, 4)}
    save_file(found, tmp_path / "model.safetensors")
    with pytest.raises(
        UserError, match="looks like ViTMAE of transformers, which `kind: mae` of unlearnkit-timm takes"
    ):
        VitMae(kind="vit-mae").build(tmp_path)
