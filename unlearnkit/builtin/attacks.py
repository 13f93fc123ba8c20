"""The code of the built-in audits."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NoReturn

import torch
from torch import Tensor
from torch.nn import functional

from unlearnkit.audits import Audit, Case, Figure, Finding, Missing, Over, SetName, Split, region_error
from unlearnkit.builtin import audits as sections
from unlearnkit.builtin.measures import psnr
from unlearnkit.builtin.poison import Poison, Poisoned
from unlearnkit.contracts import Extractor, ModelAdapter, View
from unlearnkit.data import Pixels
from unlearnkit.pretrain import mean_colour_fill

Sets = Mapping[str, Mapping[str, Pixels]]

FPR = 0.01
"""False positive rate at which the true positive rate is given."""

TINY = 1e-12
"""Least squared error that is divided by."""

NO_VALIDATION = "there are no validation images of the forget set; give some in data.per_class"


def hidden_psnr(model: ModelAdapter, views: Iterator[View]) -> float:
    """Return the mean PSNR in dB of a model's outputs over what it was to make; raise `ValueError` without images."""
    found = []
    with torch.no_grad():
        for view in views:
            assert view.truth is not None
            found.append(psnr(model.output(view), view.truth, view.region))
    return float(torch.cat(found or [_none()]).double().mean())


class FreshDecoder(Audit):
    """PSNR of forget images through a decoder that was trained anew on the frozen encoder."""

    def __init__(self, section: sections.FreshDecoder) -> None:
        self.section = section
        self.on: tuple[SetName, ...] = ("forget", "retain") if section.images == "both" else (section.images,)
        self.figures = {
            "own": Figure("own decoder", "PSNR over the hidden region, with the decoder as it is", "lower", "dB"),
            "fresh": Figure(
                "fresh decoder",
                "the same with a decoder trained anew on the frozen encoder: high where the embeddings still hold what "
                "the own decoder does not show",
                "lower",
                "dB",
            ),
        }

    def samples(self, images: Sets) -> str:
        """Name both sets."""
        trained = " and ".join(f"{len(images[name]['train'])} {name}" for name in self.on)
        return (
            f"Measured on {len(images['forget']['validation'])} forget validation images; the decoder is trained for "
            f"{self.section.steps} steps on {trained} training images."
        )

    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return the PSNR with both decoders."""
        own = hidden_psnr(case.model, case.views("forget", "validation"))
        decoder = case.rest()
        case.refresh(decoder)
        for _ in case.train(decoder, self.on, self.section.steps, self.section.optimizer, decay=0.5):
            pass
        return {"own": own, "fresh": hidden_psnr(case.model, case.views("forget", "validation"))}


class Relearning(Audit):
    """Steps of fine-tuning until the error on forget validation images is back to that of the original."""

    def __init__(self, section: sections.Relearning) -> None:
        self.section, self.on = section, tuple(dict.fromkeys(section.images))
        back = "the original's squared error over the model's, on forget validation images"
        self.figures = {"start": Figure("recovered at first", back, "lower")}
        for name in self.on:
            data = "forget images" if name == "forget" else "benign (retain) images"
            self.figures |= {
                f"{name}_steps": Figure(
                    f"steps on {name} images", f"steps on {data} until that is {section.recovered:g}", "higher"
                ),
                f"{name}_most": Figure(f"most recovered on {name} images", "the highest it was until then", "lower"),
            }

    def samples(self, images: Sets) -> str:
        """Name both sets and the budget."""
        trained = " or ".join(f"{len(images[name]['train'])} {name}" for name in self.on)
        return (
            f"Measured on {len(images['forget']['validation'])} forget validation images every {self.section.every} "
            f"steps, {self.section.steps} at most; trained on {trained} training images."
        )

    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return the recovered part at first, and for each set the steps and the highest part."""
        views = list(case.views("forget", "validation"))
        goal = _error(case.reference, views)
        found: dict[str, Finding] = {}
        everything = case.model.trainable()
        start = [parameter.detach().clone() for parameter in everything]
        for name in self.on:
            for parameter, value in zip(everything, start, strict=True):
                parameter.data.copy_(value)
            reached: Finding = Over(self.section.steps)
            parts: list[float] = []
            for step in case.train(everything, (name,), self.section.steps, self.section.optimizer, decay=0.0):
                if step % self.section.every and step < self.section.steps:
                    continue
                parts.append(goal / max(_error(case.model, views), TINY))
                if parts[-1] >= self.section.recovered:
                    reached = step
                    break
            found |= {"start": parts[0], f"{name}_steps": reached, f"{name}_most": max(parts)}
        return found


def _error(model: ModelAdapter, views: Iterable[View]) -> float:
    """Return the squared error over what a model was to make, a mean over images."""
    with torch.no_grad():
        found = [region_error(model.output(view), view) for view in views]
    return float(torch.cat(found or [_none()]).double().mean())


