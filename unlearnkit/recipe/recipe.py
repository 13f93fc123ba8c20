"""The recipe: its sections, and how they are assembled from the classes that plugins registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from unlearnkit.recipe.sections import (
    OPEN,
    AuditSection,
    DataSection,
    LossSection,
    MethodSection,
    MetricSection,
    ModelSection,
    MultiplierSection,
    PsiSection,
    Section,
    TaskSection,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Unit = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class PerClass(Section):
    """How many images of each class are used."""

    train: Count | None = None
    """For training; all that the source has when left out."""
    validation: Annotated[int, Field(ge=0)] | None = None
    """For validation, never trained on; all that the source has when left out."""


class Selection(Section):
    """Which images belong to a set: those that fit every criterion given."""

    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of the source's classes; all when left out."""
    files: str | None = None
    """A text file, relative to the recipe, with the key of one image a line: its path below the source's folder."""
    where: Annotated[dict[str, str | list[str]], Field(min_length=1)] | None = None
    """Values, or lists of them, that columns of the source must have, such as `{identity: [n03, n17]}`."""
    draw: Annotated[int, Field(gt=0)] | None = None
    """So many of the classes that the others leave, drawn from the seed; for the retain set from those without an image
    in the forget set. `results.json` lists them."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Part of what the others select, drawn from the seed: 0.01 alone is one in a hundred of all images."""
    per_class: PerClass | None = None
    """How many images of each class this set uses; `data.per_class` when left out."""
    source: DataSection | None = None
    """Another source than `data.source`, such as a proxy retain set."""


class Data(Section):
    """The images and their split."""

    source: DataSection
    """Where the images come from."""
    forget: Selection
    """The forget set; it needs a criterion: `classes`, `files`, `where`, `draw` or `fraction`."""
    retain: Selection
    """The retain set, which never holds an image of the forget set; `{}` is the rest of the source."""
    per_class: PerClass = PerClass()
    """How many images of each class are used; which ones is drawn from the seed."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of what is drawn here; the recipe's `seed` when left out. With `seeds` all of them see the same images."""
    memory_mib: Annotated[int, Field(ge=0)] = 8192
    """Memory for decoded images, MiB; what it does not hold is decoded again for each batch. It changes no number."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Processes that decode the batches of each set that memory does not hold; 0 decodes them when they are needed."""


class Control(Section):
    """The control functions ψ(θ) of both phases, and how λ is found."""

    boundary: PsiSection = Field({"kind": "gradient-norm"}, validate_default=True)
    """ψ of phase 1."""
    lowest: PsiSection | None = None
    """ψ of phase 1's lowest completeness, where f1 and f2 have changed places and α weighs the retain loss; that of
    `boundary` when left out."""
    epsilon: PsiSection = Field({"kind": "relative-gap"}, validate_default=True)
    """ψ of phase 2."""
    multiplier: MultiplierSection = Field({"kind": "averaged"}, validate_default=True)
    """How λ is found in phase 2; phase 1 always uses the closed form."""
    landing: Literal["line", "none"] = "line"
    """What is done where a solution of phase 2 ends off its ε: `line` moves it to where f1 on the whole set is ε,
    from above down ∇f1 or towards the highest completeness, from below, where f2 falls, towards the lowest
    completeness; `none`, as published, leaves it."""


class Epsilons(Section):
    """The bounds on the forget loss, one solution each; give `fractions` or `values`, not both."""

    fractions: Annotated[list[Fraction], Field(min_length=1)] | None = None
    """Places in the valid range: 0 is the highest completeness, 1 the lowest."""
    values: Annotated[list[float], Field(min_length=1)] | None = None
    """Values of the forget loss; one outside the valid range is reported and not run."""


class Independent(Section):
    """Each ε by itself."""

    kind: Literal["independent"] = "independent"
    """No ε needs another one's solution."""
    start: Literal["line", "original", "highest"] = "line"
    """`line` starts at the point between the weights of the two boundaries where f1 = ε, `original` at the original
    weights, `highest` at the highest completeness."""


