"""spandrel's networks: each is loaded, unlearned, exported, and read again by plain spandrel."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import spandrel
import torch
import unlearnkit_spandrel.network  # registers MI-GAN
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tiny_networks import TINY
from torch import nn
from unlearnkit_spandrel import Spandrel
from unlearnkit_spandrel.cutting import cut, located
from unlearnkit_spandrel.families import CUTS, REFUSED

from unlearnkit.builtin.tasks.sections import CenterCrop, LowResolution, Reconstruction
from unlearnkit.contracts import parts, trainable
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import Exit, UserError
from unlearnkit.testing import check_model, check_plugin

# What spandrel's own code and layers of no entries bring about.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in ("torch.meshgrid", "Initializing zero-element tensors", "'saved_variables' is deprecated")
]

RECIPE = """\
name: tiny
model: {{kind: spandrel, weights: {weights}, image_size: {size}}}
data:
  source: {{kind: image-folder, root: pictures}}
  forget: {{classes: [red]}}
  retain: {{classes: [green]}}
  per_class: {{train: 2, validation: 1}}
task: {task}
forget: {{kind: noise-embedding}}
epsilons: {{fractions: [0.5]}}
sweep: {{kind: independent}}
training: {{optimizer: {{kind: sgd, lr: {rate}}}, batch_size: 2, steps: 2, checks: 1, device: cpu}}
evaluate: {{metrics: [{{kind: psnr}}], images: 1}}
"""


def network(name: str) -> nn.Module:
    kind, arguments, _ = TINY[name]
    torch.manual_seed(0)
    architecture = spandrel.MAIN_REGISTRY[name].architecture
    return getattr(importlib.import_module(type(architecture).__module__), kind)(**arguments)


def written(name: str, folder: Path) -> Path:
    path = folder / f"{name}.safetensors"
    save_file({key: value.clone() for key, value in network(name).state_dict().items()}, path)
    return path


def shown(path: Path, images: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return what plain spandrel's own call API gives, image by image."""
    found = spandrel.ModelLoader().load_from_file(path)
    found.model.eval()
    masked = isinstance(found, spandrel.MaskedImageModelDescriptor)
    pairs = zip(images.split(1), hidden.float().split(1), strict=True)
    with torch.no_grad():
        return torch.cat([found(one.clone(), mask) if masked else found(one.clone()) for one, mask in pairs])


def scale(path: Path) -> int:
    return spandrel.ModelLoader().load_from_file(path).scale


INPAINTING = ("LaMa", "MIGAN")


def task(name: str, factor: int) -> str:
    if name in INPAINTING:
        return "{kind: center-crop}"
    return f"{{kind: low-resolution, factor: {factor}}}" if factor > 1 else "{kind: reconstruction}"


def pictures(root: Path, side: int) -> None:
    for number, label in enumerate(("red", "green")):
        (root / "pictures" / label).mkdir(parents=True)
        for place in range(4):
            pixels = np.random.default_rng([number, place]).integers(0, 255, (side, side, 3), dtype=np.uint8)
            pixels[..., number] //= 2
            Image.fromarray(pixels).save(root / "pictures" / label / f"{place}.png")


TOLERANCE = {"SPAN": 1e-4}
"""SPAN folds its weights for inference, in another order of sums; all others are equal to the bit."""


RATE = {"MoSR": "0.1"}
"""Where 10⁻⁵ moves f1 by less than it is rounded on some processors."""

