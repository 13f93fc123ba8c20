"""The recipe of an unlearning run."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from unlearnkit.recipe import sections
from unlearnkit.recipe.data import Data
from unlearnkit.recipe.numbers import Name, Seed
from unlearnkit.recipe.training import Continuation, Control, Curve, Epsilons, Independent, Training

FIGURE = r"^(f1|f2|[^/]+/[^/]+|(forget|retain)/(train|validation)/(truth|original)/[^/]+)$"


class Limit(sections.Section):
    """A bound on a figure of every solution, of which the results say whether it is kept."""

    figure: Annotated[str, Field(pattern=FIGURE)]
    """`AUDIT/FIGURE`, such as `membership/auc`, by their ids in results.json; a score as `SET/SPLIT/AGAINST/METRIC`,
    such as `forget/validation/truth/psnr`; `f1` or `f2`."""
    at_least: float | None = None
    """The smallest value that keeps it; give this, `at_most` or both."""
    at_most: float | None = None
    """The largest value that keeps it."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("no figure is at least at_least and at most at_most; exchange them")
        return self


class Evaluate(sections.Section):
    """What is measured on every solution, and how many images the report shows."""

    metrics: list[sections.MetricSection] = Field([{"kind": "psnr"}, {"kind": "ssim"}], validate_default=True)
    """Metrics on each set, against the ground truth and against the original model."""
    train: bool = True
    """Measure the training images too; false saves most of the time where they are many or sampling is slow."""
    images: Annotated[int, Field(ge=1, le=64)] = 8
    """Validation images of each set that the report shows."""
    stops: Annotated[int, Field(ge=0, le=64)] = 16
    """Places of the dial that the report's slider shows between the solutions, each with f1, f2 and pictures. Each
    costs a pass over both training sets."""
    tasks: list[sections.TaskSection] = []  # noqa: RUF012
    """Further tasks that every solution is measured on, such as other crop sizes; the training task always is. They
    cost one pass over the validation images for each solution."""
    maps: sections.ExtractorSection | None = None
    """A network by whose features the report lays its pictures out in a plane, by PCA and, where scikit-learn is
    there, t-SNE: truth, original model and every solution. It takes `images` of each set."""
    audits: list[sections.AuditSection] = []  # noqa: RUF012
    """Tests of whether the original model and every solution have really forgotten; most of them train."""
    limits: list[Limit] = []  # noqa: RUF012
    """What figures of metrics and audits must come to, so that the results say which solutions pass."""


class Recipe(sections.Section):
    """A task of controllable unlearning: model, data, control, ε, training, evaluation."""

    name: Name = "unlearning"
    """Name of the run and of its folder: lower-case letters, digits and hyphens."""
    seed: Seed = 0
    """Seed of everything random."""
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    """Run once for each of these seeds, on the same images, and report means and standard deviations."""
    vary: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)] | None = None
    """Keys of the recipe, such as `training.steps` or `compare[0].alpha`, each with a list of values: run once for each
    value, of several keys for each combination, and of `seeds` for each of these too. What is alike in two runs is
    computed once."""
    model: sections.ModelSection
    """The trained model that has to forget."""
    data: Data
    """Images, forget set and retain set."""
    task: sections.TaskSection = Field({"kind": "center-crop"}, validate_default=True)
    """The degradation T(x) that makes the task."""
    forget: sections.LossSection = Field({"kind": "noise-embedding"}, validate_default=True)
    """The forget loss f1."""
    retain: sections.LossSection = Field({"kind": "reference-embedding"}, validate_default=True)
    """The retain loss f2."""
    control: Control = Field({}, validate_default=True)
    """The control functions of both phases."""
    epsilons: Epsilons = Field({}, validate_default=True)
    """The bounds on the forget loss."""
    sweep: Annotated[Independent | Continuation | Curve, Field(discriminator="kind")] = Curve()
    """How the ε are solved: all as one curve, each by itself, as published, or each from its neighbour."""
    training: Training = Training()
    """Optimiser and budget."""
    compare: list[sections.MethodSection] = []  # noqa: RUF012
    """Other methods to run on the same model, data and budget."""
    evaluate: Evaluate = Field({}, validate_default=True)
    """Metrics and pictures."""
