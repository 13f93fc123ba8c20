"""Nothing that is read runs code, and text from outside arrives as text: a corpus of files made to do otherwise.

Every payload, where it is run, writes the file CANARY or removes the file KEPT, both in the working folder of the test.
"""

import builtins
import gzip
import importlib
import io
import json
import os
import pickle
import pty
import shutil
import struct
import subprocess
import tarfile
import zipfile
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image
from safetensors.torch import save, save_file
from tiny_task import MODEL, ran, write_tiny

from unlearnkit.builtin.extractors.sections import ExportedModule
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.report.card import card
from unlearnkit.report.comparison import write as compare
from unlearnkit.report.comparison.grids import Grid
from unlearnkit.report.markdown import plain
from unlearnkit.report.statement import claims, statement
from unlearnkit.report.tables import Column
from unlearnkit.seal import Sealed
from unlearnkit.weights import read

CANARY, KEPT = "canary", "kept"
TOUCH = f"__import__('pathlib').Path({CANARY!r}).touch()"
SHELL = f"touch {CANARY}"


class Call:
    """What unpickles into a call."""

    def __init__(self, function, *arguments, state=None):
        self.made = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.made


def spoken(module: str, name: str, argument: str) -> bytes:
    """Write a call in the oldest protocol, which torch's and Python's own readers both know."""
    return f"c{module}\n{name}\n(S{argument!r}\ntR.".encode()


def saved(value: object, **options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


class Script(torch.nn.Module):
    """A module whose TorchScript writes a file when it is loaded."""

    def __init__(self, canary: str):
        super().__init__()
        self.weight, self.canary = torch.nn.Parameter(torch.ones(2)), canary

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.canary

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, str]):
        self.weight, self.canary, self.training = state[0], state[1], False
        torch.save(self.weight, self.canary)

    def forward(self, x):
        return x * self.weight


def script() -> bytes:
    stream = io.BytesIO()
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.save(torch.jit.script(Script(CANARY)), stream)
    return stream.getvalue()


GETATTR = Call(getattr, Call(importlib.import_module, "os"), "system")
CALLS = {
    "os.system": Call(os.system, SHELL),
    "os.unlink": Call(os.unlink, KEPT),
    "shutil.rmtree": Call(shutil.rmtree, "."),
    "subprocess": Call(subprocess.check_call, ["touch", CANARY]),
    "pty": Call(pty.spawn, ["touch", CANARY]),
    "pathlib": Call(Path.touch, Path(CANARY)),
    "open": Call(open, CANARY, "w"),
    "eval": Call(builtins.eval, TOUCH),
    "exec": Call(builtins.exec, TOUCH),
    "import": Call(builtins.__import__, "antigravity"),
    "getattr": GETATTR,
    "partial": partial(os.system, SHELL),
    "storage": Call(torch.storage._load_from_bytes, saved(Call(os.system, SHELL))),
    "torch.load": Call(torch.load, "inner.pth", None, None),
    "torch.save": Call(torch.save, 1, CANARY),
    "hub": Call(torch.hub.load_state_dict_from_url, "http://127.0.0.1:9/x.pth"),
    "numpy": Call(np.save, CANARY, 1),
    "state": Call(dict, (), state={"weight": Call(os.system, SHELL)}),
    "key": {Call(os.system, SHELL): torch.ones(2)},
    "beside": {"model": {"weight": torch.ones(2)}, "args": Call(os.system, SHELL)},
}
SPOKEN = [
    ("os", "system", SHELL), ("posix", "system", SHELL), ("nt", "system", SHELL), ("torch", "os.system", SHELL),
    ("torch._utils", "os.system", SHELL), ("torch.jit", "load", "script.pt"), ("runpy", "run_path", "x.py"),
    ("builtins", "eval", TOUCH), ("timeit", "timeit", TOUCH),
]  # fmt: skip


