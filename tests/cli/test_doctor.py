"""`unlearnkit doctor` says what there is, whatever of it is broken, and never ends in a traceback."""

import json
import os
import sys
from importlib import metadata

import pytest
import torch

from unlearnkit import __version__
from unlearnkit.run import doctor


def test_it_says_what_is_installed_and_what_torch_sees(unlearnkit):
    facts = json.loads(unlearnkit("doctor", "--json").succeeded().out)
    assert facts["unlearnkit"] == __version__
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["packages"]["torchvision"] == metadata.version("torchvision")
    assert facts["threads"] == torch.get_num_threads()
    assert facts["disk_free_gib"] > 0
    assert bool(facts["devices"]) == torch.cuda.is_available() == (facts["no_device"] is None)
    assert {row["name"] for row in facts["plugins"]} >= {"models", "data", "losses"}
    said = unlearnkit("doctor").succeeded()
    assert f"unlearnkit {__version__}, Python " in said.out
    assert f"torch {torch.__version__}, torchvision " in said.out
    assert said.err == ""


def test_a_torchvision_that_cannot_be_imported_is_told(monkeypatch, unlearnkit):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    out = unlearnkit("doctor").succeeded().out
    assert f"torchvision {metadata.version('torchvision')} cannot be imported (ModuleNotFoundError: " in out


def test_a_plugin_that_failed_is_named_and_ends_it_with_4(monkeypatch, unlearnkit):
    monkeypatch.setenv("UNLEARNKIT_PLUGINS", "no_such_module")
    outcome = unlearnkit("doctor")
    monkeypatch.undo()
    assert outcome.code == 4
    assert "plugin no_such_module of UNLEARNKIT_PLUGINS - FAILED: import: ModuleNotFoundError" in outcome.out
    assert "Traceback" not in outcome.err


def test_devices_are_told_with_memory_driver_and_what_fails_on_one(monkeypatch, unlearnkit):
    class Sum:
        def add(self, number: int) -> "Sum":
            return self

        def item(self) -> float:
            return 2.0

    def ones(size: int, device: str) -> Sum:
        if device == "cuda:1":
            raise RuntimeError("no kernel image is available for execution on the device")
        return Sum()

    monkeypatch.setattr(doctor.subprocess, "check_output", lambda *_, **__: "550.54.15\n550.54.15\n")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "Card")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (3 << 30, 8 << 30))
    monkeypatch.setattr(torch, "ones", ones)
    out = unlearnkit("doctor").succeeded().out
    assert "driver 550.54.15\n" in out
    assert "cuda:0: Card: 3.0 of 8.0 GiB free\n" in out
    assert "cuda:1: Card: RuntimeError: no kernel image is available for execution on the device\n" in out


def test_without_a_device_torch_says_why(monkeypatch, unlearnkit):
    def init() -> None:
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    out = unlearnkit("doctor").succeeded().out
    said = "no CUDA device: PyTorch says: RuntimeError: No CUDA GPUs are available (CUDA_VISIBLE_DEVICES is '7')\n"
    assert said in out


def test_a_torch_that_cannot_be_imported_is_told(monkeypatch, unlearnkit):
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = unlearnkit("doctor").succeeded()
    assert f"torch {metadata.version('torch')}, " in outcome.out
    assert "no CUDA device: PyTorch says: ModuleNotFoundError: " in outcome.out


def test_a_folder_that_has_gone_is_no_traceback(tmp_path, monkeypatch, unlearnkit):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: os.stat(tmp_path / "gone"))
    assert "None GiB free" in unlearnkit("doctor").succeeded().out


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_missing_extra_comes_with_what_installs_it(monkeypatch, quote):
    requires = [
        "torch>=2.6", f"no-such-thing>=1; extra == {quote}hub{quote}", f"torch>=2; extra == {quote}full{quote}",
        f"acme[x]>=1; python_version < '3.99' and extra == {quote}acme{quote}", f"nobody; extra == {quote}test{quote}",
    ]  # fmt: skip
    monkeypatch.setattr(doctor, "distribution", lambda name: type("Found", (), {"requires": requires}))
    assert doctor._missing("unlearnkit") == ["pip install 'unlearnkit[hub]'", "pip install 'unlearnkit[acme]'"]


def test_every_extra_of_our_own_that_is_for_users_is_looked_for():
    needs = metadata.distribution("unlearnkit").requires or ()
    assert any("extra == " in need for need in needs), "how a requirement names its extra has changed"
