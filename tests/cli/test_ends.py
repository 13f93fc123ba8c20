"""How commands end: a lack of memory, a disk, a pipe, each as one message with its code and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unlearnkit.errors import Exit, memory_error

SHORT = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 40 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("unable to mmap 40 bytes from file <x>: Cannot allocate memory (12)"),
    RuntimeError("Storage size calculation overflowed with sizes=[1000000000000, 1000000000000]"),
    RuntimeError("std::bad_alloc"),
    OSError(12, "Cannot allocate memory"),
]  # fmt: skip


def refused(outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.err.count("error: ") == 1
    for word in words:
        assert word in outcome.err


def test_a_lack_of_memory_is_known_by_what_is_raised():
    assert [memory_error(error).code for error in SHORT] == [Exit.DEVICE] * len(SHORT)
    assert "out of memory on the device (tried to allocate 2.00 gib); " in str(memory_error(SHORT[1]))
    assert "out of memory on the host (tried to allocate 4000000000000 bytes); " in str(memory_error(SHORT[2]))
    others = (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), OSError(2, "No"))
    assert [memory_error(error) for error in others] == [None, None, None]


@pytest.mark.parametrize("error", SHORT[:3])
@pytest.mark.parametrize(
    ("command", "where"),
    [
        (["run", "tiny.yaml"], "unlearnkit.run.follow.build"),
        (["run", "tiny.yaml", "--to", "short"], "unlearnkit.solver.descent.Descent.step"),
        (["plan", "tiny.yaml"], "unlearnkit.run.plan.need"),
        (["validate", "tiny.yaml"], "unlearnkit.recipe.load"),
        (["list"], "unlearnkit.plugins.catalogue.kinds"),
    ],
)
def test_memory_short_anywhere_is_one_message(tiny, monkeypatch, unlearnkit, command, where, error):
    def short(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(where, short)
    refused(unlearnkit(*command), Exit.DEVICE, "out of memory")


def test_a_model_beyond_any_memory(tiny, unlearnkit):
    for width in (2**20, 2**40):
        refused(unlearnkit("run", tiny, "--set", f"model.width={width}"), Exit.DEVICE, "out of memory")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "tiny.yaml", "--to", "file/below"],
        ["run", "tiny.yaml", "--to", "n" * 300],
        ["init", "--model", "vit-mae", "--data", "pictures", "--forget", "red", "--to", "file/recipe.yaml"],
        ["init", "--model", "vit-mae", "--data", "pictures", "--forget", "red", "--to", "n" * 300],
        ["init", "--model", "vit-mae", "--data", "n" * 300, "--forget", "red"],
        ["init", "--plugin", "acme", "--to", "file"],
        ["init", "--plugin", "acme", "--to", "n" * 300],
        ["report", "n" * 300],
        ["resume", "n" * 300],
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_is_one_message(tiny, unlearnkit, command):
    (tiny.parent / "file").touch()
    refused(unlearnkit(*command), Exit.RECIPE if command[-1] == "red" else Exit.FOLDER)


def test_a_comparison_below_a_file(finished, tmp_path, unlearnkit):
    (tmp_path / "file").touch()
    refused(unlearnkit("compare", finished / "run", "--to", "file/below"), Exit.FOLDER, "file")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = line.replace("unlearnkit", f"{sys.executable} -m unlearnkit")
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=os.environ, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["list", "schema", "validate tiny.yaml", "plugins --json", "--help"])
def test_a_full_disk_behind_stdout_is_told(tiny, command):
    done = shell(f"unlearnkit {command} >/dev/full", tiny.parent)
    assert done.returncode == Exit.FOLDER
    assert done.stderr.startswith(
        "error: standard output, or a file: cannot be read or written (No space left on device)"
    )
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_is_quiet(tiny):
    done = shell("set -o pipefail; unlearnkit schema | true", tiny.parent)
    assert (done.returncode, done.stdout, done.stderr) == (141, "", "")
    done = shell("unlearnkit list >&-", tiny.parent)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_that_fails_while_it_is_imported_is_named(tiny, monkeypatch, unlearnkit):
    package = tiny.parent / "vision_of_another_build"
    package.mkdir()
    (package / "__init__.py").write_text("from . import operators\n")
    for told in ("RuntimeError: operator nms does not exist", "OSError: libcudart.so.13: no such library"):
        kind, _, text = told.partition(": ")
        (package / "operators.py").write_text(f"raise {kind}({text!r})\n")
        monkeypatch.syspath_prepend(tiny.parent)
        monkeypatch.setattr("unlearnkit.plugins.catalogue.kinds", lambda *_: __import__(package.name))
        refused(unlearnkit("list"), Exit.PLUGIN, f"error: {package.name} cannot be imported ({told}); install it again")
