"""What two models of one front give away together: the line through both leads back to the original."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from unlearnkit.builtin.audits.chunks import over
from unlearnkit.builtin.audits.compared import band, nearer
from unlearnkit.contracts import Audit, Case, Figure, Finding, Items, Missing, ModelAdapter, View, psnr


class TwoPoints(Audit):
    """PSNR of forget images on the lines through the weights, and through the outputs, of two models."""

    needs_truth = True
    figures: Mapping[str, Figure] = {
        "own": Figure("as it is", "PSNR over the hidden region of forget validation images", "lower", "dB"),
        "other": Figure("other model", "the same of the other model that is held", None, "dB"),
        "weights": Figure(
            "through weights", "the same at the place of the line through the weights of both that is best on other "
            "forget images; both models are among the places", "lower", "dB",
        ),
        "outputs": Figure("through outputs", "the same on the line through the outputs of both", "lower", "dB"),
        "gain": Figure("gain", "what the better line gives beyond the better model", None, "dB"),
        "back": Figure("of what was lost", "that, as a part of what the better model lacks beside the original", None),
        "share": Figure(
            "images gained", "part of forget validation images that the better line shows nearer to the truth than the "
            "better model does, ties half; 0.5 or less where the second model gives nothing away", 0.5, one_sided=True,
        ),
        "p": Figure("p", "chance of as large a part where it gives nothing away", None),
    }  # fmt: skip

    def __init__(self, other: str, beyond: Sequence[float]) -> None:
        """Hold each model beside the one of this id; follow the line beyond both by these parts of its length."""
        self.other, self.places = other, (0.0, 1.0, *(-by for by in beyond), *(1 + by for by in beyond))

    def samples(self, images: Items) -> str:
        shown = len(images["forget"]["validation"])
        return (
            f"{shown} forget validation images; for each half of them the place is chosen among {len(self.places)} of "
            f"each line on the other half. By chance images gained are 0.5 ± {band(shown):.3f} nineteen times in "
            "twenty."
        )

    def chance(self, images: Items) -> Mapping[str, float]:
        return {"share": band(len(images["forget"]["validation"]))}

    def examine(self, case: Case) -> Mapping[str, Finding]:
        if case.other is None:
            raise ValueError(f"it takes another model than {self.other}, and a solution of that id")
        outputs = _outputs(case.model, case.other, case.views("forget", "validation"), self.places)
        original = over(case.views("forget", "validation"), lambda view: _seen(case.reference.output(view), view))
        weights = _weights(case, case.other, self.places)
        if len(original) < 2:
            raise ValueError("too few images: there is one forget validation image, and none to choose a place by")
        better, line = crossed(weights[:2]), crossed(torch.cat([weights, outputs]))
        gain, lost = float((line - better).mean()), float((original - better).mean())
        share, p = nearer(-line, -better)
        means = weights[0], weights[1], crossed(weights), crossed(outputs)
        return {
            **dict(zip(self.figures, (float(one.mean()) for one in means), strict=False)),
            "gain": gain,
            "back": gain / lost if lost > 0 else Missing("the better model gives as much as the original"),
            "share": share,
            "p": p,
        }


def crossed(seen: Tensor) -> Tensor:
    """Return of what was seen at places, [places, N], for each half of the images that at the other half's best."""
    found = seen[0].clone()
    for half in (0, 1):
        found[half::2] = seen[seen[:, 1 - half :: 2].mean(1).argmax(), half::2]
    return found


def _weights(case: Case, other: ModelAdapter, places: Sequence[float]) -> Tensor:
    """Return the PSNR of forget validation images at places of the line through the weights, [places, N]."""
    ends = [[one.detach().clone() for one in model.module.parameters()] for model in (case.model, other)]

    def at(place: float) -> Tensor:
        for parameter, own, its in zip(case.model.module.parameters(), *ends, strict=True):
            parameter.data.copy_(torch.lerp(own, its, place))
        return over(case.views("forget", "validation"), lambda view: _seen(case.model.output(view), view))

    return torch.stack([at(place) for place in places])


def _outputs(model: ModelAdapter, other: ModelAdapter, views: Iterable[View], places: Sequence[float]) -> Tensor:
    """Return the same of the line through the outputs."""

    def seen(view: View) -> Tensor:
        own, its = model.output(view), other.output(view)
        return torch.stack([_seen(torch.lerp(own, its, place).clamp(0, 1), view) for place in places], 1)

    return over(views, seen).T


def _seen(outputs: Tensor, view: View) -> Tensor:
    """Return the PSNR [N] over what the model was to make; far out on a line weights can give no numbers at all."""
    return psnr(outputs.nan_to_num(), view.truth, view.region).double()
