"""A network of timm as a feature extractor."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config

from unlearnkit.contracts import Extractor
from unlearnkit.disk import sha256
from unlearnkit.errors import UserError
from unlearnkit.features import Network
from unlearnkit.weights import fit, read, resolve
from unlearnkit_timm.names import check_name


def network(architecture: str, weights: str, size: int | None, base: Path, device: torch.device) -> Extractor:
    """Return a network for images of `size` px; raise `UserError` where its name is unknown or its weights do not fit.

    A relative path of the weights starts at `base`; without `size` it is that of the architecture.
    """
    check_name("extractor timm", architecture)
    path = resolve(weights, base, "extractor timm")
    assert path is not None
    with torch.device("meta"):
        names = timm.create_model(architecture, num_classes=0).state_dict()
    found = read(path, names)
    name = timm.get_pretrained_cfg_value(architecture, "classifier") or ""
    head = found.get(f"{name}.weight") if isinstance(name, str) else None
    model: Any = timm.create_model(architecture, num_classes=0 if head is None else len(head))
    wanted = resolve_model_data_config(model)
    own_size = wanted["input_size"][-1]
    size = size or own_size
    if model.pretrained_cfg.get("fixed_input_size") and size != own_size:
        raise UserError(f"extractor timm: {architecture} takes images of {own_size} px alone; leave `size` out")
    fit(model.state_dict(), found, path, "extractor")
    model.eval().requires_grad_(False).to(device)
    return Network(
        lambda images: model.forward_head(model.forward_features(images), pre_logits=True),
        device,
        name=architecture,
        size=size,
        weights_sha256=sha256(path),
        interpolation=wanted["interpolation"],
        normalize=(wanted["mean"], wanted["std"]),
        classifier=None if head is None else model.get_classifier(),
    )
