"""An OpenCLIP model's image encoder, made from a file of weights."""

from pathlib import Path
from pickle import UnpicklingError

import open_clip
import torch

from unlearnkit.contracts import Extractor
from unlearnkit.disk import sha256
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.features import Network
from unlearnkit.weights import located, read


def encoder(name: str, weights: str | None, base: Path, device: torch.device) -> Extractor:
    """Return the image encoder of a model in fp32; raise `UserError` where its name is unknown or `weights` do not fit.

    A relative path of the weights starts at `base`.
    """
    if name not in open_clip.list_models():
        raise UserError(
            f"extractor openclip: OpenCLIP has no model '{name}'; `python -c 'import open_clip; "
            f"print(open_clip.list_models())'` prints all",
            Exit.RECIPE,
        )
    advice = (
        f"name a file of OpenCLIP's {name} with `weights:`, or hub:OWNER/NAME/FILE@COMMIT such as "
        f"hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K/open_clip_model.safetensors@ and the commit's 40 digits"
    )
    path = located(weights, base, "extractor openclip", (), advice)
    if path.suffix not in (".npz", ".npy"):  # arrays of numpy, of which OpenCLIP unpickles none
        read(path)  # says in plain words what OpenCLIP would refuse too, with torch's advice to unpickle it
    try:
        # Towers come without weights of their own: all are in the file, and nothing may be fetched.
        model = open_clip.create_model(name, pretrained=str(path.absolute()), pretrained_text=False, weights_only=True)
    except Exception as error:  # OpenCLIP raises many kinds, for a name, a layout, a shape
        reason = f"{type(error).__name__}: {first_line(error)}"
        if isinstance(error, UnpicklingError):
            reason = "OpenCLIP takes safetensors by their names alone, which end in .safetensors"
        raise UserError(
            f"extractor openclip: {path} does not fit {name} ({reason}); give the "
            f"model that the weights were trained with",
            Exit.RECIPE,
        ) from None
    visual = model.visual.eval().requires_grad_(False).to(device)
    wanted = open_clip.get_model_preprocess_cfg(model)
    size = wanted["size"] if isinstance(wanted["size"], int) else wanted["size"][0]
    return Network(
        visual,
        device,
        name=name,
        size=size,
        weights_sha256=sha256(path),
        interpolation=wanted.get("interpolation", "bicubic"),
        normalize=(wanted["mean"], wanted["std"]),
    )
