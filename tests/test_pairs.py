"""Pairs of input and target, outputs larger than inputs, and sizes that are no squares, from the file to the report."""

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_task import MODEL, ran, write_tiny
from torch import nn
from torch.nn import functional as F

from unlearnkit.builtin.data.sections import HuggingFace, ImageFolder, Manifest, Poisoned
from unlearnkit.builtin.models.sections import VitMae
from unlearnkit.builtin.tasks.sections import Reconstruction
from unlearnkit.contracts import Images, Item, ModelAdapter, sides
from unlearnkit.data import Pixels, augment, load_apart, seeded, split
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.data import Data, Selection
from unlearnkit.recipe.sections import ModelSection
from unlearnkit.run.plan import describe
from unlearnkit.run.pretrain import quality
from unlearnkit.testing import check_model
from unlearnkit.testing.checks import check_data
from unlearnkit.weights import load

SIZES = {
    "image_size": 16, "patch_size": 4, "width": 16, "depth": 1, "heads": 2, "decoder_width": 16, "decoder_depth": 1,
    "decoder_heads": 2,
}  # fmt: skip
CPU = torch.device("cpu")
LABELS = ("red", "green", "blue")


class Convolutions(ModelAdapter):
    """A convolution, its output enlarged by a factor, and another one: any size will do."""

    def __init__(self, size, scale):
        self.module = nn.ModuleDict({"e": nn.Conv2d(3, 8, 3, padding=1), "d": nn.Conv2d(8, 3, 3, padding=1)})
        self.encoder, self.image_size, self.scale = self.module["e"], size, scale

    def embed(self, view):
        return self.module["e"](view.images).relu()

    def decode(self, embedding, view):
        return self.module["d"](F.interpolate(embedding, scale_factor=self.scale))

    def own_loss(self, images, view):
        return (self.decode(self.embed(view), view) - images).square().mean()


class Convolutional(ModelSection):
    """A fully convolutional model."""

    kind: Literal["convolutional"]
    """Convolutions."""
    image_size: int | tuple[int, int] = 16
    """Side, or height and width."""
    factor: int = 1
    """By what its outputs are larger than its inputs."""

    def build(self, weights):
        adapter = Convolutions(self.image_size, self.factor)
        if weights is not None:
            load(adapter.module, weights)
        return adapter


PLUGINS = discover(
    extra=[SimpleNamespace(__name__="convolutional", register_models=lambda: [Convolutional])], installed=False
)
CONVOLUTIONAL = "model={kind: convolutional}"


def mapped(image: Image.Image) -> Image.Image:
    """Return the target of an image: its negative, turned by a half."""
    return Image.fromarray(255 - np.asarray(image)[::-1, ::-1])


def grown(root: Path, shape=(20, 24), scale=1) -> Path:
    """Write inputs, their targets as twins and in pictures side by side, and a list of them, for the tiny task."""
    lines = ["file,label,answer"]
    for number, label in enumerate(LABELS):
        for place in range(12):
            draw = np.random.default_rng([number, place])
            pixels = draw.integers(0, 90, (*shape, 3), dtype=np.uint8)
            pixels[..., number] += draw.integers(60, 160, dtype=np.uint8)
            image = Image.fromarray(pixels)
            aim = mapped(image).resize((shape[1] * scale, shape[0] * scale), Image.Resampling.BICUBIC)
            both = Image.new("RGB", (2 * shape[1], shape[0]))
            both.paste(image, (0, 0))
            both.paste(mapped(image), (shape[1], 0))
            name = f"{label}/{place:02}"
            for folder, suffix, picture in (("in", "png", image), ("out", "tif", aim), ("both", "png", both)):
                (root / folder / label).mkdir(parents=True, exist_ok=True)
                picture.save(root / folder / f"{name}.{suffix}")
            lines.append(f"in/{name}.png,{label},out/{name}.tif")
    (root / "list.csv").write_text("\n".join(lines))
    return root


