"""CLIP similarity against OpenCLIP's own preprocessing and encoding, on a small generated model."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

open_clip = pytest.importorskip("open_clip", reason="needs OpenCLIP: pip install open_clip_torch")

import unlearnkit_openclip  # noqa: E402
from unlearnkit_openclip import ClipSimilarity, OpenClip  # noqa: E402

from unlearnkit.builtin.metrics.sections import KID  # noqa: E402
from unlearnkit.contracts import View, whole  # noqa: E402
from unlearnkit.errors import UserError  # noqa: E402
from unlearnkit.testing import check_metric  # noqa: E402

CPU = torch.device("cpu")
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    """Return a small CLIP model of OpenCLIP with generated weights in a file."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "unlearnkit-small.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model("unlearnkit-small", load_weights=False)
    save_file(model.state_dict(), folder / "small.safetensors")
    torch.save({"state_dict": model.state_dict()}, folder / "small.pt")
    return OpenClip(model="unlearnkit-small", weights=str(folder / "small.safetensors"))


def pictures(count, size, seed):
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=draw)
    return (F.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255).round() / 255


def similarity(section, outputs, targets):
    metric = ClipSimilarity(kind="clip-similarity", extractor=section).build(Path(), CPU)
    metric.update(outputs, targets, View(whole(targets), targets))
    return metric.compute()["value"]


def reference(section, outputs, targets):
    """Return the mean cosine by OpenCLIP's own transform of pictures and its own encoding."""
    model, _, transform = open_clip.create_model_and_transforms(section.model, pretrained=section.weights)

    def encoded(images):
        shown = [Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()) for image in images]
        return model.eval().encode_image(torch.stack([transform(picture) for picture in shown]), normalize=True)

    with torch.no_grad():
        return float((encoded(outputs) * encoded(targets)).sum(1).mean())


@pytest.mark.parametrize(("size", "tolerance"), [(32, 1e-5), (24, 2e-3), (50, 2e-3)])  # Pillow resizes in 8 bits
def test_clip_similarity_agrees_with_openclip(section, size, tolerance):
    outputs, targets = pictures(6, size, 0), pictures(6, size, 1)
    expected = reference(section, outputs, targets)
    assert expected < 0.99
    assert similarity(section, outputs, targets) == pytest.approx(expected, abs=tolerance)


def test_a_checkpoint_of_plain_tensors_gives_the_same(section):
    outputs, targets = pictures(4, 32, 0), pictures(4, 32, 1)
    other = section.model_copy(update={"weights": section.weights.replace(".safetensors", ".pt")})
    assert similarity(other, outputs, targets) == similarity(section, outputs, targets)


def test_contracts(section, tmp_path):
    check_metric(ClipSimilarity(kind="clip-similarity", extractor=section), tmp_path)
    check_metric(KID(kind="kid", extractor=section), tmp_path)


def test_what_the_report_says(section):
    facts = ClipSimilarity(kind="clip-similarity", extractor=section).build(Path(), CPU).describe()
    assert facts["name"] == "CLIP similarity (unlearnkit-small 24)"
    assert facts["better"] == "higher"
    assert facts["resize"] == "32 px, bicubic, antialiased"
    assert len(facts["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": None}, "the weights are missing; name a file of OpenCLIP's unlearnkit-small with `weights:`"),
        ({"weights": "nowhere.pt"}, "there is no file or folder"),
        ({"model": "ViT-X"}, "OpenCLIP has no model 'ViT-X'"),
        ({"model": "ViT-S-32-alt"}, "does not fit ViT-S-32-alt"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_told(section, changes, words):
    with pytest.raises(UserError, match=words):
        section.model_copy(update=changes).build(Path(), CPU)


def test_a_recipe_can_name_them(tmp_path, unlearnkit):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {kind: vit-mae, weights: 'sample:mae-64'}\n"
        "data: {source: {kind: sample}, forget: {classes: [faces]}, retain: {classes: [watch]}}\n"
        "evaluate:\n"
        "  metrics:\n"
        "    - {kind: clip-similarity, extractor: {kind: openclip, weights: clip.safetensors}}\n"
        "    - {kind: kid, extractor: {kind: openclip, model: RN50, weights: clip.safetensors}}\n"
    )
    (tmp_path / "clip.safetensors").touch()
    unlearnkit("validate", recipe).succeeded()
    assert unlearnkit_openclip.register_metrics() == [ClipSimilarity]
