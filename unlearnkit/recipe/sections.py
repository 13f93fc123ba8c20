"""The section classes that a plugin author subclasses: one class validates, documents and builds one thing.

A concrete section adds `kind: Literal["its-name"]`, its fields with a docstring under each, and the method named
below. The method may import torch; the module that defines the section must not, so that validation stays fast.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch

    from unlearnkit.audits import Audit
    from unlearnkit.contracts import Extractor, Images, Loss, Metric, ModelAdapter, Psi, Setting, Task
    from unlearnkit.control import Multiplier
    from unlearnkit.stages import Stage


class Section(BaseModel):
    """A frozen part of a recipe that refuses unknown keys and converts no types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def label(section: Section) -> str:
    """Return kind and fields in one line, such as `composite alpha = 0.25`; a field that is left out is not named."""
    fields = {name: value for name, value in section if name != "kind" and value is not None}
    said = (f"{name} = {_said(value)}" for name, value in fields.items())
    return f"{getattr(section, 'kind', '')} {', '.join(said)}".strip()


def _said(value: object) -> object:
    if isinstance(value, Section):
        return label(value)
    return " and ".join(map(str, value)) if isinstance(value, list) else value


class ModelSection(Section):
    """An image-to-image model: `kind` names the adapter."""

    kind: str
    """Which model adapter."""
    weights: str | None = None
    """Where the trained weights are: `sample:NAME`, a file or folder (relative to the recipe), or a pinned reference
    `hub:OWNER/NAME@COMMIT` or `hub:OWNER/NAME/FILE@COMMIT`. Without it the model is untrained."""
    train: Literal["encoder", "all"] = "encoder"
    """Which part unlearning may change; the rest stays frozen."""

    @abstractmethod
    def build(self, weights: Path | None) -> ModelAdapter:
        """Return the model in fp32 on the CPU, with `weights` (a file or folder) loaded or freshly initialised.

        Raise `UserError` where the weights do not fit.
        """


class DataSection(Section):
    """A source of labelled images."""

    kind: str
    """Which data source."""

    @abstractmethod
    def open(self, base: Path) -> Images:
        """List the images; relative paths start at `base`, the recipe's folder. Decode nothing yet."""


class TaskSection(Section):
    """A degradation T that makes an image-to-image task."""

    kind: str
    """Which degradation."""

    @abstractmethod
    def build(self) -> Task:
        """Return the degradation."""


class LossSection(Section):
    """A forget loss or a retain loss."""

    kind: str
    """Which loss."""

    @abstractmethod
    def build(self, setting: Setting) -> Loss:
        """Return the loss against the frozen reference of `setting`; raise `UserError` where it does not fit."""


class PsiSection(Section):
    """A control function ψ(θ): how fast the constraint loss has to fall."""

    kind: str
    """Which control function."""

    @abstractmethod
    def build(self) -> Psi:
        """Return ψ as a function of the constraint's loss, its bound and its squared gradient norm."""


class MultiplierSection(Section):
    """How the multiplier λ is found from the two losses and gradients of a step."""

    kind: str
    """Which rule."""

    @abstractmethod
    def build(self) -> Multiplier:
        """Return the rule with its state at the start of a problem."""


class MethodSection(Section):
    """A neighbouring method, run on the same model, split, seed and budget; a field that holds a list is swept."""

    part: ClassVar[Literal["encoder", "all"] | None] = None
    """What the method trains: the encoder, all but a frozen first stage, or None for what `model.train` says."""

    kind: str
    """Which method."""

    def each(self) -> list[Self]:
        """Return one section for each combination of the values of its swept fields, the last field fastest."""
        swept = {name: value for name, value in self if isinstance(value, list)}
        return [self.model_copy(update=dict(zip(swept, values, strict=True))) for values in product(*swept.values())]

    @abstractmethod
    def build(self, setting: Setting, forget: Loss, retain: Loss) -> Sequence[Stage]:
        """Return the stages; `forget` and `retain` are the recipe's f1 and f2. No field holds a list any more.

        Raise `UserError` where the method does not fit the model; it is called before a run begins.
        """


class ExtractorSection(Section):
    """A frozen network whose features some metrics compare."""

    kind: str
    """Which extractor."""

    @abstractmethod
    def build(self, base: Path, device: torch.device) -> Extractor:
        """Return the network on `device`; relative paths start at `base`, the recipe's folder.

        Raise `UserError` saying which file to put where if its weights are missing.
        """


class MetricSection(Section):
    """A measure of outputs against targets."""

    kind: str
    """Which metric."""

    @abstractmethod
    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the empty metric; relative paths start at `base`, the recipe's folder."""


class AuditSection(Section):
    """A test of whether a model has really forgotten."""

    kind: str
    """Which audit."""

    @abstractmethod
    def build(self, base: Path, device: torch.device) -> Audit:
        """Return the audit; relative paths start at `base`, the recipe's folder.

        Raise `UserError` saying which file to put where if weights are missing.
        """


OPEN: Mapping[str, tuple[type[Section], ...]] = {
    "register_models": (ModelSection,),
    "register_data": (DataSection,),
    "register_tasks": (TaskSection,),
    "register_losses": (LossSection,),
    "register_controls": (PsiSection, MultiplierSection),
    "register_methods": (MethodSection,),
    "register_extractors": (ExtractorSection,),
    "register_metrics": (MetricSection,),
    "register_audits": (AuditSection,),
}
"""Which section classes each hook may return subclasses of; a sort stands after those that its sections contain."""