class Continuation(Section):
    """Each ε from its neighbour's solution."""

    kind: Literal["continuation"]
    """One ε after the other."""
    direction: Literal["tighten", "relax"] = "tighten"
    """`tighten` goes from loose to tight, each ε from the point where f1 = ε between the solution before it and the
    highest completeness; `relax` from tight to loose, as published, each from the solution before it."""
    budget: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Steps of each ε but the first, as a part of `training`'s budget of one problem."""


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    kind: Literal["adamw"] = "adamw"
    """AdamW."""
    lr: Positive = 1e-4
    """Learning rate."""
    betas: tuple[Unit, Unit] = (0.9, 0.95)
    """Decay of the averages of the gradient and of its square."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay."""

    def build(self, parameters: Iterable[Tensor]) -> Optimizer:
        """Return the optimiser, as one fused kernel."""
        from torch.optim import AdamW

        return AdamW(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)


class SGD(Section):
    """Stochastic gradient descent."""

    kind: Literal["sgd"]
    """SGD."""
    lr: Positive
    """Learning rate."""
    momentum: Unit = 0.0
    """Momentum."""

    def build(self, parameters: Iterable[Tensor]) -> Optimizer:
        """Return the optimiser, as one fused kernel."""
        from torch.optim import SGD

        return SGD(parameters, lr=self.lr, momentum=self.momentum, fused=True)


class Cache(Section):
    """How much of what is frozen (first stage, reference) is kept instead of computed at every step again."""

    memory_mib: Annotated[int, Field(ge=0)] = 2048
    """Memory for it on the device, MiB."""
    disk_mib: Annotated[int, Field(ge=0)] = 16384
    """Room for it in memory-mapped files inside the run folder, MiB, used where memory does not suffice."""


class Training(Section):
    """How every problem is optimised; each boundary and each ε gets the same budget."""

    optimizer: Annotated[AdamW | SGD, Field(discriminator="kind")] = AdamW()
    """The optimiser that gets the direction as its gradient."""
    batch_size: Count = 32
    """Images of the forget set and of the retain set in each step: this many of each."""
    epochs: Positive | None = None
    """Budget of one problem in passes over the larger training set; 8 when neither this nor `steps` is given."""
    steps: Count | None = None
    """Budget of one problem in steps; give this or `epochs`."""
    decay: Fraction = 0.5
    """Last part of the budget over which the learning rate falls to zero along a half cosine."""
    checks: Count = 2
    """How often a problem looks at f1, f2 and the stationarity residual on the whole training sets, evenly spaced; each
    costs as much as the steps of one pass over both sets."""
    checkpoint_every: Count = 50
    """Steps between checkpoints."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the student's forward and backward pass in a step; weights, losses, reference and looks at the whole
    sets stay in fp32, and so do steps near the original weights, where bf16 would drown the retain loss in rounding."""
    compile: bool = False
    """Whether the student's pass in a step is compiled (`torch.compile`). That takes a minute or more once for each of
    the two losses and saves some of every step; looks at the whole sets are not compiled."""
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    """Smallest part of an image's area that a random crop keeps, with random flips; no augmentation when left out.
    With it every view is new, so that nothing frozen can be kept."""
    cache: Cache = Cache()
    """Room for what is computed once; it changes no number."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`cpu`, `cuda`, `cuda:1`, or `auto`: a CUDA device where there is one."""


class Evaluate(Section):
    """What is measured on every solution, and how many images the report shows."""

    metrics: list[MetricSection] = Field([{"kind": "psnr"}, {"kind": "ssim"}], validate_default=True)
    """Metrics on each set, against the ground truth and against the original model."""
    train: bool = True
    """Measure the training images too; false saves most of the time where they are many or sampling is slow."""
    images: Annotated[int, Field(ge=1, le=64)] = 8
    """Validation images of each set that the report shows."""
    tasks: list[TaskSection] = []  # noqa: RUF012
    """Further tasks that every solution is measured on, such as other crop sizes; the training task always is. They
    cost one pass over the validation images for each solution."""
    audits: list[AuditSection] = []  # noqa: RUF012
    """Tests of whether the original model and every solution have really forgotten; most of them train."""


