"""What two models of one front give away together: the line through both leads back to the original."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unlearnkit.builtin.audits.chunks import over
from unlearnkit.builtin.audits.compared import band, nearer
from unlearnkit.contracts import Audit, Case, Figure, Finding, Items, Missing, Split, View, psnr

SPLITS: tuple[Split, Split] = ("train", "validation")


class TwoPoints(Audit):
    """PSNR of forget images on the lines through the weights, and through the outputs, of two models."""

    needs_truth = True
    figures: Mapping[str, Figure] = {
        "own": Figure("as it is", "PSNR over the hidden region of forget validation images", "lower", "dB"),
        "other": Figure("other model", "the same of the other model that is held", None, "dB"),
        "weights": Figure(
            "through weights", "the same at a place of the line through the weights of both, which is the best one on "
            "forget training images; both models are among the places", "lower", "dB",
        ),
        "outputs": Figure("through outputs", "the same on the line through the outputs of both", "lower", "dB"),
        "gain": Figure("gain", "what the better line gives beyond the better model", None, "dB"),
        "back": Figure("of what was lost", "that, as a part of what the better model lacks beside the original", None),
        "share": Figure(
            "images gained", "part of forget validation images that the better line shows nearer to the truth than the "
            "better model does, ties half; 0.5 where the second model gives nothing away", 0.5,
        ),
        "p": Figure("p", "chance of as large a part where it gives nothing away", None),
    }  # fmt: skip

    def __init__(self, other: str, beyond: Sequence[float]) -> None:
        """Hold each model beside the one of this id; follow the line beyond both by these parts of its length."""
        self.other, self.places = other, (0.0, 1.0, *(-by for by in beyond), *(1 + by for by in beyond))

    def samples(self, images: Items) -> str:
        train, shown = (len(images["forget"][split]) for split in SPLITS)
        return (
            f"{shown} forget validation images; the place is chosen among {len(self.places)} of each line on {train} "
            f"forget training images. By chance images gained are 0.5 ± {band(shown):.3f} nineteen times in twenty."
        )

    def chance(self, images: Items) -> Mapping[str, float]:
        return {"share": band(len(images["forget"]["validation"]))}

    def examine(self, case: Case) -> Mapping[str, Finding]:
        if case.other is None:
            raise ValueError(f"it takes another model than {self.other}, and a solution of that id")
        chosen, shown = ((_weights(case, split, self.places), _outputs(case, split, self.places)) for split in SPLITS)
        ends = shown[1][:2]
        best = [line[int(seen.mean(1).argmax())] for seen, line in zip(chosen, shown, strict=True)]
        (better, line), before = (max(these, key=torch.mean) for these in (ends, best)), case.reference
        original = over(case.views("forget", "validation"), lambda view: _seen(before.output(view), view))
        gain, lost = float((line - better).mean()), float((original - better).mean())
        share, p = nearer(-line, -better)
        return {
            "own": float(ends[0].mean()), "other": float(ends[1].mean()),
            "weights": float(best[0].mean()), "outputs": float(best[1].mean()), "gain": gain,
            "back": gain / lost if lost > 0 else Missing("the better model gives as much as the original"),
            "share": share, "p": p,
        }  # fmt: skip


def _weights(case: Case, split: Split, places: Sequence[float]) -> Tensor:
    """Return the PSNR of forget images at places of the line through the weights, [places, N]."""
    assert case.other is not None
    ends = [[one.detach().clone() for one in model.module.parameters()] for model in (case.model, case.other)]

    def at(place: float) -> Tensor:
        for parameter, own, other in zip(case.model.module.parameters(), *ends, strict=True):
            parameter.data.copy_(torch.lerp(own, other, place))
        return over(case.views("forget", split), lambda view: _seen(case.model.output(view), view))

    found = torch.stack([at(place) for place in places])
    at(0.0)
    return found


def _outputs(case: Case, split: Split, places: Sequence[float]) -> Tensor:
    """Return the same of the line through the outputs."""

    def seen(view: View) -> Tensor:
        own, other = (model.output(view) for model in (case.model, case.other) if model is not None)
        return torch.stack([_seen(torch.lerp(own, other, place).clamp(0, 1), view) for place in places], 1)

    return over(case.views("forget", split), seen).T


def _seen(outputs: Tensor, view: View) -> Tensor:
    """Return the PSNR [N] over what the model was to make; far out on a line weights can give no numbers at all."""
    return psnr(outputs.nan_to_num(), view.truth, view.region).double()
