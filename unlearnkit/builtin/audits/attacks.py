"""Attacks on a model as it is handed over: coarser weights, and inputs that are searched for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from unlearnkit.builtin.audits.chunks import NO_VALIDATION, hidden_psnr
from unlearnkit.contracts import Audit, Case, Figure, Finding, Items, ModelAdapter, View, psnr, region_error


class Quantised(Audit):
    """PSNR of forget images with the weights rounded to a few bits, which has brought back what was only hidden."""

    needs_truth = True

    def __init__(self, bits: Sequence[int]) -> None:
        """Round to each of these numbers of bits."""
        self.bits = bits
        self.figures = {
            "own": Figure("as it is", "PSNR over the hidden region of forget validation images", "lower", "dB"),
            **{f"bits_{n}": Figure(f"{n} bit", f"the same with weights of {n} bit", "lower", "dB") for n in bits},
            **{f"retain_{n}": Figure(f"retain, {n} bit", "the same of retain images", None, "dB") for n in bits},
        }

    def samples(self, images: Items) -> str:
        forget, retain = (len(images[of]["validation"]) for of in ("forget", "retain"))
        return f"{forget} forget and {retain} retain validation images; each row of a weight has a scale of its own."

    def examine(self, case: Case) -> Mapping[str, Finding]:
        weights = [(one, one.detach().clone()) for one in case.model.module.parameters()]
        found: dict[str, Finding] = {"own": hidden_psnr(case.model, case.views("forget", "validation"))}
        for bits in self.bits:
            for parameter, value in weights:
                parameter.data.copy_(rounded(value, bits))
            found[f"bits_{bits}"] = hidden_psnr(case.model, case.views("forget", "validation"))
            found[f"retain_{bits}"] = hidden_psnr(case.model, case.views("retain", "validation"))
        return found


def rounded(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return a weight rounded to 2**bits − 1 steps, symmetric about 0, each row scaled by its largest entry."""
    rows = weight.reshape(len(weight), -1) if weight.dim() > 1 else weight.reshape(1, -1)
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / (2 ** (bits - 1) - 1)
    return ((rows / scale).round() * scale).reshape(weight.shape)


class Adversarial(Audit):
    """PSNR of forget images after a search in what is visible for an input that makes the model fill in the truth."""

    needs_truth = True
    figures: Mapping[str, Figure] = {
        "own": Figure("as it is", "PSNR over the hidden region of forget validation images", "lower", "dB"),
        "found": Figure(
            "with the input found", "the same with visible pixels moved within the bound so that the truth is filled "
            "in, by projected gradient descent (Madry et al. 2018) on the decoded embedding", "lower", "dB",
        ),
        "gain": Figure("gain", "what the search adds: much where a model holds what it does not show", None, "dB"),
    }  # fmt: skip

    def __init__(self, steps: int, bound: float, most: int) -> None:
        """Take so many steps, move a pixel by `bound` at most, of values in [0, 1], in `most` images."""
        self.steps, self.bound, self.most = steps, bound, most

    def samples(self, images: Items) -> str:
        count = min(self.most, len(images["forget"]["validation"]))
        return f"{count} forget validation images; {self.steps} steps, visible pixels within ± {self.bound:.4f}."

    def examine(self, case: Case) -> Mapping[str, Finding]:
        own, found, left = list[torch.Tensor](), list[torch.Tensor](), self.most
        for view in case.views("forget", "validation"):
            some = view[: min(left, len(view.images))]
            if not len(some.images):
                break
            left -= len(some.images)
            attacked = searched(case.model, some, self.steps, self.bound)
            with torch.no_grad():
                for values, shown in ((own, some), (found, attacked)):
                    values.append(psnr(case.model.output(shown), some.truth, some.region))
        if not own:
            raise ValueError(NO_VALIDATION)
        before, after = (float(torch.cat(values).double().mean()) for values in (own, found))
        return {"own": before, "found": after, "gain": after - before}


def searched(model: ModelAdapter, view: View, steps: int, bound: float) -> View:
    """Return a view with visible pixels within `bound` of their own, moved so that the decoded embedding is the truth.

    Raise `ValueError` where no gradient reaches them.
    """
    seen = (~view.hidden).float() if view.images.shape == view.truth.shape else torch.ones_like(view.images[:, :1])
    moved = torch.zeros_like(view.images)
    rate = 2.5 * bound / steps
    for _ in range(steps):
        moved.requires_grad_(True)
        with torch.enable_grad():
            shown = _shifted(view, moved * seen)
            error = region_error(model.decode(model.embed(shown), shown), view).sum()
            gradient = torch.autograd.grad(error, moved, allow_unused=True)[0] if error.requires_grad else None
        if gradient is None:
            raise ValueError("no gradient of the model's outputs reaches its input")
        moved = (moved.detach() - rate * gradient.sign()).clamp(-bound, bound)
    return _shifted(view, moved.detach() * seen)


def _shifted(view: View, by: torch.Tensor) -> View:
    images = (view.images + by).clamp(0, 1)
    return replace(view, degraded=replace(view.degraded, images=images, state=None), stage=())
