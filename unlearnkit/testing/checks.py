"""One check a contract."""

from pathlib import Path

import torch
from torch import Tensor

from unlearnkit.builtin.tasks.degradations import Box
from unlearnkit.contracts import (
    Degraded,
    Embedding,
    ModelAdapter,
    Setting,
    Size,
    Sources,
    Statistics,
    Task,
    View,
    parts,
    sides,
)
from unlearnkit.control import Facts, Multiplier
from unlearnkit.data import seeded, view_of
from unlearnkit.plugins import kind_of
from unlearnkit.recipe import sections
from unlearnkit.recipe.assemble import assemble
from unlearnkit.recipe.sections import Section

NOISE = Statistics(torch.full((3,), 0.5), 0.05 * torch.eye(3))
CROP = Box((0.5, 0.5), central=True)


def require(condition: bool, section: Section, method: str, expected: str) -> None:
    """Raise `AssertionError` naming class and method where what was expected does not hold."""
    if not condition:
        raise AssertionError(f"{type(section).__name__}.{method}: {expected}")


def check_section(section: Section) -> None:
    """Check what holds for every section: a kind, frozen fields, a docstring under each, no unknown keys."""
    cls = type(section)
    require(bool(kind_of(cls)), section, "kind", 'expected `kind: Literal["its-name"]`')
    require(bool((cls.__doc__ or "").strip()), section, "__doc__", "expected a docstring that says what it is")
    bare = [name for name, info in cls.model_fields.items() if not info.description]
    require(not bare, section, ", ".join(bare), "expected a docstring under each field")
    require(cls.model_config.get("extra") == "forbid", section, "model_config", "expected extra='forbid'")
    require(bool(cls.model_config.get("frozen")), section, "model_config", "expected frozen=True")
    # A section inside another is read back by its kind, as in a recipe.
    nested = {type(value) for _, value in section if isinstance(value, Section)}
    whole = assemble(cls, nested).model_validate(dict(section))
    round_trip = type(whole).model_validate_json(whole.model_dump_json())
    require(round_trip == whole, section, "model_dump_json", "expected to read back what it writes")


def same(a: Embedding, b: Embedding) -> bool:
    """Tell whether two embeddings are equal to the bit."""
    return all(torch.equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))


def random_images(size: Size, count: int = 2) -> Tensor:
    """Return random images [count, 3, size, size]."""
    return torch.rand(count, 3, *sides(size), generator=seeded("images"))


def check_task(section: sections.TaskSection, size: int = 32) -> None:
    """Check a degradation on random images of a size that suits it."""
    check_section(section)
    task = section.build()
    images = random_images(size, 4)
    before = images.clone()
    made, again = task.degrade(images, seeded("a")), task.degrade(images, seeded("a"))
    require(isinstance(made, Degraded), section, "degrade", "expected a Degraded")
    require(torch.equal(images, before), section, "degrade", "expected its input to stay as it was")
    require(made.images.shape[:2] == (4, 3), section, "degrade", "expected images [4, 3, h, w]")
    good = made.hidden.shape == (4, 1, size, size) and made.hidden.dtype == torch.bool
    require(good, section, "degrade", f"expected a boolean mask {[4, 1, size, size]}")
    equal = same((made.images, made.hidden), (again.images, again.hidden))
    require(equal, section, "degrade", "expected the same from the same generator state")
    other = task.degrade(images, seeded("b"))
    fixed = same((made.images, made.hidden), (other.images, other.hidden))
    require(fixed or not task.fixed, section, "fixed", "expected False, for T(x) depends on the generator")
    leaks = (made.images != task.degrade(images.masked_fill(made.hidden, 0), seeded("a")).images).any()
    require(not bool(leaks), section, "degrade", "expected that no hidden pixel shows")


def setting(reference: ModelAdapter, task: Task, base: Path = Path()) -> Setting:
    """Return what losses and methods are built for, with random images as retain set."""

    def drawn(label: str | None, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count, 3, *sides(reference.image_size), generator=generator)

    return Setting(reference, task, Sources(NOISE, lambda: seeded("noise"), drawn, lambda named: reference, base))


def check_loss(section: sections.LossSection, model: sections.ModelSection, task: sections.TaskSection) -> None:
    """Check a loss between a student and a reference built from the same model section."""
    check_section(section)
    torch.manual_seed(0)
    reference, student = model.build(None), model.build(None)
    reference.module.requires_grad_(False)
    degradation = task.build()
    loss = section.build(setting(reference, degradation))
    view = view_of(reference, degradation, random_images(reference.image_size), seeded("view"))
    with torch.no_grad():
        target, again = loss.target(view, seeded("t")), loss.target(view, seeded("t"))
        other = loss.target(view, seeded("u"))
    require(same(target, again), section, "target", "expected the same target from the same generator state")
    require(same(target, other) or not loss.fixed, section, "fixed", "expected False, for the target is random")
    rows = {part.shape[0] for part in parts(target)}
    require(rows <= {2}, section, "target", f"expected one row an image or an empty tuple, found {sorted(rows)} rows")
    value = loss.distance(student, view, target)
    require(value.shape == () and bool(value.isfinite()), section, "distance", "expected a finite scalar")
    require(bool(value >= 0), section, "distance", "expected no negative value")
    value.backward()
    reached = any(bool(p.grad.any()) for p in student.module.parameters() if p.grad is not None)
    require(reached, section, "distance", "expected a gradient in the student's parameters")


