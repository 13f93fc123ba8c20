"""Generated checkpoints load to exactly the tensors that they hold, and broken ones are refused with the true reason.

`make properties` tries a hundred times as many. A case is named by its number, which is all its seed.
"""

import argparse
import collections
import datetime
import gzip
import io
import json
import os
import pickle
import random
import re
import sys
import tarfile
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counts import WHOLE
from safetensors.torch import save as packed
from torch import Tensor, nn

from unlearnkit.errors import UserError
from unlearnkit.weights import load

GOOD, BROKEN = (2000, 2000) if WHOLE else (100, 100)
GROUP = 20
"""Cases of one test."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
PREFIXES = ("", "", "model.", "net.", "encoder.", "a.b.c.", "generator.model.", "model.model.", "0.", "student.model.")
WRAPPERS = ("module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
NESTS = ((), (), ("model",), ("state_dict",), ("params",), ("network",), ("g", "state_dict"), ("a", "b", "c", "model"))
AVERAGES = ("ema", "model_ema", "ema_model", "params_ema", "state_dict_ema", "swa_model", "averaged_model", "g_ema")
FILES = ("weights.pth", "weights.pt", "weights.ckpt", "weights.bin", "weights.pth.tar", "weights", "weights.model",
         "epoch=3-step=9.ckpt", "weights.safetensors", "weights.pkl")  # fmt: skip
STEMS = ("model", "diffusion_pytorch_model", "pytorch_model", "weights", "mae_full")
VARIANTS = ("fp16", "bf16", "ema_only", "non_ema")


class Small(nn.Module):
    """Parts with names that also stand in prefixes, a buffer of whole numbers, and a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"embed": nn.Linear(3, 4), "blocks": nn.Sequential(nn.Linear(4, 4), nn.ReLU())})
        self.decoder = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3, bias=False))
        self.model = nn.Module()
        self.model.scale = nn.Parameter(torch.zeros(()))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 4))


def values(draw: random.Random) -> dict[str, Tensor]:
    """Return weights for `Small`, each as its own."""
    generator = torch.Generator().manual_seed(draw.getrandbits(32))
    return {
        name: torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else torch.tensor(draw.randrange(10**6))
        for name, value in Small().state_dict().items()
    }


def rounded(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}


def wrapped(name: str, wrapper: str, at: int) -> str:
    """Return a name with a wrapper's part before its part number `at`, where it has as many."""
    parts = name.split(".")
    return ".".join(parts[:at]) + "." * bool(at) + wrapper + ".".join(parts[at:]) if at < len(parts) else name


def nested(table: object, keys: tuple[str, ...]) -> Any:
    for key in reversed(keys):
        table = {key: table}
    return table


@contextmanager
def foreign(*names: str) -> Iterator[list[type]]:
    """Yield classes of modules that are there only while a file is written; each keeps attributes and items."""
    made: list[type] = []
    modules = {}
    for name in names:
        module, _, own = name.rpartition(".")
        parents = ["", *module.split(".")]
        for depth in range(2, len(parents) + 1):
            dotted = ".".join(parents[1:depth])
            modules.setdefault(dotted, types.ModuleType(dotted))
        made.append(type(own, (dict,) if "Dict" in own else (), {"__module__": module}))
        setattr(modules[module], own, made[-1])
    kept = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield made
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


LIGHTNING = "pytorch_lightning.utilities.parsing.AttributeDict"
CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
OMEGA = "omegaconf.dictconfig.DictConfig"


