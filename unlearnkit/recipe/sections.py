"""The section classes that a plugin author subclasses: one class validates, documents and builds one thing.

A concrete section adds `kind: Literal["its-name"]`, its fields with a docstring under each, and the method named
below. The method may import torch; the module that defines the section must not, so that validation stays fast.
Relative paths start at `base`, the recipe's folder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from unlearnkit.errors import Exit, UserError

if TYPE_CHECKING:
    import torch

    from unlearnkit.contracts import Audit, Extractor, Images, Loss, Metric, ModelAdapter, Psi, Setting, Target, Task
    from unlearnkit.control import Multiplier, Stage

T = TypeVar("T")


class Section(BaseModel):
    """A frozen part of a recipe that refuses unknown keys and converts no types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
    _folder: Path = PrivateAttr(default=Path())

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__  # wherever the recipe is

    @property
    def folder(self) -> Path:
        """The recipe's folder, where relative paths start; the working folder for a section that no recipe made."""
        return self._folder


def placed(value: T, folder: Path) -> T:
    """Return a section, or a list of them, with all that is in it as of a recipe in `folder`."""
    if isinstance(value, list):
        return [placed(one, folder) for one in value]  # type: ignore[return-value]
    if not isinstance(value, Section):
        return value
    copied = value.model_copy(update={name: placed(part, folder) for name, part in value})
    copied._folder = folder
    return copied


def kind_of(cls: type[Section]) -> str:
    """Return the `kind` a concrete section answers to; raise `TypeError` where it declares none."""
    match get_args(cls.model_fields["kind"].annotation):
        case (str(kind),):
            return kind
    raise TypeError(f'{cls.__module__}.{cls.__qualname__} must declare `kind: Literal["its-name"]`')


def label(section: Section) -> str:
    """Return kind and fields in one line, such as `composite alpha = 0.25`; a field that is left out is not named."""
    said = (f"{name} = {_said(value)}" for name, value in section if name != "kind" and value is not None)
    return f"{getattr(section, 'kind', '')} {', '.join(said)}".strip()


def _said(value: object) -> object:
    if isinstance(value, Section):
        return label(value)
    return " and ".join(map(str, value)) if isinstance(value, list) else value


class _Kinded(Section):
    """A section that plugins bring; what its `build` or `open` returns is held against the contract."""

    kind: str
    """Which of its sort."""
    makes: ClassVar[str | None] = None
    """The contract that it builds, by its name in `unlearnkit.contracts` or `unlearnkit.control`."""

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        for name in ("build", "open"):
            method = cls.__dict__.get(name)
            if cls.makes and callable(method) and not getattr(method, "__isabstractmethod__", False):
                setattr(cls, name, _held(method))


