"""Audits that train on: a fresh decoder, and relearning."""

from collections.abc import Mapping, Sequence

from unlearnkit.builtin.audits.chunks import error, hidden_psnr
from unlearnkit.contracts import Audit, Case, Figure, Finding, Items, OptimizerSection, Over, SetName, trainable

TINY = 1e-12
"""Least squared error that is divided by."""


class FreshDecoder(Audit):
    """PSNR of forget images through a decoder that was trained anew on the frozen encoder."""

    needs_truth = True

    def __init__(self, on: Sequence[SetName], steps: int, optimizer: OptimizerSection | None) -> None:
        """Train the decoder for so many steps on the training images of `on`; None is the recipe's optimiser."""
        self.on, self.steps, self.optimizer = on, steps, optimizer
        self.figures = {
            "own": Figure("own decoder", "PSNR over the hidden region, with the decoder as it is", "lower", "dB"),
            "fresh": Figure(
                "fresh decoder", "the same with a decoder trained anew on the frozen encoder: high where the "
                "embeddings still hold what the own decoder does not show", "lower", "dB",
            ),
        }  # fmt: skip

    def samples(self, images: Items) -> str:
        trained = " and ".join(f"{len(images[name]['train'])} {name}" for name in self.on)
        return (
            f"Measured on {len(images['forget']['validation'])} forget validation images; the decoder is trained for "
            f"{self.steps} steps on {trained} training images."
        )

    def examine(self, case: Case) -> Mapping[str, Finding]:
        own = hidden_psnr(case.model, case.views("forget", "validation"))
        decoder = case.rest()
        case.refresh(decoder)
        for _ in case.train(decoder, self.on, self.steps, self.optimizer, decay=0.5):
            pass
        return {"own": own, "fresh": hidden_psnr(case.model, case.views("forget", "validation"))}


class Relearning(Audit):
    """Steps of fine-tuning until the error on forget validation images is back to that of the original."""

    needs_truth = True

    def __init__(
        self, on: Sequence[SetName], recovered: float, steps: int, every: int, optimizer: OptimizerSection | None
    ) -> None:
        """Train on each of `on` until so much is `recovered`, at most `steps`, looking `every` so many."""
        self.on, self.recovered, self.steps, self.every, self.optimizer = on, recovered, steps, every, optimizer
        back = "the original's squared error over the model's, on forget validation images"
        self.figures = {"start": Figure("recovered at first", back, "lower")}
        for name in self.on:
            data = "forget images" if name == "forget" else "benign (retain) images"
            until = f"steps on {data} until that is {recovered:g}"
            self.figures |= {
                f"{name}_steps": Figure(f"steps on {name} images", until, "higher"),
                f"{name}_most": Figure(f"most recovered on {name} images", "the highest it was until then", "lower"),
            }

    def samples(self, images: Items) -> str:
        trained = " or ".join(f"{len(images[name]['train'])} {name}" for name in self.on)
        return (
            f"Measured on {len(images['forget']['validation'])} forget validation images every {self.every} "
            f"steps, {self.steps} at most; trained on {trained} training images."
        )

    def examine(self, case: Case) -> Mapping[str, Finding]:
        views = list(case.views("forget", "validation"))
        goal = error(case.reference, views)
        found: dict[str, Finding] = {}
        everything = trainable(case.model)
        start = [parameter.detach().clone() for parameter in everything]
        for name in self.on:
            for parameter, value in zip(everything, start, strict=True):
                parameter.data.copy_(value)
            reached: Finding = Over(self.steps)
            parts: list[float] = []
            for step in case.train(everything, (name,), self.steps, self.optimizer, decay=0.0):
                if step % self.every and step < self.steps:
                    continue
                parts.append(goal / max(error(case.model, views), TINY))
                if parts[-1] >= self.recovered:
                    reached = step
                    break
            found |= {"start": parts[0], f"{name}_steps": reached, f"{name}_most": max(parts)}
        return found