class CopySimilarity(Audit):
    """The cosine of the features of outputs and of the forget training images nearest to them."""

    def __init__(self, section: sections.CopySimilarity, extractor: Extractor) -> None:
        self.section, self.extractor = section, extractor
        self.figures = {
            "mean": Figure("nearest, mean", "cosine to the nearest training image, mean over outputs", "lower"),
            "highest": Figure("nearest, highest", "the highest cosine of any output to any training image", "lower"),
            "unseen": Figure(
                "other images", "the same mean for forget validation images in place of outputs: what two different "
                "images have in common", None,
            ),
        }  # fmt: skip
        if section.outputs == "train":
            self.figures["own"] = Figure(
                "found", "part of outputs whose nearest training image is the one they were made from", "lower"
            )

    def samples(self, images: Sets) -> str:
        """Name both groups."""
        forget = {split: len(pixels) for split, pixels in images["forget"].items()}
        split = "training" if self.section.outputs == "train" else "validation"
        return (
            f"Outputs for {forget[self.section.outputs]} forget {split} images, against {forget['train']} of training."
        )

    def describe(self) -> Mapping[str, object]:
        """Return the extractor's facts."""
        return self.extractor.describe()

    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return the similarities."""
        views = list(case.views("forget", self.section.outputs))
        regions = torch.cat([view.region for view in views] or [_none()])
        box = _box(regions[0, 0]) if bool((regions == regions[:1]).all()) else (slice(None), slice(None))

        def features(images: Iterable[Tensor]) -> Tensor:
            found = [self.extractor.features(part[..., box[0], box[1]]) for part in images]
            return functional.normalize(torch.cat(found or [_none()]).double(), dim=1)

        with torch.no_grad():
            stored = features(_truth(case.views("forget", "train")))
            nearest, which = (features(map(case.model.output, views)) @ stored.T).max(1)
            found: dict[str, Finding] = {"mean": float(nearest.mean()), "highest": float(nearest.max())}
            if len(case.images["forget"]["validation"]):
                unseen = features(_truth(case.views("forget", "validation"))) @ stored.T
                found["unseen"] = float(unseen.max(1).values.mean())
            else:
                found["unseen"] = Missing(NO_VALIDATION)
        if self.section.outputs == "train":
            found["own"] = float((which.cpu() == torch.arange(len(which))).double().mean())
        return found


def _truth(views: Iterable[View]) -> Iterator[Tensor]:
    for view in views:
        assert view.truth is not None
        yield view.truth


def _box(region: Tensor) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box that holds a region [H, W]."""
    rows, columns = (region.any(side).nonzero().flatten().tolist() for side in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _none() -> NoReturn:
    raise ValueError(NO_VALIDATION)


class Backdoor(Audit):
    """How often the trigger of a poisoned source brings its target out."""

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

    def samples(self, images: Sets) -> str:
        """Name the set that is shown."""
        name = _shown(images)
        return f"{len(images[name]['validation'])} {name} validation images, each with the trigger and without."

    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return success with the trigger and without, and the distance to the target."""
        source = case.images["forget"]["train"].source
        if not isinstance(source, Poisoned):
            raise ValueError("the forget set's source is not `poisoned`, so there is no trigger")
        name, poison = _shown(case.images), source.poison
        with torch.no_grad():
            marked = [
                _nearness(case.model, view, poison) for view in case.views(name, "validation", change=poison.marked)
            ]
            plain = [_nearness(case.model, view, poison) for view in case.views(name, "validation")]
        target, truth = torch.cat(marked or [_none()]).T
        clean_target, clean_truth = torch.cat(plain).T
        return {
            "success": float((target < truth).double().mean()),
            "without": float((clean_target < clean_truth).double().mean()),
            "distance": float(target.mean().sqrt()),
        }


def _shown(images: Sets) -> SetName:
    return "forget" if len(images["forget"]["validation"]) else "retain"


def _nearness(model: ModelAdapter, view: View, poison: Poison) -> Tensor:
    """Return squared distances [B, 2] of the outputs, to the target and to the truth, over the target's hidden pixels.

    Raise `ValueError` where the task hides the trigger, or nothing of the target.
    """
    assert view.truth is not None
    size = view.images.shape[-1]
    place = torch.zeros_like(view.region)
    place[..., *poison.target_place(size)] = True
    place &= view.region
    if not bool(place.flatten(1).any(1).all()):
        raise ValueError("the task hides nothing of the trigger's target; use data.source.target to move it")
    if bool(view.hidden[..., *poison.trigger_place(size)].any()):
        raise ValueError("the task hides the trigger; use data.source.trigger to make it smaller")
    outputs, weight = model.output(view), place.float()
    found = [(outputs - other).square() * weight for other in (poison.aimed(view.truth), view.truth)]
    return (
        torch.stack([error.flatten(1).sum(1) for error in found], 1).double() / (3 * weight.flatten(1).sum(1))[:, None]
    )


class Membership(Audit):
    """How well a threshold on a calibrated loss tells training images from validation images of the forget set."""

    figures: Mapping[str, Figure] = {
        "auc": Figure(
            "AUC",
            "chance that a forget training image scores more like a member than a forget validation image; 0.5 where "
            "membership leaves no trace, and below 0.5 it shows as well, turned round",
            0.5,
        ),
        "tpr": Figure(
            "TPR at 1 % FPR", "training images found where one in a hundred validation images is taken for one", 0.01
        ),
        "members": Figure("loss, members", "own loss, mean over forget training images", None),
        "others": Figure("loss, others", "own loss, mean over forget validation images", None),
    }

    def __init__(self, section: sections.Membership) -> None:
        self.section = section

    def samples(self, images: Sets) -> str:
        """Name both groups, and how far AUC strays by chance."""
        members, others = (int(_clean(images["forget"][split]).sum()) for split in ("train", "validation"))
        said = f"{members} members (forget training images) against {others} others (forget validation images)."
        if members and others:
            spread = 2 * math.sqrt((members + others + 1) / (12 * members * others))
            said += f" Without any trace, AUC is within 0.5 ± {spread:.3f} nineteen times in twenty."
        return said

    def examine(self, case: Case) -> Mapping[str, Finding]:
        """Return AUC, TPR at 1 % FPR and both mean losses."""
        losses, difficulty, members = _losses(case, self.section)
        if not 0 < int(members.sum()) < len(members):
            raise ValueError("too few images: there are no forget validation images to tell training images from")
        means = {"members": float(losses[members].mean()), "others": float(losses[~members].mean())}
        score = -losses if difficulty is None else calibrated(losses, difficulty, self.section.calibrate)
        if float(score.std()) <= 1e-12 * float(losses.std()):
            unset = Missing("every image has the same score, as the model is what it is calibrated by")
            return {"auc": unset, "tpr": unset, **means}
        return {"auc": auc(score, members), "tpr": tpr(score, members), **means}


def _losses(case: Case, section: sections.Membership) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return for all forget images [N] the own loss, what it is calibrated by, and which are training images."""
    found: list[tuple[float, float]] = []
    splits: tuple[Split, ...] = ("train", "validation")
    for split in splits:
        total: list[Tensor] = []
        for number in range(section.views):
            rows = [
                _row(case, section.calibrate, view[i : i + 1])
                for view in case.views("forget", split, number)
                for i in range(len(view.images))
            ]
            total.append(torch.tensor(rows, dtype=torch.float64).reshape(-1, 2))
        found += torch.stack(total).mean(0).tolist()
    clean = torch.cat([_clean(case.images["forget"][split]) for split in splits])
    members = (torch.arange(len(found)) < len(case.images["forget"]["train"]))[clean]
    table = torch.tensor(found, dtype=torch.float64).reshape(-1, 2)[clean]
    return table[:, 0], None if section.calibrate == "none" else table[:, 1], members


def _clean(pixels: Pixels) -> Tensor:
    """Return which images [N] are not poisoned; a poisoned one differs from the others in more than membership."""
    return torch.tensor([item.columns.get("poisoned") != "yes" for item in pixels.items], dtype=torch.bool)


def _row(case: Case, calibrate: str, view: View) -> tuple[float, float]:
    """Return the own loss of one image and what it is calibrated by."""
    assert view.truth is not None
    with torch.no_grad():
        loss = float(case.model.own_loss(view.truth, view))
        if calibrate == "original":
            return loss, float(case.reference.own_loss(view.truth, view))
        return loss, float(region_error(mean_colour_fill(view), view))


def calibrated(losses: Tensor, difficulty: Tensor, how: Literal["difficulty", "original", "none"]) -> Tensor:
    """Return scores [N], higher for members: how far each loss is below what is expected of the image.

    `difficulty` is what to calibrate by [N]; for `difficulty` the expectation is the line that fits the logarithms of
    the losses best by the logarithms of the difficulties. Raise `ValueError` where a loss has no logarithm.
    """
    if how == "original":
        return difficulty - losses
    if bool((losses <= 0).any()):
        raise ValueError("the model's own loss is not positive on some image, so it has no logarithm; use another way")
    y, x = losses.log(), difficulty.clamp(min=1e-8).log()
    x, y = x - x.mean(), y - y.mean()
    return -(y - x * (x @ y) / (x @ x).clamp(min=1e-12))


def auc(score: Tensor, members: Tensor) -> float:
    """Return the chance that a member's score is above another's, ties counted half (Mann and Whitney 1947)."""
    above = score[members][:, None] - score[~members][None]
    return float(((above > 0).double() + 0.5 * (above == 0).double()).mean())


def tpr(score: Tensor, members: Tensor) -> Finding:
    """Return the part of members above a threshold that at most 1 % of the others are above."""
    others = score[~members].sort(descending=True).values
    if len(others) * FPR < 1:
        needed = math.ceil(1 / FPR)
        return Missing(f"too few images: {len(others)} non-members, and 1 % of them is less than one; give {needed}")
    return float((score[members] > others[int(len(others) * FPR)]).double().mean())
