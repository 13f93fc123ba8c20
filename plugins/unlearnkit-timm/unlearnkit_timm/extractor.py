"""A network of timm as a feature extractor."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config

from unlearnkit.contracts import Extractor
from unlearnkit.errors import Exit, UserError
from unlearnkit.features import Network
from unlearnkit.weights import fit, read, resolve, sha256
from unlearnkit_timm import Timm
from unlearnkit_timm.names import check_name


def build(section: Timm, base: Path, device: torch.device) -> Extractor:
    """Return the network; raise `UserError` where its name is unknown or its weights do not fit."""
    check_name("extractor timm", section.architecture)
    path = resolve(section.weights, base, "extractor timm")
    assert path is not None
    found = read(path)
    name = timm.get_pretrained_cfg_value(section.architecture, "classifier") or ""
    head = found.get(f"{name}.weight") if isinstance(name, str) else None
    model: Any = timm.create_model(section.architecture, num_classes=0 if head is None else len(head))
    wanted = resolve_model_data_config(model)
    size = section.size or wanted["input_size"][-1]
    if model.pretrained_cfg.get("fixed_input_size") and size != wanted["input_size"][-1]:
        raise UserError(
            f"extractor timm: {section.architecture} takes images of {wanted['input_size'][-1]} px alone; leave `size` "
            f"out",
            Exit.RECIPE,
        )
    fit(model.state_dict(), found, path, "extractor")
    model.eval().requires_grad_(False).to(device)
    return Network(
        lambda images: model.forward_head(model.forward_features(images), pre_logits=True),
        device,
        name=section.architecture,
        size=size,
        weights_sha256=sha256(path),
        interpolation=wanted["interpolation"],
        normalize=(wanted["mean"], wanted["std"]),
        classifier=None if head is None else model.get_classifier(),
    )