def check_psi(section: sections.PsiSection) -> None:
    """Check a control function on a range of losses and gradient norms, with an ε and without."""
    check_section(section)
    psi = section.build()
    norm = torch.tensor(0.25, dtype=torch.float64)
    values = [psi(torch.tensor(loss, dtype=torch.float64), 1.0, norm, norm) for loss in (0.5, 1.0, 2.0)]
    finite = all(value.shape == () and bool(value.isfinite()) for value in values)
    require(finite, section, "build", "expected a finite scalar ψ")
    require(bool(values[-1] > 0), section, "build", "expected ψ > 0 above ε, or the constraint never has to fall")


def check_multiplier(section: sections.MultiplierSection) -> None:
    """Check a rule for λ: never negative, and its saved state continues exactly."""
    check_section(section)

    def facts(step: int) -> Facts:
        numbers = torch.rand(4, generator=seeded("facts", step), dtype=torch.float64)
        loss, squared, product, objective = numbers + torch.tensor([0.5, 0.1, -0.5, 0.1])
        return Facts(loss, 1.0, lambda h, e, n, f: h - (e or 0.0), squared, product, objective)

    whole, first, second = section.build(), section.build(), section.build()
    expected = [whole.lam(facts(step)) for step in range(20)]
    found = [first.lam(facts(step)) for step in range(10)]
    second.load({name: value.clone() for name, value in first.state.items()})
    found += [second.lam(facts(step)) for step in range(10, 20)]
    require(all(bool(lam >= 0) for lam in expected), section, "lam", "expected λ ≥ 0")
    exact = same(tuple(expected), tuple(found))
    require(exact, section, "load", "expected the saved `state` to hold all that the rule remembers")
    require(isinstance(whole, Multiplier), section, "build", "expected a Multiplier")


def check_data(section: sections.DataSection, base: Path, size: int = 16) -> None:
    """Check a data source: unique keys, labels, images that read the same twice, and targets where it has pairs."""
    check_section(section)
    images = section.open(base)
    require(bool(images.items), section, "open", "expected at least one image")
    keys = [item.key for item in images.items]
    require(len(set(keys)) == len(keys), section, "open", "expected a unique key for each image")
    require({item.label for item in images.items} <= images.labels, section, "labels", "expected all classes")
    again = section.open(base)
    require(list(again.items) == list(images.items), section, "open", "expected the same items each time")
    for item in images.items[:2]:
        read = images.read(item, size)
        good = read.dtype == torch.uint8 and read.shape == (3, size, size)
        require(good, section, "read", f"expected uint8 [3, {size}, {size}], found {read.dtype} {list(read.shape)}")
        require(torch.equal(read, again.read(item, size)), section, "read", "expected the same pixels each time")
        aim = images.target(item, size)
        require(aim.shape == read.shape, section, "target", f"expected [3, {size}, {size}], found {list(aim.shape)}")
        own = images.paired or torch.equal(aim, read)
        require(own, section, "paired", "expected True, for `target` gives another image than `read`")
    images.describe()


def check_metric(section: sections.MetricSection, base: Path, size: int = 64, count: int = 8) -> None:
    """Check a metric: a finite value, no memory after `reset`, and best for outputs equal to their targets."""
    check_section(section)
    metric = section.build(base, torch.device("cpu"))
    targets = torch.rand(count, 3, size, size, generator=seeded("targets"))
    worse = (targets + 0.5 * torch.rand(targets.shape, generator=seeded("outputs"))).clamp(0, 1)
    view = View(CROP.degrade(targets, seeded("view")), targets)

    def value(outputs: Tensor) -> float:
        metric.reset()
        for rows in (slice(start, start + 4) for start in range(0, count, 4)):
            metric.update(outputs[rows], targets[rows], view[rows])
        return metric.compute()["value"]

    first, equal, again = value(worse), value(targets), value(worse)
    plain = all(isinstance(one, int | float) for one in (first, equal, again))
    require(plain, section, "compute", f"expected `value` as an int or a float, found a {type(first).__name__}")
    require(first == again, section, "reset", "expected no memory of earlier batches")
    require(all(torch.tensor([first, equal]).isfinite().tolist()), section, "compute", "expected a finite `value`")
    require("name" in metric.describe(), section, "describe", "expected a `name` for the report")
    better = metric.describe().get("better")
    require(better in ("higher", "lower"), section, "describe", "expected `better`: higher or lower")
    ordered = not metric.compares or (equal > first if better == "higher" else equal < first)
    require(ordered, section, "compute", f"expected a {better} value for outputs equal to their targets")
