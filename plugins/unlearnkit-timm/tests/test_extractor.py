"""A network of timm as an extractor, against timm's own forward pass."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from unlearnkit_timm import Timm

from unlearnkit.builtin.metrics.sections import KID
from unlearnkit.errors import UserError
from unlearnkit.testing import check_metric

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def made(request, tmp_path_factory):
    """Return a network of timm with generated weights, and the section that reads them from a file."""
    torch.manual_seed(0)
    network = timm.create_model(request.param, num_classes=7).eval()
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file(network.state_dict(), path)
    return network, Timm(kind="timm", architecture=request.param, weights=str(path))


def test_features_and_logits_are_timms_own(made):
    network, section = made
    extractor = section.build(Path(), CPU)
    config = timm.data.resolve_model_data_config(network)
    images = torch.rand(2, 3, config["input_size"][-1], config["input_size"][-1])
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    with torch.no_grad():
        expected = network((images - mean) / std)
    features = extractor.features(images)
    assert features.shape == (2, network.head_hidden_size)
    torch.testing.assert_close(extractor.logits(features), expected, rtol=1e-4, atol=1e-5)


def test_a_backbone_without_classifier_has_features_alone(made, tmp_path):
    network, section = made
    head = network.pretrained_cfg["classifier"] + "."
    save_file(
        {k: v for k, v in network.state_dict().items() if not k.startswith(head)}, tmp_path / "backbone.safetensors"
    )
    bare = section.model_copy(update={"weights": "backbone.safetensors"}).build(tmp_path, CPU)
    images = torch.rand(1, 3, 40, 40)
    features = bare.features(images)
    torch.testing.assert_close(features, section.build(Path(), CPU).features(images))
    with pytest.raises(ValueError, match="has no classifier"):
        bare.logits(features)


def test_it_serves_a_metric(made, tmp_path):
    check_metric(KID(kind="kid", extractor=made[1]), tmp_path, size=32, count=4)


def test_what_does_not_fit_is_told(made):
    _, section = made
    with pytest.raises(UserError, match="timm has no 'resnet51'; did you mean 'resnet"):
        section.model_copy(update={"architecture": "resnet51"}).build(Path(), CPU)
    with pytest.raises(UserError, match="the weights do not fit"):
        section.model_copy(update={"architecture": "resnet18"}).build(Path(), CPU)
    with pytest.raises(UserError, match="there is no file or folder"):
        section.model_copy(update={"weights": "nowhere.safetensors"}).build(Path(), CPU)
    if section.architecture.startswith("vit"):
        with pytest.raises(UserError, match="takes images of 224 px alone"):
            section.model_copy(update={"size": 96}).build(Path(), CPU)
