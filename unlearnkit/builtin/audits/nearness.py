"""Whether a model is nearer to a retrained one or to the original, by its outputs and by its encoder's layers."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from unlearnkit.builtin.audits.chunks import over
from unlearnkit.builtin.audits.compared import (
    NONE,
    alignment,
    auc_band,
    band,
    cka,
    embedded,
    kernel,
    nearer,
    rows,
    yardsticks,
)
from unlearnkit.builtin.audits.membership import auc
from unlearnkit.contracts import Audit, Case, Figure, Finding, Items, Missing, ModelAdapter, SetName, Split, View

RIDGE = 0.1
"""Weight decay of a linear probe, as a part of the mean squared length of a feature vector."""


class Relative(Audit):
    """A relative test of three samples: nearer to the retrained models, or to the original one."""

    needs_retrained = True
    figures: Mapping[str, Figure] = {
        "outputs": Figure(
            "outputs nearer", "part of forget images whose output is nearer to the retrained models' than to the "
            "original's; 1 of a further retrained model", 1.0,
        ),
        "outputs_p": Figure("p", "chance of as large a part where a model is as near to the one as to the other", None),
        "encoder": Figure(
            "encoder nearer", "part of forget images whose embedding lies among those of all images more as in the "
            "retrained models than as in the original", 1.0,
        ),
        "encoder_p": Figure("p of encoder", "the same chance of that", None),
        "apart": Figure(
            "apart", "root mean square distance of outputs from the retrained models', over that of the original's: "
            "above 1 it ended farther from them than it began", None,
        ),
    }  # fmt: skip

    def samples(self, images: Items) -> str:
        count = sum(len(images["forget"][split]) for split in ("train", "validation"))
        return (
            f"{count} forget images of training and validation; of a model that is as near to the one as to the other "
            f"both parts are within 0.5 ± {band(count):.3f} nineteen times in twenty."
        )

    def examine(self, case: Case) -> Mapping[str, Finding]:
        gold = yardsticks(case)
        views = [view for split in ("train", "validation") for view in case.views("forget", split)]
        context = list(case.views("retain", "validation"))

        region = over(views, lambda view: view.region)
        shown, original, *others = (over(views, one.output) for one in (case.model, case.reference, *gold))

        def distances(one: Tensor, *other: Tensor) -> Tensor:
            """Return the mean squared difference [N] over what the model was to make, a mean over the others."""
            found = [((one - each).square() * region).flatten(1).sum(1) for each in other]
            return torch.stack(found).mean(0).double() / (3 * region.flatten(1).sum(1))

        to_retrained, whole = distances(shown, *others), distances(original, *others).mean()
        share, p = nearer(to_retrained, distances(shown, original))
        own, before, *after = (kernel(embedded(one, [*views, *context])) for one in (case.model, case.reference, *gold))
        count = len(to_retrained)
        like = torch.stack([alignment(own, one) for one in after]).mean(0)
        held, held_p = nearer(-like[:count], -alignment(own, before)[:count])
        apart = float((to_retrained.mean() / whole).sqrt()) if whole else Missing("original and retrained are one")
        return {"outputs": share, "outputs_p": p, "encoder": held, "encoder_p": held_p, "apart": apart}


class Layers(Audit):
    """Linear CKA of layers of the encoder with the original's and the retrained models', and a probe of each."""

    needs_retrained = True

    def __init__(self, count: int) -> None:
        """Look at so many layers, evenly spaced, the last one among them."""
        self.count = count
        self.figures = {
            key: figure
            for place in range(1, count + 1)
            for key, figure in (
                (f"original_{place}", Figure(
                    f"original, {place} of {count}", "linear CKA with the same layer of the original model on forget "
                    "images: 1 where it is the same but for a rotation", "lower",
                )),
                (f"retrained_{place}", Figure(
                    f"retrained, {place} of {count}", "the same with the retrained models, a mean", None,
                )),
                (f"probe_{place}", Figure(
                    f"probe, {place} of {count}", "AUC of forget against retain images that a linear probe of the "
                    "layer was not fitted on", None,
                )),
            )
        }  # fmt: skip
        meaning = "largest difference of a layer's probe from the retrained models'; 0 where it tells as much"
        self.figures["excess"] = Figure("probe beyond retrained", meaning, 0.0)

    def samples(self, images: Items) -> str:
        forget, retain = (len(images[of]["validation"]) for of in ("forget", "retain"))
        return (
            f"{forget} forget and {retain} retain validation images; the probe is fitted on the training images of "
            f"both. Where nothing differs its AUC is within 0.5 ± {auc_band(forget, retain):.3f} nineteen times in "
            "twenty."
        )

    def chance(self, images: Items) -> Mapping[str, float]:
        return {"excess": auc_band(*(len(images[of]["validation"]) for of in ("forget", "retain")))}

    def examine(self, case: Case) -> Mapping[str, Finding]:
        places: list[tuple[SetName, Split]] = [
            ("forget", "train"), ("retain", "train"), ("forget", "validation"), ("retain", "validation"),
        ]  # fmt: skip
        sets = [list(case.views(*place)) for place in places]
        counts = [sum(len(view.images) for view in views) for views in sets]
        views = [view for views in sets for view in views]
        which = torch.tensor([of == "forget" for of, _ in places]).repeat_interleave(torch.tensor(counts))
        fitted = torch.arange(len(which)) < counts[0] + counts[1]
        shown = which & ~fitted

        def looked(model: ModelAdapter) -> list[tuple[Tensor, float]]:
            found = layers(model, views)
            if not found:
                raise ValueError("the encoder has no layers: none of its parts gives a row an image")
            count = min(self.count, len(found))
            chosen = [found[(place + 1) * len(found) // count - 1] for place in range(count)]
            return [(kernel(one[shown]), probed(kernel(one), which, fitted)) for one in chosen]

        if not 0 < int(shown.sum()) < int((~fitted).sum()):
            raise ValueError("too few images: there are no validation images of both sets")
        own, before, after = looked(case.model), looked(case.reference), [looked(one) for one in case.retrained]
        found: dict[str, Finding] = {}
        for place, (one, probe) in enumerate(own):
            gold = [cka(one, other[place][0]) for other in after]
            found |= {
                f"original_{place + 1}": cka(one, before[place][0]),
                f"retrained_{place + 1}": fmean(gold) if gold else Missing(NONE),
                f"probe_{place + 1}": probe,
            }
        fewer = Missing(f"the encoder has {len(own)} layer{'s' * (len(own) > 1)}")
        found = {name: found.get(name, fewer) for name in self.figures}
        beyond = [probe - fmean(other[i][1] for other in after) for i, (_, probe) in enumerate(own)] if after else []
        return {**found, "excess": max(beyond, key=abs) if beyond else Missing(NONE)}


def layers(model: ModelAdapter, views: Sequence[View]) -> list[Tensor]:
    """Return what the layers of an encoder make of the views, one row an image, in their order in its pass.

    They are the outermost items of its lists of modules, or without a list its parts.
    """
    seen: list[dict[nn.Module, Tensor]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple | list) else output
        if isinstance(first, Tensor):
            seen[-1][module] = first

    def found(view: View) -> list[Tensor]:
        seen.append({})
        model.embed(view)
        return [value for value in seen.pop().values() if value.shape[:1] == view.images.shape[:1]]

    handles = [module.register_forward_hook(note) for module in _listed(model.encoder) or model.encoder.children()]
    try:
        return rows(views, found)
    finally:
        for handle in handles:
            handle.remove()


def _listed(module: nn.Module) -> list[nn.Module]:
    found = list[nn.Module]()
    for child in module.children():
        found += list(child.children()) if isinstance(child, nn.ModuleList | nn.Sequential) else _listed(child)
    return found


def probed(products: Tensor, which: Tensor, fitted: Tensor) -> float:
    """Return the AUC of a ridge regression of `which` on images [N] that are not `fitted`, from their kernel [N, N]."""
    inside = products[fitted][:, fitted]
    ridge = RIDGE * inside.diagonal().mean().clamp(min=1e-30) * torch.eye(len(inside), dtype=inside.dtype)
    told = which[fitted].double()
    weights = torch.linalg.solve(inside + ridge, told - told.mean())
    return auc(products[~fitted][:, fitted] @ weights, which[~fitted])