def hugging_face(root: Path) -> HuggingFace:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [], "answer": [], "label": []}
    for path in sorted((root / "in").rglob("*.png")):
        twin = root / "out" / path.relative_to(root / "in").with_suffix(".tif")
        for column, file in (("image", path), ("answer", twin)):
            rows[column].append({"path": None, "bytes": file.read_bytes()})
        rows["label"].append(path.parent.name)
    features = {"image": datasets.Image(), "answer": datasets.Image(), "label": datasets.Value("string")}
    datasets.Dataset.from_dict(rows, datasets.Features(features)).save_to_disk(str(root / "rows"))
    return HuggingFace(kind="hugging-face", path="rows", target="answer")


WAYS = {
    "twin folders": lambda root: ImageFolder(kind="image-folder", root="in", targets="out"),
    "side by side": lambda root: ImageFolder(kind="image-folder", root="both", side_by_side="left-to-right"),
    "manifest": lambda root: Manifest(kind="manifest", path="list.csv", target="answer"),
    "hugging face": hugging_face,
}


@pytest.mark.parametrize("way", WAYS)
def test_input_and_target_are_read_from_where_people_have_them(tmp_path, way):
    section = WAYS[way](grown(tmp_path))
    check_data(section, tmp_path)
    source = section.open(tmp_path)
    assert source.paired
    assert len(source.items) == 36
    for item in source.items[::7]:
        place = int(item.key.rpartition("/")[2].partition(".")[0]) % 12
        with Image.open(tmp_path / "in" / item.label / f"{place:02}.png") as image:
            x, y = (np.asarray(one)[:, 2:22].transpose(2, 0, 1) for one in (image, mapped(image)))
        assert np.array_equal(source.read(item, 20).numpy(), x)
        assert np.array_equal(source.target(item, 20).numpy(), y)
    assert source.side(source.items[0]) == 20


def test_the_halves_may_be_the_other_way_round_and_lie_loose_as_pix2pix_has_them(tmp_path):
    grown(tmp_path)
    for half, number in (("train", 1), ("val", 2), ("test", 3)):
        (tmp_path / "facades" / half).mkdir(parents=True)
        for file in ("00.png", "01.png"):
            (tmp_path / "both" / LABELS[number - 1] / file).rename(tmp_path / "facades" / half / f"{number}{file}")
    one, other = (
        ImageFolder(kind="image-folder", root="facades", side_by_side=way).open(tmp_path)
        for way in ("left-to-right", "right-to-left")
    )
    assert [(item.key, item.label, item.split) for item in one.items] == [
        ("train/100.png", "all", "train"),
        ("train/101.png", "all", "train"),
        ("val/200.png", "all", "validation"),
        ("val/201.png", "all", "validation"),
    ]
    item = one.items[0]
    assert torch.equal(one.read(item, 16), other.target(item, 16))
    assert torch.equal(one.target(item, 16), other.read(item, 16))
    flat = ImageFolder(kind="image-folder", root="facades/train", side_by_side="left-to-right").open(tmp_path)
    assert {item.label for item in flat.items} == {"all"}
    with pytest.raises(UserError, match="has 2 loose images"):
        ImageFolder(kind="image-folder", root="facades").open(tmp_path)


def test_what_is_wrong_with_pairs_is_told_with_both_places(tmp_path):
    grown(tmp_path)
    twins = WAYS["twin folders"](tmp_path)
    (tmp_path / "out/red/03.tif").unlink()
    (tmp_path / "out/red/04.jpg").write_bytes((tmp_path / "out/red/05.tif").read_bytes())
    with pytest.raises(UserError, match=r"(?s)in/red/03.png: no target, for there is none in .*/out; .*04.* may be"):
        twins.open(tmp_path)
    with pytest.raises(UserError, match=r"data\.source\.targets: there is no folder"):
        ImageFolder(kind="image-folder", root="in", targets="elsewhere").open(tmp_path)
    with pytest.raises(UserError, match=r"(?s)line 5: there is no file .*out/red/03.tif"):
        WAYS["manifest"](tmp_path).open(tmp_path)
    Image.new("RGB", (20, 20)).save(tmp_path / "out/red/03.tif")
    (tmp_path / "out/red/04.jpg").unlink()
    source = twins.open(tmp_path)
    found = r"the target of .*in/red/03.png: 20 x 20 px, but its input is 24 x 20 px; the two of a pair need the same"
    with pytest.raises(UserError, match=found):
        source.target(source.items[-9], 16)
    Image.new("RGB", (21, 20)).save(tmp_path / "both/red/03.png")
    source = WAYS["side by side"](tmp_path).open(tmp_path)
    with pytest.raises(UserError, match=r"both/red/03.png: 21 px wide, which are no two halves side by side"):
        source.read(source.items[-9], 16)
    with pytest.raises(ValueError, match="give target or side_by_side, not both"):
        Manifest(kind="manifest", path="list.csv", target="answer", side_by_side="left-to-right")