class Recipe(Section):
    """A task of controllable unlearning: model, data, control, ε, training, evaluation."""

    name: Name = "unlearning"
    """Name of the run and of its folder: lower-case letters, digits and hyphens."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    """Run once for each of these seeds, on the same images, and report means and standard deviations."""
    model: ModelSection
    """The trained model that has to forget."""
    data: Data
    """Images, forget set and retain set."""
    task: TaskSection = Field({"kind": "center-crop"}, validate_default=True)
    """The degradation T(x) that makes the task."""
    forget: LossSection = Field({"kind": "noise-embedding"}, validate_default=True)
    """The forget loss f1."""
    retain: LossSection = Field({"kind": "reference-embedding"}, validate_default=True)
    """The retain loss f2."""
    control: Control = Field({}, validate_default=True)
    """The control functions of both phases."""
    epsilons: Epsilons = Epsilons(fractions=[0.0, 0.25, 0.5, 0.75, 1.0])
    """The bounds on the forget loss."""
    sweep: Annotated[Independent | Continuation, Field(discriminator="kind")] = Independent()
    """Where each ε starts."""
    training: Training = Training()
    """Optimiser and budget."""
    compare: list[MethodSection] = []  # noqa: RUF012
    """Other methods to run on the same model, data and budget."""
    evaluate: Evaluate = Field({}, validate_default=True)
    """Metrics and pictures."""


class Source(Section):
    """Images to train on, without a split into forget and retain."""

    source: DataSection
    """Where the images come from."""
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    """Classes to use; all when left out."""
    per_class: PerClass = PerClass()
    """How many images of each class are used."""


class PretrainTraining(Section):
    """How a model is trained with its own loss."""

    optimizer: Annotated[AdamW | SGD, Field(discriminator="kind")] = AdamW()
    """The optimiser."""
    batch_size: Count = 64
    """Images a step."""
    steps: Count = 1000
    """Steps."""
    warmup: Fraction = 0.05
    """First part of the steps over which the learning rate rises; then it falls along a half cosine."""
    crop: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Smallest part of an image's area that a random crop keeps; images are also flipped."""
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0
    """Decay of the moving average of the weights, which is what is validated and stored; 0 stores the last weights."""
    half: bool = False
    """Store the weights in half precision."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """`cpu`, `cuda`, or `auto`."""


class PretrainRecipe(Section):
    """Train a model with its own loss: what `unlearnkit pretrain` runs."""

    name: Name
    """Name of the trained model."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
    model: ModelSection
    """The model; untrained unless it names weights."""
    data: Source
    """Training and validation images."""
    tasks: Annotated[list[TaskSection], Field(min_length=1)]
    """Degradations, used in turn from step to step; validation uses the first."""
    pretrain: PretrainTraining
    """Optimiser and budget."""


R = TypeVar("R", bound=BaseModel)


def assemble(recipe: type[R], classes: Iterable[type[Section]]) -> type[R]:
    """Return `recipe` with every open section replaced by the tagged union of the `classes` that subclass it."""
    classes = list(classes)
    unions: dict[Any, Any] = {}
    for base in (base for bases in OPEN.values() for base in bases):
        mine = [cls for cls in classes if issubclass(cls, base)]
        # One that holds another of its own sort holds one of those that do not.
        holding = [cls for cls in mine if any(info.annotation is base for info in cls.model_fields.values())]
        members = [_assembled(cls, unions) for cls in mine if cls not in holding]
        unions[base] = _union(base, members)
        unions[base] = _union(base, [*members, *(_assembled(cls, unions) for cls in holding)])
    return _assembled(recipe, unions)


def _union(base: type[Section], members: list[type[Section]]) -> Any:
    if len(members) > 1:
        # `Discriminator`, because a `Field` in an annotation is lost where the recipe's field has its own
        return Annotated[Union[tuple(members)], Discriminator("kind")]  # noqa: UP007
    return members[0] if members else Annotated[base, BeforeValidator(_no_kind)]


def _no_kind(_: object) -> object:
    raise PydanticCustomError("no_kind", "no plugin brings a kind for this section")


def _assembled(model: type[R], unions: Mapping[Any, Any]) -> type[R]:
    changed: dict[str, tuple[Any, FieldInfo]] = {}
    for name, info in model.model_fields.items():
        annotation = _replaced(info.annotation, unions)
        if annotation is not info.annotation:
            changed[name] = (annotation, info)
    if not changed:
        return model
    return create_model(model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **changed)  # type: ignore[call-overload]


def _replaced(annotation: Any, unions: Mapping[Any, Any]) -> Any:
    if annotation in unions:
        return unions[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _assembled(annotation, unions)
    arguments = get_args(annotation)
    replaced = tuple(_replaced(argument, unions) for argument in arguments)
    if all(new is old for new, old in zip(replaced, arguments, strict=True)):
        return annotation
    if get_origin(annotation) is list:
        return list[replaced[0]]  # type: ignore[valid-type]
    return Union[replaced]  # noqa: UP007
