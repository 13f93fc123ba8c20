"""Audits of a model's outputs: similarity to the nearest training image, and a planted trigger."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.builtin.audits.chunks import NO_VALIDATION, over
from unlearnkit.builtin.data.poison import Poison, Poisoned
from unlearnkit.contracts import Audit, Case, Extractor, Figure, Finding, Items, Missing, SetName, Split, View


class CopySimilarity(Audit):
    """The cosine of the features of outputs and of the forget training images nearest to them."""

    def __init__(self, outputs: Split, extractor: Extractor) -> None:
        """Compare the outputs for the forget images of a split by the features of an extractor."""
        self.outputs, self.extractor = outputs, extractor
        self.figures = {
            "mean": Figure("nearest, mean", "cosine to the nearest training image, mean over outputs", "lower"),
            "highest": Figure("nearest, highest", "the highest cosine of any output to any training image", "lower"),
            "unseen": Figure(
                "other images", "the same mean for forget validation images in place of outputs: what two different "
                "images have in common", None,
            ),
        }  # fmt: skip
        if outputs == "train":
            meaning = "part of outputs whose nearest training image is the one they were made from"
            self.figures["own"] = Figure("found", meaning, "lower")

    def samples(self, images: Items) -> str:
        forget = {split: len(pixels) for split, pixels in images["forget"].items()}
        split = "training" if self.outputs == "train" else "validation"
        return f"Outputs for {forget[self.outputs]} forget {split} images, against {forget['train']} of training."

    def describe(self) -> Mapping[str, object]:
        return self.extractor.describe()

    def examine(self, case: Case) -> Mapping[str, Finding]:
        views = list(case.views("forget", self.outputs))
        regions = over(views, lambda view: view.region)
        box = _box(regions[0, 0]) if bool((regions == regions[:1]).all()) else (slice(None), slice(None))

        def features(views: Iterable[View], images: Callable[[View], Tensor] = lambda view: view.truth) -> Tensor:
            found = over(views, lambda view: self.extractor.features(images(view)[..., box[0], box[1]]))
            return F.normalize(found.double(), dim=1)

        stored = features(case.views("forget", "train"))
        nearest, which = (features(views, case.model.output) @ stored.T).max(1)
        found: dict[str, Finding] = {"mean": float(nearest.mean()), "highest": float(nearest.max())}
        if len(case.items["forget"]["validation"]):
            unseen = features(case.views("forget", "validation")) @ stored.T
            found["unseen"] = float(unseen.max(1).values.mean())
        else:
            found["unseen"] = Missing(NO_VALIDATION)
        if self.outputs == "train":
            found["own"] = float((which.cpu() == torch.arange(len(which))).double().mean())
        return found


def _box(region: Tensor) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box that holds a region [H, W]."""
    rows, columns = (region.any(side).nonzero().flatten().tolist() for side in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


class Backdoor(Audit):
    """How often the trigger of a poisoned source brings its target out."""

    needs_truth = True
    figures: Mapping[str, Figure] = {
        "success": Figure(
            "success", "part of outputs for images with the trigger that are nearer to its target than to the truth",
            "lower",
        ),
        "without": Figure("without trigger", "the same part for the same images without the trigger", None),
        "distance": Figure(
            "distance", "root of the mean squared distance to the target, with the trigger, of pixels in [0, 1]",
            "higher",
        ),
    }  # fmt: skip

    def samples(self, images: Items) -> str:
        name = _shown(images)
        return f"{len(images[name]['validation'])} {name} validation images, each with the trigger and without."

    def examine(self, case: Case) -> Mapping[str, Finding]:
        source = case.sources["forget"]
        if not isinstance(source, Poisoned):
            raise ValueError("the forget set's source is not `poisoned`, so there is no trigger")
        name, nearness = _shown(case.items), partial(_nearness, case.model.output, source.poison)
        target, truth = over(case.views(name, "validation", change=source.poison.marked), nearness).T
        clean_target, clean_truth = over(case.views(name, "validation"), nearness).T
        return {
            "success": float((target < truth).double().mean()),
            "without": float((clean_target < clean_truth).double().mean()),
            "distance": float(target.mean().sqrt()),
        }


def _shown(images: Items) -> SetName:
    return "forget" if len(images["forget"]["validation"]) else "retain"


def _nearness(output: Callable[[View], Tensor], poison: Poison, view: View) -> Tensor:
    """Return squared distances [B, 2] of outputs, to the target and to the truth, over the target's hidden pixels.

    Raise `ValueError` where the task hides the trigger, or nothing of the target.
    """
    size = view.truth.shape[2], view.truth.shape[3]
    place = torch.zeros_like(view.region)
    place[..., *poison.target_place(size)] = True
    place &= view.region
    if not bool(place.flatten(1).any(1).all()):
        raise ValueError("the task hides nothing of the trigger's target; use data.source.target to move it")
    if bool(view.hidden[..., *poison.trigger_place(size)].any()):
        raise ValueError("the task hides the trigger; use data.source.trigger to make it smaller")
    outputs, weight = output(view), place.float()
    found = [(outputs - other).square() * weight for other in (poison.aimed(view.truth), view.truth)]
    errors = torch.stack([error.flatten(1).sum(1) for error in found], 1)
    return errors.double() / (3 * weight.flatten(1).sum(1))[:, None]