def odd(name: str) -> bytes:
    """Return a file of weights with a shape that no file has, or another thing altogether."""
    legacy = saved({"weight": torch.ones(3)}, _use_new_zipfile_serialization=False)
    good = saved({"weight": torch.ones(999)})
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = [(entry, archive.read(entry)) for entry in archive.namelist()]
    return {
        "empty": b"",
        "page": b"<!DOCTYPE html><script>alert(1)</script>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "json": b'{"weight_map": {}}',
        "gzip": gzip.compress(good),
        "array": struct.pack("<6sBBH", b"\x93NUMPY", 1, 0, 10) + b"{'descr':1}" + pickle.dumps(CALLS["os.system"]),
        "noise": bytes(range(255, 0, -1)) * 9,
        "truncated": good[:1000],
        "nested zip": zipped(("a/data.pkl", zipped(("a/data.pkl", pickle.dumps(CALLS["open"])))), ("a/version", b"3")),
        "ascending": zipped(("../escaped", b"x"), ("a/data.pkl", pickle.dumps(CALLS["open"])), ("/tmp/escaped", b"x")),
        "other zip": zipped(("report.docx", b"x")),
        "bomb": zipped(("a/data.pkl", bytes(2**26)), ("a/version", b"3\n"), compression=zipfile.ZIP_DEFLATED),
        "compressed": zipped(*members, compression=zipfile.ZIP_DEFLATED),
        "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "long text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
        "long number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
        "storage": legacy.replace(b"K\x03", b"J\xff\xff\xff\x7f"),
        "numbers": saved({1: torch.ones(2)}),
        "meta": saved({"weight": torch.ones(2, device="meta")}),
        "sparse": saved({"weight": torch.eye(2).to_sparse()}),
        "escape": saved({"\x1b[2J\n# forged": torch.ones(2)}),
        "safe escape": save({"\x1b[2J\n# forged": torch.ones(2)}),
        "long header": struct.pack("<Q", 2**31) + b"{",
        "offsets": struct.pack("<Q", 58) + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,999999]}}',
        "list": saved([torch.ones(2)]),
    }[name]  # fmt: skip


ODD = [
    "empty", "page", "pointer", "json", "gzip", "array", "noise", "truncated", "nested zip", "ascending", "other zip",
    "bomb", "compressed", "deep", "long text", "long number", "storage", "numbers", "meta", "sparse", "escape",
    "safe escape", "long header", "offsets", "list",
]  # fmt: skip


@cache
def corpus() -> dict[str, bytes]:
    """Return files of weights by name, their suffixes in turn what they are and what they are not."""
    files = {"script": script()}
    files |= {name: pickle.dumps(value) for name, value in CALLS.items()}
    files |= {f"saved {name}": saved(value) for name, value in CALLS.items()}
    files |= {f"{'.'.join(call[:2])} spoken": spoken(*call) for call in SPOKEN}
    files |= {name: odd(name) for name in ODD}
    suffixes = ("pth", "pt", "ckpt", "bin", "safetensors")
    return {f"{name}.{suffixes[place % 5]}": data for place, (name, data) in enumerate(files.items())}


@pytest.fixture
def inside(tmp_path, monkeypatch) -> Path:
    """Return a folder that is the working folder, one below the test's own, with what must stay as it is."""
    folder = tmp_path / "inside"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / KEPT).write_text("keep me")
    (folder / "x.py").write_text(TOUCH)
    (folder / "inner.pth").write_bytes(saved(CALLS["os.system"]))
    (folder / "script.pt").write_bytes(script())
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(outcome, code: int = Exit.RECIPE) -> str:
    """Return what a command that refused its input said: one message, with no escapes and no advice to run it."""
    said = outcome.out + outcome.err
    assert outcome.code == code, said
    assert all(letter.isprintable() or letter == "\n" for letter in said), said
    for word in ("Traceback", "weights_only", "add_safe_globals", "# forged\n"):
        assert word not in said
    return said


def test_the_payloads_are_payloads(inside):
    """What the corpus is made of does run where it is loaded as its formats are meant to be."""
    for loaded in (
        lambda: pickle.loads(pickle.dumps(CALLS["eval"])),
        lambda: pickle.loads(spoken("posix", "system", SHELL)),
        lambda: torch.load(io.BytesIO(saved(CALLS["beside"])), weights_only=False),
    ):
        loaded()
        (inside / CANARY).unlink()
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.load("script.pt")
    assert (inside / CANARY).exists()