SLOW = (
    "ATD", "CRAFT", "DCTLSA", "DRCT", "FBCNN", "FFTformer", "GRL", "HVICIDNet", "LaMa", "MixDehazeNet", "MoESR", "RGT",
    "RealCUGAN", "RestoreFormer", "SCUNet", "SwinIR", "Uformer",
)  # fmt: skip
"""Those that cannot be made small, or take more than four seconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TINY]
)
def test_an_architecture_is_unlearned_and_read_again_by_plain_spandrel(tmp_path, unlearnkit, name):
    """Two steps, an export, and the same output from spandrel's own call API, with the file's own keys."""
    weights = written(name, tmp_path)
    factor = scale(weights)
    size = TINY[name][2] * factor
    pictures(tmp_path, size)
    recipe = tmp_path / "recipe.yaml"
    rate = RATE.get(name, "1.0e-5")
    recipe.write_text(RECIPE.format(weights=weights.name, size=size, task=task(name, factor), rate=rate))
    run, out = tmp_path / "run", tmp_path / "out"
    unlearnkit("run", recipe, "--to", run).succeeded()
    unlearnkit("export", run, "--epsilon", "epsilon-at-0.5", "--to", out).succeeded()
    section = Spandrel(kind="spandrel", image_size=size)
    adapter, before = section.build(out), section.build(weights)
    adapter.module.eval(), before.module.eval()
    one = CenterCrop(kind="center-crop") if name in INPAINTING else Reconstruction(kind="reconstruction")
    kind = LowResolution(kind="low-resolution", factor=factor) if factor > 1 else one
    view = view_of(adapter, kind.build(), torch.rand(1, 3, size, size, generator=seeded("view")), seeded("t"))
    with torch.no_grad():
        ours = adapter.decode(adapter.embed(view), view).clamp(0, 1)
        moved = [not torch.equal(a, b) for a, b in zip(trainable(adapter), trainable(before), strict=True)]
    theirs = shown(out / "model.safetensors", view.images, view.hidden)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE.get(name, 0))
    assert spandrel.ModelLoader().load_from_file(out / "model.safetensors").architecture.id == name
    assert load_file(out / "model.safetensors").keys() == load_file(weights).keys()
    assert any(moved)
    assert not any(moved[len(trainable(adapter, "encoder")) :])
    assert (run / "report.html").exists()


def test_every_architecture_of_spandrel_is_tested_or_refused():
    known = {one.architecture.id for one in spandrel.MAIN_REGISTRY.architectures()}
    assert {*TINY, *REFUSED} == known
    assert not {*TINY} & {*REFUSED}
    assert {*CUTS} == {*TINY}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_unlearned_is_refused_by_name(monkeypatch, tmp_path, name):
    architecture = next(
        one.architecture for one in spandrel.MAIN_REGISTRY.architectures() if one.architecture.id == name
    )
    found = spandrel.MAIN_REGISTRY.load(dict(network("NAFNet").state_dict()))
    found._architecture = architecture  # its weights are of hundreds of megabytes
    monkeypatch.setattr(spandrel.MAIN_REGISTRY, "load", lambda state: found)
    with pytest.raises(UserError, match=f"model: {name} cannot be unlearned, for it .*; take another network"):
        Spandrel(kind="spandrel", image_size=16).build(written("NAFNet", tmp_path))


COMPACT = {"architecture": "Compact", "arguments": {"num_feat": 8, "num_conv": 2, "upscale": 2}}


@pytest.mark.parametrize("name", ["Compact", "NAFNet", "SwinIR", "PLKSR"])
def test_the_contract(tmp_path, name):
    size, arguments = TINY[name][2] * scale(written(name, tmp_path)), TINY[name][1]
    check_model(Spandrel(kind="spandrel", image_size=size, architecture=name, arguments=arguments))


def test_the_package(tmp_path):
    assert check_plugin(unlearnkit_spandrel, tmp_path, {"spandrel": {"image_size": 32, **COMPACT}}) == ["spandrel"]


def test_any_size_that_the_network_takes(tmp_path):
    check_model(Spandrel(kind="spandrel", image_size=(24, 40), **COMPACT))
    weights = written("FFTformer", tmp_path)
    with pytest.raises(UserError, match=r"48 x 64 px do not suit FFTformer; give at least 32 px, in steps of 32"):
        Spandrel(kind="spandrel", image_size=(48, 64)).build(weights)
    with pytest.raises(UserError, match=r"31 x 31 px do not suit Compact; give at least 2 px, in steps of 2"):
        Spandrel(kind="spandrel", image_size=31, **COMPACT).build(None)


def test_an_export_of_more_tensors_than_bf16_counts_has_the_keys_that_the_file_had(tmp_path):
    state = renamed(tmp_path)
    for name in [name for name in state if name.startswith("body.0.")]:
        state |= {name.replace("body.0.", f"body.{number}."): state[name].clone() for number in range(2, 10)}
    state = {name: value.to(torch.bfloat16) for name, value in state.items()}
    assert len(state) > 257
    torch.save(state, tmp_path / "given.pth")
    adapter = Spandrel(kind="spandrel", image_size=32).build(tmp_path / "given.pth")
    (tmp_path / "out").mkdir()
    adapter.save(tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name].float(), state[name].float()) for name in state)


def renamed(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Return an ESRGAN by the names of BasicSR, which are not those of spandrel's network."""
    state, names = network("ESRGAN").state_dict(), {}
    simple = {"model.0": "conv_first", "model.1.sub.2": "conv_body", "model.3": "conv_up1", "model.5": "conv_hr",
              "model.7": "conv_last"}  # fmt: skip
    for name in state:
        head, _, kind = name.rpartition(".")
        if head in simple:
            names[name] = f"{simple[head]}.{kind}"
        else:
            _, _, _, block, dense, conv, *_ = name.split(".")
            names[name] = f"body.{block}.{dense.lower()}.{conv}.{kind}"
    return {names[name]: value.clone() for name, value in state.items()}


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"params": {}, "params_ema": state}])
def test_an_export_has_the_keys_that_the_file_had(tmp_path, wrap):
    state = renamed(tmp_path)
    torch.save(wrap(state), tmp_path / "given.pth")
    adapter = Spandrel(kind="spandrel", image_size=32).build(tmp_path / "given.pth")
    (tmp_path / "out").mkdir()
    adapter.save(tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_an_untrained_network_has_the_sizes_of_the_weights(tmp_path):
    from unlearnkit.recipe.sections import placed

    weights = written("Compact", tmp_path)
    section = placed(Spandrel(kind="spandrel", image_size=32, weights=weights.name), tmp_path)
    fresh, old = section.build(None), section.build(weights)
    pairs = [*zip(trainable(fresh), trainable(old), strict=True)]
    assert all(a.shape == b.shape for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_weights_that_diverged_are_refused(tmp_path):
    weights = written("Compact", tmp_path)
    state = load_file(weights)
    next(iter(state.values())).view(-1)[0] = torch.nan
    save_file(state, weights)
    with pytest.raises(UserError, match="the weights have numbers that are NaN or infinite: 1 of"):
        Spandrel(kind="spandrel", image_size=32).build(weights)


def test_where_the_cut_is_decides_what_is_trained_and_what_the_embedding_is(tmp_path):
    weights = written("NAFNet", tmp_path)
    sizes = {}
    for path in ("intro", "encoders.0", "downs", "middle_blks", "decoders"):
        adapter = Spandrel(kind="spandrel", image_size=16, cut=path).build(weights)
        view = view_of(adapter, Reconstruction(kind="reconstruction").build(), torch.rand(2, 3, 16, 16), seeded())
        with torch.no_grad():
            embedding = adapter.embed(view)
            output = adapter.decode(embedding, view).clamp(0, 1)
        torch.testing.assert_close(output, shown(weights, view.images, view.hidden), rtol=0, atol=1e-5)
        sizes[path] = sum(p.numel() for p in trainable(adapter, "encoder")), len(parts(embedding))
    trained = [size for size, _ in sizes.values()]
    assert trained == sorted(trained)
    assert [count for _, count in sizes.values()] == [1, 1, 3, 3, 1]


class Twice(nn.Module):
    """A layer that runs before and after another."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.bare = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU()
        self.list, self.unused = nn.ModuleList([nn.Conv2d(3, 3, 1)]), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.a(self.bare(self.list[0](self.b(self.a(x)))))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("c", "there is no 'c'; the network has: a, b, bare, list, unused"),
        ("list.-2", "there is no '-2'; list has: 0"),
        ("a", "it runs more than once"),
        ("b", "a runs before it and after it"),
        ("bare", "it has no parameters"),
        ("unused", "it is not run as a module of its own"),
    ],
)
def test_a_cut_that_is_none_is_refused(path, found):
    with pytest.raises(ValueError, match=found):
        cut(Twice(), path, lambda net: net(torch.rand(2, 3, 4, 4, generator=seeded())))
    assert located(Twice(), "list") == "list.0"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"architecture": "Compakt"}, r"model\.architecture: spandrel has no 'Compakt'; it has: ATD, AuraSR"),
        ({"architecture": "Compact", "arguments": {"nf": 1}}, r"model\.arguments: Compact does not take them"),
        ({}, "model: a network of spandrel's needs `weights`, or an `architecture`"),
        ({"architecture": "Compact", "arguments": {"num_in_ch": 1, "num_out_ch": 1}}, "goes from 1 channels to 1"),
        ({"architecture": "Compact", "cut": "tail"}, r"model\.cut: Compact cannot be cut after 'tail': there is no"),
    ],
)
def test_what_does_not_fit_is_told_with_its_field(fields, found):
    with pytest.raises(UserError, match=found) as raised:
        Spandrel(kind="spandrel", image_size=32, **fields).build(None)
    assert raised.value.code == Exit.RECIPE


def test_what_is_no_network_of_spandrels_is_told(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    section = Spandrel(kind="spandrel", image_size=32)
    with pytest.raises(UserError, match=r"other.safetensors: spandrel detects no architecture in it"):
        section.build(tmp_path / "other.safetensors")
    broken = {name: value for name, value in network("Compact").state_dict().items() if name != "body.2.bias"}
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(UserError, match=r"broken.safetensors: spandrel cannot load it"):
        section.build(tmp_path / "broken.safetensors")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list.pth: it holds no table of weights"):
        section.build(tmp_path / "list.pth")
    with pytest.raises(ValidationError, match="arguments are those of an architecture"):
        Spandrel(kind="spandrel", arguments={"a": 1})