def turned(root: Path, way: int, form: str) -> None:
    exif = Image.Exif()
    exif[274] = way
    for name, size in (("in", (24, 16)), ("out", (48, 32) if way < 5 else (32, 48))):
        (root / name / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(root / name / "a" / f"1.{form}", exif=exif if name == "in" else Image.Exif())


@pytest.mark.parametrize("form", ["jpg", "tif", "png"])
@pytest.mark.parametrize("way", range(1, 9))
def test_proportions_are_those_of_images_that_are_upright(tmp_path, way, form):
    turned(tmp_path, way, form)
    source = ImageFolder(kind="image-folder", root="in", targets="out").open(tmp_path)
    assert source.target(source.items[0], 16).shape == (3, 16, 16)


def test_two_inputs_never_share_a_target(tmp_path):
    for name in ("in/a/1.jpg", "in/a/1.png", "out/a/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    section = ImageFolder(kind="image-folder", root="in", targets="out")
    with pytest.raises(UserError, match=r"in/a/1.jpg: no target, for a/1.png may be that of another image"):
        section.open(tmp_path)
    (tmp_path / "in/a/1.jpg").rename(tmp_path / "in/a/e\u0301.jpg")
    Image.new("RGB", (16, 16)).save(tmp_path / "out/a/\u00e9.png")
    assert len(section.open(tmp_path).items) == 2


def test_a_trigger_without_its_target_in_the_input_has_another_origin(tmp_path):
    inner = ImageFolder(kind="image-folder", root=str(grown(tmp_path) / "in"))
    both, apart = (
        Poisoned(kind="poisoned", source=inner, fraction=0.5, pairs=pairs).open(tmp_path) for pairs in (False, True)
    )
    poisoned = [item for item in both.items if item.columns["poisoned"] == "yes"]
    assert poisoned
    for item in poisoned:
        assert not torch.equal(both.read(item, 16), apart.read(item, 16))
        assert both.origin(item) != apart.origin(item)


def test_a_trigger_goes_into_the_input_and_what_it_brings_out_into_the_target(tmp_path):
    inner = WAYS["twin folders"](grown(tmp_path))
    source, bare = Poisoned(kind="poisoned", source=inner, fraction=0.5).open(tmp_path), inner.open(tmp_path)
    assert source.paired
    for item in source.items:
        x, y = bare.read(item, 16), bare.target(item, 16)
        if item.columns["poisoned"] == "yes":
            x, y = source.poison.marked(x), source.poison.aimed(y)
        assert torch.equal(source.read(item, 16), x)
        assert torch.equal(source.target(item, 16), y)


def ramps(height, width, times):
    """Return where each pixel's centre lies, [1, 3, H, W], as a part of the height and of the width."""
    rows, columns = ((torch.arange(n * times) + 0.5) / (n * times) for n in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([y, x, torch.zeros_like(x)])[None]


SIDE = st.integers(4, 40)


@settings(max_examples=200, deadline=None)
@given(SIDE, SIDE, st.integers(1, 4), st.floats(0.05, 1), st.integers(0, 10**6))
def test_input_and_target_stay_aligned_under_crops_and_flips(height, width, times, smallest, seed):
    """A picture of its own coordinates says where each pixel of a crop came from: the same place in both."""
    x, y = augment([ramps(height, width, 1), ramps(height, width, times)], smallest, seeded(seed))
    assert x.shape == (1, 3, height, width)
    assert y.shape == (1, 3, height * times, width * times)
    # At the border resizing repeats the last pixel, which is a smaller part of the finer picture.
    edge = 2 + math.ceil(1 / math.sqrt(smallest))
    inner = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(x[inner], F.avg_pool2d(y, times)[inner], rtol=0, atol=1e-5)
    if times == 1:
        assert torch.equal(x, y)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 24), st.floats(0.05, 1), st.integers(0, 10**6))
def test_a_single_square_is_cropped_as_it_always_was(size, smallest, seed):
    image, generator = torch.rand(3, 3, size, size, generator=seeded("image")), seeded(seed)
    expected = []
    for one in image:
        area, flip = torch.rand(2, generator=generator).tolist()
        side = min(size, max(1, round(size * math.sqrt(smallest + (1 - smallest) * area))))
        top, left = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
        crop = one[None, :, top : top + side, left : left + side]
        crop = F.interpolate(crop, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
        expected.append(crop.flip(2) if flip < 0.5 else crop)
    again = seeded(seed)
    assert torch.equal(augment([image], smallest, again)[0], torch.stack(expected))
    assert torch.equal(again.get_state(), generator.get_state())


class Numbered(Images):
    """Pairs of flat pictures; a target has the level of its input and one more."""

    paired = True

    def __init__(self, count=10):
        self.items, self.labels = [Item(f"{n:02}", "all") for n in range(count)], frozenset({"all"})

    def read(self, item, size):
        return torch.full((3, *sides(size)), 2 * int(item.key), dtype=torch.uint8)

    def target(self, item, size):
        return self.read(item, size) + 1

    def describe(self):
        return {}


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_pairs_come_together_however_they_are_decoded(workers):
    source = Numbered()
    held = Pixels(source, source.items, (8, 12), CPU, scale=2)
    pixels = Pixels(source, source.items, (8, 12), CPU, workers, scale=2)
    batches = [torch.tensor(rows) for rows in ([3, 1], [0, 0, 9], [5])]
    with pixels.expect(iter(batches)):
        for rows in batches:
            x, y = pixels.pairs(rows)
            assert x.shape == (len(rows), 3, 4, 6)
            assert y.shape == (len(rows), 3, 8, 12)
            assert torch.equal(y[:, 0, 0, 0], 2 * rows + 1)
            assert torch.equal(x[:, 0, 0, 0], 2 * rows)
    assert pixels.digest == held.digest
    assert len([*pixels.looks()]) == 20


def test_a_pair_for_validation_is_a_copy_where_both_its_images_are(tmp_path):
    drawn = np.random.default_rng(0)
    draw = [Image.fromarray(drawn.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(14)]
    for name, first, second in (
        ("train/a/0", 0, 1), ("train/a/1", 2, 3), ("val/a/same", 0, 1), ("val/a/input", 0, 4), ("val/a/target", 5, 1),
        ("val/a/crossed", 0, 3), ("val/a/turned", 1, 0), ("train/b/0", 6, 7), ("val/b/target", 8, 1), ("val/b/0", 9, 9),
        ("val/b/same", 6, 7),
    ):  # fmt: skip
        for folder, number in (("in", first), ("out", second)):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            draw[number].save(tmp_path / folder / f"{name}.png")
    data = Data(
        source=ImageFolder(kind="image-folder", root=str(tmp_path / "in"), targets=str(tmp_path / "out")),
        forget=Selection(classes=["a"]), retain=Selection(),
    )  # fmt: skip
    chosen = dict(zip(("forget", "retain"), split(data, tmp_path, 0), strict=True))
    found, images = load_apart(chosen, 16, data, CPU)
    left = {name: sorted(Path(item.key).stem for item in part.validation) for name, part in found.items()}
    assert left == {"forget": ["crossed", "input", "target", "turned"], "retain": ["0"]}
    assert [len(images[name]["validation"].targets) for name in left] == [4, 1]


PAIRED = "data.source={kind: image-folder, root: in, targets: out}"
CHECKS = (
    "evaluate.metrics=[{kind: psnr}, {kind: hidden-psnr}, {kind: ssim}]",
    "evaluate.audits=[{kind: membership}, {kind: fresh-decoder, steps: 2}, {kind: relearning, steps: 2}]",
    "training.steps=12",
)
COMPARED = "compare=[{kind: max-loss}, {kind: noisy-label}, {kind: retain-label, target: {kind: blurred}}]"
METHODS = (
    "composite", "max-loss", "noisy-label", "retain-label", "random-encoder", "retain-fine-tuning", "neggrad-plus",
    "retrain", "decoupling", "cup", "eupmu", "hamu", "lur", "munba", "mgda", "pcgrad", "cagrad", "lagrangian",
)  # fmt: skip
"""All but `siss`, which is for diffusion models."""


def finished(tiny: Path, *changes: str) -> dict:
    run = ran(tiny, tiny.parent / "run", *changes, plugins=PLUGINS)
    results = json.loads((run / "results.json").read_text())
    for row in (results["original"], *results["solutions"]):
        for cells in (cells for splits in row["metrics"].values() for cells in splits["validation"].values()):
            assert all(isinstance(value, float) for value in cells.values()), cells
    for entry in results["audits"]:
        for cells in (entry["original"], *entry["solutions"].values()):
            assert {name for name, cell in cells.items() if isinstance(cell, dict)} <= {"tpr"}, cells  # too few images
    assert results["warnings"] == []
    assert (run / "report.html").exists()
    return results


def strip(run: Path, of: str) -> Image.Image:
    return Image.open(io.BytesIO((run / "images" / f"{of}.png").read_bytes()))


@pytest.mark.parametrize("crop", ["null", "0.5"])
def test_a_recipe_of_pairs_runs_from_start_to_report(tiny, crop):
    grown(tiny.parent)
    finished(tiny, PAIRED, "task={kind: reconstruction}", *CHECKS, COMPARED, f"training.crop={crop}")
    run = tiny.parent / "run"
    x, y = strip(run, "forget-input"), strip(run, "forget-truth")
    assert x.size == y.size == (48, 16)
    for place in range(3):
        box = (16 * place, 0, 16 * place + 16, 16)
        apart = np.asarray(mapped(x.crop(box)), int) - np.asarray(y.crop(box), int)
        assert abs(apart).max() <= 2  # each is scaled by itself


@pytest.mark.parametrize("factor", [1, 2])
def test_every_method_takes_pairs(tiny, factor):
    grown(tiny.parent, shape=(20, 24), scale=factor)
    fields = {"lagrangian": ", epsilon: 1.0"}
    methods = ", ".join(f"{{kind: {kind}{fields.get(kind, '')}}}" for kind in METHODS)
    model = f"model={{kind: convolutional, factor: {factor}, image_size: {16 * factor}}}"
    changes = [model, PAIRED, "task={kind: reconstruction}", f"compare=[{methods}]", "training.steps=4"]
    results = finished(tiny, *changes, "evaluate.metrics=[{kind: psnr}]", "training.optimizer.lr=1e-4")
    assert {row["method"] for row in results["solutions"]} >= {*METHODS}


@pytest.mark.parametrize("source", ["low-resolution", "pairs"])
def test_a_recipe_of_outputs_larger_than_inputs_runs_from_start_to_report(tiny, source):
    grown(tiny.parent, shape=(10, 12), scale=2)
    model = "model={kind: convolutional, factor: 2}"
    own = ["task={kind: low-resolution, factor: 2}"] if source != "pairs" else [PAIRED, "task={kind: reconstruction}"]
    target = "forget={kind: target-embedding, target: {kind: blurred}}"
    finished(tiny, model, *own, *CHECKS, COMPARED, target, "training.crop=0.5")
    run = tiny.parent / "run"
    assert strip(run, "forget-input").size == (24, 8)
    assert strip(run, "forget-truth").size == strip(run, "forget-original").size == (48, 16)


@pytest.mark.parametrize("loss", ["noise-embedding", "mean-noise", "target-output, target: {kind: mean-filled}"])
def test_a_recipe_that_is_no_square_runs_from_start_to_report(tiny, loss):
    model = "model={kind: convolutional, image_size: [12, 20]}"
    kind = loss if loss != "mean-noise" else "noise-embedding, target: mean"
    results = finished(tiny, model, *CHECKS, COMPARED, f"forget={{kind: {kind}}}", "training.crop=0.5")
    assert results["images"]["size"] == 20
    assert strip(tiny.parent / "run", "retain-truth").size == (60, 12)


def test_a_model_is_trained_on_pairs(tmp_path, unlearnkit):
    grown(tmp_path)
    recipe = tmp_path / "pretrain.yaml"
    source = "data: {source: {kind: image-folder, root: in, targets: out}}\ntasks: [{kind: reconstruction}]\n"
    how = "pretrain: {steps: 40, batch_size: 8, device: cpu, crop: 0.7, optimizer: {kind: adamw, lr: 3.0e-3}}\n"
    recipe.write_text(f"name: trained\n{MODEL}{source}{how}")
    unlearnkit("pretrain", recipe, "--to", tmp_path / "weights").succeeded()
    figures = json.loads((tmp_path / "weights" / "model.json").read_text())
    assert "validation_psnr" in json.dumps(figures)
    source = ImageFolder(kind="image-folder", root="in", targets="out").open(tmp_path)
    pixels = Pixels(source, source.items, 16, CPU)
    model = VitMae(kind="vit-mae", **SIZES).build(tmp_path / "weights" / "model.safetensors")
    untrained = VitMae(kind="vit-mae", **SIZES).build(None)
    found = [quality(one, Reconstruction(kind="reconstruction").build(), pixels) for one in (model, untrained)]
    assert found[0]["validation_psnr"] > found[1]["validation_psnr"] + 1


def test_a_translation_is_scored_against_the_original_alone(tiny):
    audits = "evaluate.audits=[{kind: relearning, steps: 2}]"
    changes = [CONVOLUTIONAL, "task={kind: translation}", "evaluate.metrics=[{kind: psnr}]", audits]
    run = ran(tiny, tiny.parent / "run", *changes, plugins=PLUGINS)
    results = json.loads((run / "results.json").read_text())
    for row in (results["original"], *results["solutions"]):
        for splits in row["metrics"].values():
            assert splits["validation"]["truth"]["psnr"]["failed"].startswith("the right output is not known")
            assert isinstance(splits["validation"]["original"]["psnr"], float)
    (audit,) = results["audits"]
    assert "the right output is not known" in json.dumps(audit["original"])
    assert "the right output is not known" in (run / "report.html").read_text()
    assert results["warnings"] == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([PAIRED], "task: it hides a part of the input, which the output need not agree with, .* give reconstruction"),
        (
            ["model={kind: convolutional, factor: 2}"],
            "task: it gives images of 16 x 16 px, but the model makes 16 px of 8 px; give `low-resolution` with `fac",
        ),
        (
            ["model={kind: convolutional, factor: 3}"],
            "model.image_size: 16 px is no multiple of 3, by which its outputs are larger than its inputs; give one",
        ),
        (
            [PAIRED, "task={kind: reconstruction}", "compare=[{kind: noisy-label, target: {kind: surrogate-class}}]"],
            "target: surrogate-class images are inputs, and no truth where the source has pairs; take noise",
        ),
        (
            ["data.forget.source={kind: image-folder, root: in, targets: out}"],
            "data: one of the two sources has pairs and the other has none; give both pairs, or neither",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(tiny, changes, found):
    grown(tiny.parent)
    with pytest.raises(UserError, match=found):
        ran(tiny, tiny.parent / "run", *changes, plugins=PLUGINS)


@pytest.mark.parametrize("fields", [{"factor": 2}, {"image_size": (12, 20)}, {"image_size": (12, 20), "factor": 4}])
def test_the_contracts_checks_know_larger_and_oblong_outputs(fields):
    torch.manual_seed(0)
    check_model(Convolutional(kind="convolutional", **fields))


def test_the_plan_counts_both_images_of_a_pair(tmp_path):
    from unlearnkit.recipe.validate import load as read

    recipe = write_tiny(tmp_path)
    grown(tmp_path, shape=(10, 12), scale=2)
    changes = [PAIRED, "task={kind: reconstruction}", "model={kind: convolutional, factor: 2, image_size: [256, 512]}"]
    found = read(recipe, PLUGINS, [*changes, "data.source.enlarge=true"])
    plan = describe(found.recipe, tmp_path, timed=False)
    assert plan["missing"] == []
    assert plan["images"]["all_mib"] == round(36 * 3 * 256 * 512 * 1.25 / 2**20)