def test_no_file_of_weights_runs_and_each_is_refused_in_one_message(inside):
    files = corpus()
    assert len(files) > 70
    for name, data in files.items():
        path = inside / name
        path.write_bytes(data)
        before = listing(inside.parent)
        with pytest.raises(UserError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), message
        assert "\n" not in message, message
        assert "weights_only" not in message, message
        assert listing(inside.parent) == before, name
        path.unlink()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("script.pth", "TorchScript archive, which is code with weights"),
        ("saved os.system.pt", "it names posix.system, and reading that could run code"),
        ("page.safetensors", "a web page"),
        ("pointer.safetensors", "a pointer of Git LFS"),
        ("empty.bin", "it is empty"),
        ("bomb.pth", "it is compressed"),
        ("deep.pth", "it is damaged or pickles other things"),
    ],
)
def test_commands_refuse_weights_by_what_they_are(inside, unlearnkit, name, words):
    (inside / name).write_bytes(next(data for other, data in corpus().items() if Path(other).stem == Path(name).stem))
    recipe = write_tiny(inside)
    pretrain = inside / "pretrain.yaml"
    pretrain.write_text(
        f"name: tiny\n{MODEL}  weights: {name}\n"
        "data: {source: {kind: image-folder, root: pictures}}\ntasks: [{kind: center-crop}]\n"
        "pretrain: {steps: 1, batch_size: 2, device: cpu}\n"
    )
    before = listing(inside.parent)
    for command in (("run", recipe, "--set", f"model.weights={name}"), ("pretrain", pretrain)):
        assert words in refused(unlearnkit(*command, "--to", "out", cwd=inside))
    unlearnkit("plan", recipe, "--set", f"model.weights={name}", cwd=inside)
    assert listing(inside.parent) == before


def test_a_run_whose_weights_became_a_payload_runs_nothing(inside, unlearnkit):
    recipe = write_tiny(inside)
    section = load(recipe, discover(installed=False)).recipe.model
    save_file(section.build(None).module.state_dict(), inside / "model.pth")
    ran(recipe, inside / "run", "model.weights=model.pth", "training.steps=2", "training.checks=1", "evaluate.images=1")
    for data in (script(), saved(CALLS["beside"])):
        (inside / "model.pth").write_bytes(data)
        before = {name for name in listing(inside.parent) if not name.startswith("inside/run/")}
        for command in (("resume", "run", "--set", "training.steps=3"), ("report", "run")):
            outcome = unlearnkit(*command, cwd=inside)
            assert outcome.code == 0 if command[0] == "report" else outcome.code in (Exit.RECIPE, Exit.FOLDER)
            assert "Traceback" not in outcome.err
        assert {name for name in listing(inside.parent) if not name.startswith("inside/run/")} == before