def _held(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a section's method that raises `UserError` where it returns something else than its section makes."""

    @wraps(method)
    def build(self: _Kinded, *arguments: Any, **named: Any) -> Any:
        from unlearnkit import contracts, control

        made, name = method(self, *arguments, **named), str(self.makes)
        wanted = getattr(control, name, None) or getattr(contracts, name)
        several = name == "Stage"
        if several:
            fits = isinstance(made, Sequence) and len(made) > 0 and all(isinstance(one, wanted) for one in made)
        else:
            fits = callable(made) if name == "Psi" else isinstance(made, wanted)
        if not fits:
            contract = f"a list of {name}s" if several else f"a {name}"
            said = f"{type(self).__module__}.{type(self).__qualname__}.{method.__name__} of the kind '{self.kind}'"
            raise UserError(f"{said} returned a {type(made).__name__}; expected {contract}", Exit.PLUGIN)
        return made

    return build


class Lora(Section):
    """Low-rank adapters beside frozen weights (Hu et al. 2022): they alone are trained, and merged by `export`."""

    kind: Literal["lora"] = "lora"
    """Low-rank adapters."""
    part: Literal["encoder", "all"] = "encoder"
    """Whose layers get one: the encoder's, or those of all but a frozen first stage."""
    rank: Annotated[int, Field(ge=1)] = 8
    """Rank of each adapter: that of a layer from m to n features has rank times m + n parameters."""
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Layers that get one, by the ends of their names, such as `to_q` or `attn.qkv`. Left out, it is all linear layers
    and convolutions that have more weights than their adapter would have."""


class ModelSection(_Kinded):
    """An image-to-image model: `kind` names the adapter."""

    makes: ClassVar = "ModelAdapter"
    weights: str | None = None
    """Where the trained weights are: `sample:NAME`, a file or folder (relative to the recipe), or a pinned reference
    `hub:OWNER/NAME@COMMIT` or `hub:OWNER/NAME/FILE@COMMIT`. Without it the model is untrained."""
    train: Literal["encoder", "all", "lora"] | Lora = "encoder"
    """Which part unlearning may change; the rest stays frozen. Losses between embeddings reach the encoder alone. With
    `lora` all weights stay frozen, and low-rank adapters beside them are trained: a fraction of the memory."""
    usual: ClassVar[str | None] = None
    """Weights that fit a section with its defaults, where some are shipped; what `unlearnkit init` offers."""

    @property
    def lora(self) -> Lora | None:
        """The adapters that are trained, if it is those."""
        return Lora() if self.train == "lora" else None if isinstance(self.train, str) else self.train

    @property
    def part(self) -> Literal["encoder", "all"]:
        """The part that is trained, or whose adapters are."""
        if (lora := self.lora) is not None:
            return lora.part
        return "all" if self.train == "all" else "encoder"

    @abstractmethod
    def build(self, weights: Path | None) -> ModelAdapter:
        """Return the fp32 model on the CPU, fresh or of `weights` (file, folder); raise `UserError` if they misfit."""


class DataSection(_Kinded):
    """A source of labelled images."""

    makes: ClassVar = "Images"

    @abstractmethod
    def open(self, base: Path) -> Images:
        """List the images; decode nothing yet."""


class TaskSection(_Kinded):
    """A degradation T that makes an image-to-image task."""

    makes: ClassVar = "Task"

    @abstractmethod
    def build(self) -> Task:
        """Return the degradation."""


class LossSection(_Kinded):
    """A forget loss or a retain loss."""

    makes: ClassVar = "Loss"

    @abstractmethod
    def build(self, setting: Setting) -> Loss:
        """Return the loss against the frozen reference of `setting`; raise `UserError` where it does not fit."""


class PsiSection(_Kinded):
    """A control function ψ(θ): how fast the constraint loss has to fall."""

    makes: ClassVar = "Psi"

    @abstractmethod
    def build(self) -> Psi:
        """Return ψ as a function of the constraint's loss, its bound and its squared gradient norm."""


class MultiplierSection(_Kinded):
    """How the multiplier λ is found from the two losses and gradients of a step."""

    makes: ClassVar = "Mixture"

    @abstractmethod
    def build(self) -> Multiplier:
        """Return the rule with its state at the start of a problem."""


class MethodSection(_Kinded):
    """A neighbouring method, run on the same model, split, seed and budget; a field that holds a list is swept."""

    makes: ClassVar = "Stage"
    part: ClassVar[Literal["encoder", "all"] | None] = None
    """What the method trains: the encoder, all but a frozen first stage, or None for what `model.train` says."""
    retrained: ClassVar[bool] = False
    """True where its solution never saw the forget set, so that others are measured against it where its last stage
    says by `whole` how many steps the original had, and it takes as many."""

    def each(self) -> list[Self]:
        """Return one section for each combination of the values of its swept fields, the last field fastest."""
        swept = {name: value for name, value in self if isinstance(value, list)}
        return [self.model_copy(update=dict(zip(swept, values, strict=True))) for values in product(*swept.values())]

    @abstractmethod
    def build(self, setting: Setting, forget: Loss, retain: Loss) -> Sequence[Stage]:
        """Return the stages; `forget` and `retain` are the recipe's f1 and f2. No field holds a list any more.

        Raise `UserError` where the method does not fit the model; it is called before a run begins.
        """


class ExtractorSection(_Kinded):
    """A frozen network whose features some metrics compare."""

    makes: ClassVar = "Extractor"

    @abstractmethod
    def build(self, base: Path, device: torch.device) -> Extractor:
        """Return the network on `device`; raise `UserError` saying which file to put where if weights are missing."""


class MetricSection(_Kinded):
    """A measure of outputs against targets."""

    makes: ClassVar = "Metric"

    @abstractmethod
    def build(self, base: Path, device: torch.device) -> Metric:
        """Return the empty metric."""


class AuditSection(_Kinded):
    """A test of whether a model has really forgotten."""

    makes: ClassVar = "Audit"

    @abstractmethod
    def build(self, base: Path, device: torch.device) -> Audit:
        """Return the audit; raise `UserError` saying which file to put where if weights are missing."""


class TargetSection(_Kinded):
    """What a user wants of a model, in place of an ε; it is looked for on the dial."""

    makes: ClassVar = "Target"
    polish: int = Field(0, ge=0)
    """Steps that are taken from the point that was found, at its ε, and kept where f2 is lower behind them."""

    def name(self) -> tuple[str, str] | None:
        """Return id and label of its solution where these are not to be made from kind and label."""
        return None

    @abstractmethod
    def build(self, base: Path, device: torch.device, metrics: Sequence[str]) -> Target:
        """Return what is measured and when it is met; `metrics` are the keys of `evaluate.metrics`.

        Raise `UserError` where the recipe lacks what it measures.
        """


class Call(Protocol):
    """What another process was asked to do."""

    def done(self) -> bool:
        """Tell whether it has ended."""
        ...

    def result(self) -> Any:
        """Return what was returned; raise whatever where the process ended before it was."""
        ...


Submit = Callable[..., Call]
"""From a function of a module and its plain arguments to the call of it in another process, which begins soon."""


class ExecutorSection(_Kinded):
    """What does the tasks of a run beside the command: the solving, evaluating and auditing of each of its models."""

    workers: int = Field(2, ge=1, le=4096)
    """Tasks at one moment, at most."""
    whole: ClassVar[bool] = False
    """Whether one task takes all that there is to do of a model, where it is dear to begin one."""

    @abstractmethod
    def open(self, logs: Path) -> AbstractContextManager[Submit]:
        """Return what has functions called by workers, and ends all that is left of them.

        `logs` is a folder for what they print. Raise `UserError` where the engine is not there.
        """


class Sort(NamedTuple):
    """A sort of sections that plugins bring."""

    name: str
    """As `unlearnkit list` has it."""
    section: type[Section]
    """What they subclass."""
    hook: str
    """What returns them."""
    meaning: str
    """What they are and where they stand in a recipe, for the hook's documentation."""


SORTS = (
    Sort("models", ModelSection, "register_models", "model sections, for `model:`"),
    Sort("data", DataSection, "register_data", "data sections, for `data.source:`"),
    Sort("tasks", TaskSection, "register_tasks", "task sections, for `task:`"),
    Sort("losses", LossSection, "register_losses", "loss sections, for `forget:` and `retain:`"),
    Sort("controls", PsiSection, "register_controls",
         "control functions, for `control.boundary:` and `control.epsilon:`"),
    Sort("multipliers", MultiplierSection, "register_controls", "rules for λ, for `control.multiplier:`"),
    Sort("methods", MethodSection, "register_methods", "method sections, for `compare:`"),
    Sort("extractors", ExtractorSection, "register_extractors",
         "networks whose features metrics compare, for `extractor:` of a metric"),
    Sort("metrics", MetricSection, "register_metrics", "metric sections, for `evaluate.metrics:`"),
    Sort("audits", AuditSection, "register_audits", "audit sections, for `evaluate.audits:`"),
    Sort("targets", TargetSection, "register_targets", "targets, for `epsilons.targets:`"),
    Sort("executors", ExecutorSection, "register_executors", "executors, for `--executor`"),
)  # fmt: skip
"""All sorts, the one place that lists them; one stands after those that its sections contain."""

OPEN: Mapping[str, tuple[type[Section], ...]] = {
    hook: tuple(sort.section for sort in sorts) for hook, sorts in groupby(SORTS, lambda sort: sort.hook)
}
"""Which section classes each hook may return subclasses of."""