def beside(draw: random.Random, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return some of what training scripts keep beside the weights; classes of `foreign` are put in when written."""
    parameters = [nn.Parameter(value.float().clone()) for value in weights.values() if value.is_floating_point()]
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kinds: dict[str, Callable[[], Any]] = {
        "epoch": lambda: draw.randrange(1000),
        "global_step": lambda: torch.tensor(draw.randrange(1000)),
        "best_acc1": lambda: torch.tensor(0.7),
        "best_loss": lambda: np.float64(0.3),
        "lr": lambda: np.float32(1e-3),
        "history": lambda: np.arange(5.0),
        "args": lambda: argparse.Namespace(lr=1e-3, data=Path("/data"), betas=(0.9, 0.95)),
        "optimizer": optimizer.state_dict,
        "optimizer_states": lambda: [optimizer.state_dict()],
        "lr_schedulers": lambda: [{"last_epoch": 3, "_last_lr": [1e-3]}],
        "rng": lambda: {"torch": torch.get_rng_state(), "python": draw.getstate(), "numpy": np.random.RandomState(0)},
        "scaler": lambda: {"scale": 65536.0, "_growth_tracker": 0},
        "time": lambda: datetime.datetime(2024, 5, 3),
        "pytorch-lightning_version": lambda: "2.1.0",
        "metrics": lambda: collections.defaultdict(list, {"val": [0.1, 0.2]}),
        "recent": lambda: collections.deque([0.1, 0.2], maxlen=9),
        "counts": lambda: collections.Counter("aab"),
        "names": lambda: {"a", "b"},
        "discriminator": lambda: {"conv.weight": torch.randn(4, 3), "conv.bias": torch.randn(4)},
        "classes": lambda: ["cat", "dog"],
        "loops": lambda: {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "log": lambda: None,
        "dtype": lambda: torch.float16,
        "device": lambda: torch.device("cuda:0"),
        "shape": lambda: torch.Size([3, 4]),
    }
    return {name: kinds[name]() for name in draw.sample(sorted(kinds), draw.randrange(7))}


def dumped(draw: random.Random, content: object, dtype: torch.dtype = torch.float32) -> bytes:
    """Return what `torch.save` writes, in any of its two formats; it cannot read eight bits in the older one."""
    stream, old = io.BytesIO(), draw.random() < 0.3 and dtype.itemsize > 1
    torch.save(content, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def tensors(draw: random.Random, table: dict[str, Tensor]) -> Any:
    """Return a table whose tensors lie in memory as those of real models do."""
    how = draw.choice(["plain", "parameters", "views", "strided", "ordered"])
    if how == "parameters":
        return {name: nn.Parameter(value, requires_grad=value.is_floating_point()) for name, value in table.items()}
    if how == "views":
        return {name: value.expand(2, *value.shape)[1] for name, value in table.items()}
    if how == "strided":
        return {name: value.mT.contiguous().mT if value.ndim > 1 else value for name, value in table.items()}
    if how == "ordered":
        made = collections.OrderedDict(table)
        made._metadata = {"": {"version": 1}}  # as a module's state_dict has it
        return made
    return table


def in_folder(draw: random.Random, folder: Path, table: dict[str, Tensor], dtype: torch.dtype, plain: bool) -> Path:
    """Write a folder of one file, of shards with an index, or of either as a variant."""
    suffix = "safetensors" if plain else draw.choice(["bin", "pt", "pth", "ckpt"])
    stem, variant = draw.choice(STEMS), draw.choice(["", "", *VARIANTS])
    write = (
        (lambda part: packed({k: v.contiguous() for k, v in part.items()}))
        if plain
        else lambda p: dumped(draw, p, dtype)
    )
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# A model\n")
    if draw.random() < 0.4:
        name = f"{stem}.{variant}.{suffix}" if variant else f"{stem}.{suffix}"
        (folder / name).write_bytes(write(table))
        if variant == "" and draw.random() < 0.4:  # a variant or an older format beside is not taken
            other = draw.choice([f"{stem}.fp16.{suffix}", *([f"{stem}.bin"] if plain else [])])
            (folder / other).write_bytes(b"not read")
        return folder
    count = draw.randrange(1, 4)
    names = list(table)
    draw.shuffle(names)
    middle, places = f".{variant}" if variant else "", {}
    end = draw.random() < 0.5
    for number in range(count):
        part = {name: table[name] for name in names[number::count]}
        shard = f"-{number + 1:05}-of-{count:05}"
        file = f"{stem}{middle}{shard}.{suffix}" if end else f"{stem}{shard}{middle}.{suffix}"
        (folder / file).write_bytes(write(part))
        places |= dict.fromkeys(part, file)
    index = f"{stem}.{suffix}.index{middle}.json" if end else f"{stem}{middle}.{suffix}.index.json"
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder


def good(draw: random.Random, folder: Path) -> tuple[Path, dict[str, Tensor], str]:
    """Write a checkpoint; return where, what it holds for `Small`, and what it is in words."""
    own = rounded(values(draw), dtype := draw.choice(DTYPES))
    prefix, wrapper = draw.choice(PREFIXES), draw.choice(["", "", *WRAPPERS])
    at = draw.randrange(4) if wrapper else 0
    table = {wrapped(prefix + name, wrapper, at): value for name, value in own.items()}
    said = f"{dtype}, prefix {prefix!r}, wrapper {wrapper!r} at {at}"
    if (prefix or at == 0) and draw.random() < 0.3:  # other parts of a larger model, which the prefix sets apart
        other = draw.choice(["vae.", "loss.perceptual.", "text_encoder.model."])
        if prefix:
            table |= {
                f"{other}{name}": torch.zeros_like(value)
                for name, value in own.items()
                if not name.startswith("decoder")
            }
            said += f", beside {other}"
    averaged = draw.choice(AVERAGES) if draw.random() < 0.3 else ""
    plain = draw.random() < 0.4
    if plain or draw.random() < 0.2:
        if averaged and (prefix or wrapper):
            table |= {f"{averaged}.{prefix}{name}": torch.zeros_like(value) for name, value in own.items()}
            said += f", and an average in {averaged}"
        if draw.random() < 0.6:
            return in_folder(draw, folder, table, dtype, plain), own, f"{said}, folder"
        name = draw.choice(FILES)
        metadata = {"format": "pt"} if draw.random() < 0.5 else None
        content = (
            packed({k: v.contiguous() for k, v in table.items()}, metadata) if plain else dumped(draw, table, dtype)
        )
        (folder / name).write_bytes(content)
        return folder / name, own, f"{said}, {'safetensors' if plain else 'bare'} in {name}"
    keys = draw.choice(NESTS)
    if draw.random() < 0.05:  # an average alone is taken
        keys, averaged = (draw.choice(AVERAGES),), ""
    content = nested(tensors(draw, table), keys)
    if keys:
        content |= {name: value for name, value in beside(draw, own).items() if name not in content}
        if averaged:
            content[averaged] = {name: torch.zeros_like(value) for name, value in table.items()}
    with foreign(LIGHTNING, CALLBACK, OMEGA) as (hparams, callback, config):
        if keys and draw.random() < 0.3:
            content["hyper_parameters"] = hparams(lr=1e-3, sizes=[1, 2])
            content["callbacks"] = {callback: {"best_model_score": torch.tensor(0.5), "best_model_path": "/x/y.ckpt"}}
        if keys and draw.random() < 0.2:
            content["config"] = config(model={"width": 4})
        data = dumped(draw, content, dtype)
    name = draw.choice(FILES)
    (folder / name).write_bytes(data)
    return folder / name, own, f"{said}, under {keys} beside {sorted(map(str, content))}, in {name}"


def groups(count: int) -> list[int]:
    return list(range(0, count, GROUP))


@pytest.mark.parametrize("first", groups(GOOD))
def test_a_generated_checkpoint_loads_to_exactly_its_tensors(first, tmp_path):
    wrong = []
    for number in range(first, first + GROUP):
        folder = tmp_path / str(number)
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path, expected, said = good(random.Random(number), folder)
        model = Small()
        try:
            load(model, path)
        except Exception as error:  # of any kind: the case is named first
            wrong.append(f"{number} ({said}): {type(error).__name__}: {error}")
            continue
        found = model.state_dict()
        wrong += [
            f"{number} ({said}): {name}"
            for name, value in expected.items()
            if not torch.equal(found[name], value.to(found[name].dtype))
        ]
    assert wrong == []


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


def text(words: str, *marks: bytes) -> Callable[[random.Random, Path], tuple[Path, str]]:
    """Return what writes a file that begins with one of some `marks`, to be refused in these `words`."""

    def write(draw: random.Random, folder: Path) -> tuple[Path, str]:
        path = folder / draw.choice([name for name in FILES if "." in name])
        path.write_bytes(draw.choice(marks))
        return path, words

    return write


def cut(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """Write a part of a checkpoint, as a download that broke off leaves it."""
    table = rounded(values(draw), draw.choice([torch.float32, torch.float16]))
    plain = draw.random() < 0.5
    data = packed(table) if plain else dumped(draw, table)
    path = folder / draw.choice(FILES)
    path.write_bytes(data[: draw.randrange(16, len(data))])
    return path, r"no complete (safetensors file|checkpoint of plain tensors: it is damaged).*(download|as safetensors)"


def filled(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """Write a checkpoint whose end is zeros, as a download that sets the size first leaves it."""
    data = dumped(random.Random(draw.random()), values(draw))
    keep = draw.randrange(16, len(data) // 2)
    (folder / "weights.pth").write_bytes(data[:keep] + bytes(len(data) - keep))
    return folder / "weights.pth", r"no complete checkpoint of plain tensors: it is damaged"


def scripted(draw: random.Random, folder: Path) -> tuple[Path, str]:
    path = folder / draw.choice(FILES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.jit.save(torch.jit.script(Scripted()), str(path))
    return path, "TorchScript archive, which is code"


def foreign_class(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """Write a pickle that names a class or a function that a reader must not make or call."""
    name = draw.choice(["my_project.models.Net", "timm.models.Net", "__main__.Net", "requests.sessions.Session"])
    content: Any
    with foreign("my_project.models.Net" if name == "__main__.Net" else name) as (made,):
        if name == "__main__.Net":
            made.__module__ = "__main__"
            sys.modules["__main__"].Net = made  # type: ignore[attr-defined]
        content = draw.choice([{"x": made()}, {"model": values(draw), "extra": made()}, {"state_dict": made}])
        if draw.random() < 0.2:
            content, name = draw.choice([({"x": Call()}, r"(posix|nt)\.system"), ({"x": Get()}, "getattr")])
        data = (
            dumped(draw, content)
            if draw.random() < 0.8
            else pickle.dumps(content["x"] if "x" in content else made(), 2)
        )
    path = folder / draw.choice(FILES)
    path.write_bytes(data)
    return path, rf"names ([\w.]*\.)?{name}, and reading that could run code"


class Call:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


class Get:
    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, ("a", "upper")


def misshapen(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """Write a checkpoint of another size, without a tensor, or with one too many, behind a prefix or not."""
    table, prefix = values(draw), draw.choice(["", "model.", "module."])
    name = draw.choice(sorted(name for name, value in table.items() if value.ndim))
    how = draw.choice(["shape", "missing", "more"])
    if how == "shape":
        table[name] = torch.zeros(*table[name].shape, 2) if draw.random() < 0.5 else torch.zeros(7)
        words = rf"other shapes: {name} is \[.*\] in the file and \[.*\] in the model"
    elif how == "missing":
        del table[name]
        words = f"missing: {name}"
    else:
        table[f"{name}.extra"] = torch.zeros(2)
        words = f"not in the model: {name}.extra"
    table = {prefix + name: value for name, value in table.items()}
    (folder / "weights.pth").write_bytes(packed(table) if draw.random() < 0.5 else dumped(draw, {"state_dict": table}))
    return folder / "weights.pth", words


def sharded(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """Write a folder of shards of which a part is not as the index says."""
    table = values(draw)
    names, places = list(table), dict[str, str]()
    files = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    for number, file in enumerate(files):
        part = names[number::3]
        (folder / file).write_bytes(packed({name: table[name] for name in part}))
        places |= dict.fromkeys(part, file)
    index, lost = folder / "model.safetensors.index.json", draw.choice(files)
    index.write_text(json.dumps({"weight_map": places}))
    match draw.choice(["shard", "index", "name", "cut", "pointer", "broken", "elsewhere", "page"]):
        case "shard":
            (folder / lost).unlink()
            return folder, rf"{lost}: there is no such file"
        case "index":
            index.unlink()
            return folder, r"no weights in this folder; the parts .* come without their index"
        case "name":
            name = draw.choice([name for name, file in places.items() if file == lost])
            (folder / lost).write_bytes(
                packed({n: table[n] for n, file in places.items() if file == lost and n != name})
            )
            return folder, rf"{lost} has no {name}, which the index says"
        case "cut":
            data = (folder / lost).read_bytes()
            (folder / lost).write_bytes(data[: draw.randrange(16, len(data))])
            return folder, rf"{lost}: this is no complete safetensors file"
        case "pointer":
            (folder / lost).write_bytes(POINTER)
            return folder, rf"{lost}: .*pointer of Git LFS"
        case "broken":
            index.write_text(draw.choice(["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}']))
            return folder, r"this is no index of weights"
        case "elsewhere":
            index.write_text(json.dumps({"weight_map": dict.fromkeys(places, "../../model.safetensors")}))
            return folder, r"this is no index of weights \(a part that is not a file beside it\)"
        case _:
            index.write_text("<!DOCTYPE html>")
            return folder, r"this is no index of weights"


def undecided(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """Write what may mean several things, or nothing."""
    one, two = values(draw), values(draw)
    match draw.choice(["two models", "two files", "no weights", "empty folder", "no table", "strange", "gone"]):
        case "two models":
            names = draw.choice([("student", "teacher"), ("generator", "generator_b"), ("a.model", "b.model")])
            torch.save(dict(zip(names, (one, two), strict=True)), folder / "weights.pth")
            return folder / "weights.pth", rf"several tables fit the model: `{names[0]}`, `{names[1]}`"
        case "two files":
            for name in ("a.safetensors", "b.safetensors"):
                (folder / name).write_bytes(packed(one))
            return folder, r"which are the weights, a\.safetensors, b\.safetensors"
        case "no weights":
            (folder / "config.json").write_text("{}")
            return folder, r"there are no weights in this folder"
        case "empty folder":
            return folder, r"there are no weights in this folder"
        case "no table":
            torch.save({"epoch": 3, "args": argparse.Namespace(lr=1), "history": [1.0]}, folder / "weights.pth")
            return folder / "weights.pth", r"holds no table of tensors; it holds epoch, args, history"
        case "strange":
            torch.save({"one": {"a": torch.ones(2)}, "two": {"b": torch.ones(2)}}, folder / "weights.pth")
            return folder / "weights.pth", r"none of its tables has the names that the model wants: `one` .*, `two`"
        case _:
            return folder / "weights.pth", r"there is no such file"


def packaged(draw: random.Random, folder: Path) -> tuple[Path, str]:
    """Write a checkpoint into an archive of another kind."""
    data, path = dumped(draw, values(draw)), folder / draw.choice(FILES)
    match draw.choice(["gzip", "tar", "zip", "compressed"]):
        case "gzip":
            path.write_bytes(gzip.compress(data))
            return path, "compressed archive; unpack it"
        case "tar":
            (folder / "inner").write_bytes(data)
            with tarfile.open(path, "w", format=draw.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])) as archive:
                archive.add(folder / "inner", "model/weights.pth")
            return path, "tar archive; unpack it"
        case "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("model/weights.pth", data)
            return path, "zip archive of other files"
        case _:
            stream = io.BytesIO()
            torch.save({"a": torch.zeros(999)}, stream)
            with zipfile.ZipFile(stream) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
                for name in old.namelist():
                    new.writestr(name, old.read(name))
            return path, "it is compressed, which torch.save does not do"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 447000000\n"
BREAKS = [
    text(
        r"it is a web page \(HTML\)",
        b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>",
        b"\n\n  <html>" + b" " * 999,
        b"\xef\xbb\xbf<!doctype html>\r\n<html>",
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        b"<!-- saved -->\n<html>",
        "<!DOCTYPE html><title>Anmelden für".encode("utf-16"),
    ),
    text("pointer of Git LFS", POINTER, POINTER.replace(b"\n", b"\r\n")),
    text(
        r"it is JSON",
        b'{"error": "Unauthorized"}',
        b'[{"id": 3}]',
        b'{\n  "metadata": {},\n  "weight_map": {}\n}',
        b'\xef\xbb\xbf{"a": 1}',
    ),
    text("it is empty", b""),
    text(
        "it is text",
        b"Entry not found",
        b"404: Not Found",
        b"Repository not found\n",
        b"Access to model acme/mae is restricted. You must be authenticated to access it.",
        b"name: tiny\nseed: 3\n",
        "# Gewichte für die Öffentlichkeit\n".encode(),
    ),
    text("compressed archive", b"BZh91AY&SY", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"),
    text("no complete", bytes(4096), b"\x80\x02", b"\x80\x04\x95", b"PK\x03\x04", random.Random(0).randbytes(999)),
    text(r"array of numpy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}"),
    text("HDF5", b"\x89HDF\r\n\x1a\n"),
    text("GGUF", b"GGUF\x03\x00\x00\x00"),
    text("picture or a document", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"\xff\xd8\xff\xe0"),
    cut, cut, filled, scripted, foreign_class, foreign_class, misshapen, misshapen, sharded, sharded, undecided,
    packaged,
]  # fmt: skip


def broken(number: int, folder: Path) -> tuple[Path, str]:
    """Write a broken checkpoint; return where, and the words that tell its reason."""
    return BREAKS[number % len(BREAKS)](random.Random(number), folder)


@pytest.mark.parametrize("first", groups(BROKEN))
def test_a_broken_checkpoint_is_refused_with_its_reason_and_runs_nothing(first, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    wrong = []
    for number in range(first, first + GROUP):
        folder = tmp_path / str(number)
        folder.mkdir()
        path, words = broken(number, folder)
        model = Small()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            load(model, path)
            said = "loaded"
        except UserError as error:
            said = str(error)
        if not re.search(words, said) or "\n" in said or not said.startswith(str(folder)):
            wrong.append(f"{number}: {said}, and not {words}")
        if not all(torch.equal(value, before[name]) for name, value in model.state_dict().items()):
            wrong.append(f"{number}: something was copied")
    assert wrong == []
    assert list((tmp_path / "here").iterdir()) == []