def test_files_are_read_by_their_content_whatever_their_names(tmp_path):
    tensors = {"weight": torch.arange(3.0)}
    save_file(tensors, tmp_path / "safe.bin")
    torch.save(tensors, tmp_path / "zip.safetensors")
    torch.save(tensors, tmp_path / "legacy.safetensors", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        assert torch.equal(read(path)["weight"], tensors["weight"]), path


def changed(path: Path, to: Path, change) -> None:
    """Copy an exported network with its graph, and the configuration of its weights, as `change` leaves them."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(to, "w") as other:
        files = {name: archive.read(name) for name in archive.namelist()}
        (graph,) = (name for name in files if name.endswith("models/model.json"))
        (weights,) = (name for name in files if name.endswith("model_weights_config.json"))
        parts = json.loads(files[graph]), json.loads(files[weights])
        change(*parts, files)
        for name, data in (files | {graph: json.dumps(parts[0]), weights: json.dumps(parts[1])}).items():
            other.writestr(name, data)


def _pickled(program, weights, files):
    (its, *_) = weights["config"].values()
    its["use_pickle"] = True
    (name,) = (name for name in files if name.endswith(f"weights/{its['path_name']}"))
    files[name] = saved(CALLS["os.system"])


def _calls(target, argument):
    def change(program, weights, files):
        node = program["graph_module"]["graph"]["nodes"][0]
        program["graph_module"]["graph"]["nodes"][0] = node | {"target": target, "inputs": [argument]}

    return change


TEXT = {"name": "command", "arg": {"as_string": SHELL}, "kind": 1}
NETWORKS = {
    "pickled": _pickled,
    "constant": lambda program, weights, files: files.update(
        {name: json.dumps({"config": {"c": {"path_name": "opaque_obj_0", "use_pickle": True}}})
         for name in files if name.endswith("model_constants_config.json")}
    ),
    "os.system": _calls("torch.os.system", TEXT),
    "eval": _calls("torch._utils.builtins.eval", TEXT),
    "aten.save": _calls("torch.ops.aten.save.default", {"name": "filename", "arg": {"as_string": CANARY}, "kind": 1}),
    "aten.from_file": _calls("torch.ops.aten.from_file.default", TEXT),
    "private": _calls("torch.ops.aten.__class__.default", TEXT),
    "argument": _calls("torch.ops.aten.relu.default", {"name": "self", "arg": {"as_operator": "os.system"}, "kind": 1}),
}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """Return a small exported network of images of 16 px."""
    path = tmp_path_factory.mktemp("network") / "good.pt2"
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    exported = torch.export.export(module, (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("b")},))
    torch.export.save(exported, path)
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_are_arithmetic_and_nothing_else(inside, network, name):
    changed(network, inside / "evil.pt2", NETWORKS[name])
    before = listing(inside.parent)
    with pytest.raises(UserError, match="no exported network") as caught:
        ExportedModule(kind="module", weights="evil.pt2", size=16).build(inside, torch.device("cpu"))
    assert "\n" not in str(caught.value)
    assert listing(inside.parent) == before


def test_what_an_exported_network_would_run_beside_its_graph_is_never_read(inside, network):
    """Guards are compiled, expressions evaluated and sample inputs unpickled by torch's own loader."""

    def change(program, weights, files):
        program["guards_code"] = [TOUCH]
        program["graph_module"]["graph"]["sym_int_values"] = {"s": {"as_expr": {"expr_str": TOUCH}}}
        files |= {name: saved(CALLS["eval"]) for name in files if "sample_inputs" in name}
        files["good/data/aotinductor/model/x.so"] = b"\x7fELF"

    changed(network, inside / "evil.pt2", change)
    before = listing(inside.parent)
    build = ExportedModule(kind="module", weights="evil.pt2", size=16).build
    assert build(inside, torch.device("cpu")).width == 4
    assert listing(inside.parent) == before


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n(canary) (w) file\n%%EOF\n"


def picture(name: str) -> bytes:
    """Return a file that stands where a picture should."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(stream, "PNG")
    good = stream.getvalue()
    header = good.index(b"IHDR") + 4
    array = io.BytesIO()
    np.save(array, np.array([CALLS["os.system"]], dtype=object), allow_pickle=True)
    return {
        "postscript": POSTSCRIPT,
        "pickle": pickle.dumps(CALLS["os.system"]),
        "array": array.getvalue(),
        "drawing": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "huge": good[:header] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + good[header + 8 :],
        "truncated": good[:60],
        "empty": b"",
    }[name]


@pytest.mark.parametrize("name", ["postscript", "pickle", "array", "drawing", "huge", "truncated", "empty"])
def test_what_is_no_picture_is_told_by_its_name(inside, unlearnkit, monkeypatch, name):
    programs = inside / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {inside / CANARY}\n")
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    recipe = write_tiny(inside)
    (inside / "pictures" / "red" / "03.png").write_bytes(picture(name))
    before = listing(inside.parent)
    said = refused(unlearnkit("run", recipe, "--to", "out", cwd=inside))
    assert "03.png: not a readable image" in said
    assert listing(inside.parent) == before


def test_exif_that_cannot_be_read_turns_nothing(tmp_path):
    from unlearnkit.builtin.data.pictures import opened, square

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    broken = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHII", 9, 0x8769, 4, 1, 2**31) + b"\xff" * 7
    plain_, turned = tmp_path / "plain.png", tmp_path / "turned.png"
    image.save(plain_)
    image.save(turned, exif=broken[6:])
    one, other = (square(lambda path=path: opened(path), str(path), 16, False) for path in (plain_, turned))
    assert torch.equal(one, other)


def shard(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, data in members:
            info.size = len(data) or info.size
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def member(name: str, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info


SOURCES = {
    "above in a tar": ("{kind: webdataset, shards: a.tar}",
                       {"a.tar": shard((member("../../escaped.jpg"), b"x"), (member("../../escaped.cls"), b"red"))}),
    "links in a tar": ("{kind: webdataset, shards: a.tar}",
                       {"a.tar": shard((member("a.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
                                       (member("a.cls"), b"red"))}),
    "pickle in a tar": ("{kind: webdataset, shards: a.tar, label: pkl}",
                        {"a.tar": shard((member("a.jpg"), b"x"), (member("a.pkl"), pickle.dumps(CALLS["open"])))}),
    "no tar": ("{kind: webdataset, shards: a.tar}", {"a.tar": b"\xff" * 2000}),
    "deep JSON in a tar": ("{kind: webdataset, shards: a.tar, label: json.a}",
                           {"a.tar": shard((member("a.jpg"), b"x"), (member("a.json"), b"[" * 100_000))}),
    "deep JSON": ("{kind: manifest, path: a.jsonl}", {"a.jsonl": b"[" * 100_000}),
    "NUL in a path": ('{kind: manifest, path: "a\\0b"}', {}),
    "NUL in a list": ("{kind: manifest, path: a.csv}", {"a.csv": b"file,label\na\0b.png,red\n"}),
    "long path": (f"{{kind: image-folder, root: {'a' * 5000}}}", {}),
    "nobody's home": ('{kind: image-folder, root: "~nouser/pictures"}', {}),
    "nobody's shards": ('{kind: webdataset, shards: "~nouser/*.tar"}', {}),
    "a sample elsewhere": ("{kind: sample, name: ../..}", {}),
    "batches of pickles": ("{kind: cifar10, root: .}",
                           {f"cifar-10-batches-py/{name}": pickle.dumps(CALLS["os.system"])
                            for name in ("data_batch_1", "data_batch_2", "test_batch", "batches.meta")}),
    "class names that are no text": ("{kind: image-folder, root: odd}", {"odd/r\udcffd/a.png": picture("empty")}),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_sources_of_images_run_and_write_nothing(inside, unlearnkit, name):
    source, files = SOURCES[name]
    for path, data in files.items():
        (inside / path).parent.mkdir(parents=True, exist_ok=True)
        (inside / path).write_bytes(data)
    recipe = write_tiny(inside)
    written = recipe.read_text().replace("{kind: image-folder, root: pictures}", source)
    recipe.write_text(written.replace("{classes: [red]}", "{fraction: 0.5}").replace("{classes: [green, blue]}", "{}"))
    before = listing(inside.parent)
    refused(unlearnkit("run", recipe, "--to", "out", cwd=inside))
    unlearnkit("plan", recipe, cwd=inside)
    assert listing(inside.parent) == before


@pytest.mark.parametrize(
    "tag",
    [
        f"!!python/object/apply:os.system ['{SHELL}']",
        "!!python/name:os.system ''",
        "!!python/module:antigravity ''",
        f"!!python/object/new:subprocess.Popen [[touch, {CANARY}]]",
        f'!<tag:yaml.org,2002:python/object/apply:builtins.eval> ["{TOUCH}"]',
        "&anchor {*anchor : 1}",
    ],
)
def test_tags_of_yaml_run_nothing(inside, unlearnkit, tag):
    recipe = write_tiny(inside)
    recipe.write_text(recipe.read_text().replace("seed: 3", f"seed: {tag}"))
    before = listing(inside.parent)
    for command in ("validate", "plan", "run", "pretrain"):
        refused(unlearnkit(command, recipe, *(["--to", "out"] if command in ("run", "pretrain") else []), cwd=inside))
    assert listing(inside.parent) == before


EVIL = [
    "red\n\n# Forged heading",
    "=cmd|' calc'!A1",
    "<script>alert(1)<script>",
    "[a](javascript:alert(1)) ![b](http:x)",
    "| a | b | `c` $x^2$ \x1b[31m\x07",
    "\\input{x} % \u202egreen ~~s~~",
]


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Path:
    """Return the folder of a finished run whose classes have names that are markup."""
    folder = tmp_path_factory.mktemp("named")
    recipe = write_tiny(folder)
    for label in EVIL:
        shutil.copytree(folder / "pictures" / "red", folder / "pictures" / label)
    forget = f"data.forget={{classes: {json.dumps(EVIL)}}}"
    few = ("data.per_class={train: 2, validation: 1}", "training.steps=2", "training.checks=1", "evaluate.images=1")
    ran(recipe, folder / "run", forget, "epsilons.fractions=[0.5]", *few)
    return folder / "run"


def markup(text: str) -> list[str]:
    """Return the lines of a Markdown text that hold unescaped markup of the class names."""
    signs = ("# Forged", "<script", "](javascript", "](http", "`c`", "$x", "~~s", "\x1b", "\x07", "\u202e")
    found = [line for line in text.split("\n") for sign in signs if sign in line.replace(rf"\{sign}", "")]
    return [line for line in found if not line.startswith("# tiny")]


def test_names_that_are_markup_are_text_in_every_report(named, tmp_path):
    run = shutil.copytree(named, tmp_path / "run")
    compare([Sealed.of(run)], tmp_path / "compared")
    results, manifest = (json.loads((run / f"{name}.json").read_text()) for name in ("results", "manifest"))
    manifest["data"][0] |= {"licence": EVIL[0], "attribution": EVIL[3]}
    manifest["weights"]["ref"] = EVIL[2]
    stated = statement(claims(results, manifest, results["solutions"][0]["id"]), {"model.safetensors": "0" * 64})
    written = card(stated)
    assert [line for line in written.split("\n") if line.startswith("#")] == [
        f"# tiny: {results['solutions'][0]['label']}", "## Evidence", "## Provenance",
    ]  # fmt: skip
    for text in (written, (run / "report.md").read_text(), (tmp_path / "compared/comparison.md").read_text()):
        assert markup(text) == []
    assert "Forged heading" in written
    for page in (run / "report.html", tmp_path / "compared" / "comparison.html"):
        assert "<script>alert" not in page.read_text()


TEXTS = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", " =1", "a\n=1", "＝1"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_no_formula_and_no_command_in_tables(text):
    grid = Grid("x", f"{text}\n\\input{{y}}", "", [Column(text), Column("b")], [[text, "-0.5"], ["[2cm]", "^~\\x"]])
    lines = grid.csv().split("\n")
    assert len(lines) == 4
    for line in lines[:2]:
        assert line.lstrip('"')[:1] in ("'", "a")
    assert lines[1].endswith(",-0.5")
    comment, *head, second, _, _, _, _ = grid.latex().split("\n")
    caption, heads, first = head[2], head[-3], head[-1]
    assert comment.startswith("% ")
    assert caption.endswith(r"\textbackslash{}input\{y\}.}")
    assert heads.count("&") == first.count("&") == 1
    assert second == r"{[}2cm] & \textasciicircum{}\textasciitilde{}\textbackslash{}x \\"


@pytest.mark.parametrize(
    "text", ["# a", "- a", "+ a", "1. a", "1) a", "> a", "===", "---", ":::{raw} html", "~~~", "***", "|a|"]
)
def test_no_line_of_text_starts_a_block(text):
    from markdown_it import MarkdownIt

    (_, inline, _) = MarkdownIt("gfm-like", {"linkify": False}).parse(plain(text))
    assert inline.type == "inline"
    assert "".join(child.content for child in inline.children) == text
