"""One optimisation step in several ways, on the losses, batches and weights of one recipe.

Every way trains what the recipe trains on its forget loss f1 and its retain loss f2 with AdamW.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from cooper import CMPState, ConstrainedMinimizationProblem, Constraint, ConstraintState, ConstraintType
from cooper.formulations import Lagrangian
from cooper.multipliers import DenseMultiplier
from cooper.optim import SimultaneousOptimizer
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torchjd.aggregation import MGDA
from torchjd.autojac import backward, jac_to_grad

from unlearnkit.builtin.controls.rules import Averaged
from unlearnkit.contracts import ModelAdapter, View, parts, sides
from unlearnkit.control import LAM_MAX, Constant, Stage
from unlearnkit.data import batch_index, seeded, to_float, view_of
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.validate import load
from unlearnkit.solver.descent import Descent
from unlearnkit.solver.problem import Problem
from unlearnkit.solver.side import Side
from unlearnkit.solver.workbench import Workbench, build

Step = Callable[[], None]
LR, ALPHA, EPSILON = 1e-6, 0.25, 0.2
"""A rate so small that hundreds of steps leave the model where it is."""


def read(path: Path, changes: Sequence[str], plugins: Plugins) -> Recipe:
    """Return a recipe with changes, each `KEY=VALUE`."""
    recipe = load(path, plugins, changes).recipe
    assert isinstance(recipe, Recipe)
    return recipe


def generated(folder: Path, path: Path, changes: Sequence[str], plugins: Plugins) -> list[str]:
    """Write pictures of noise to a folder; return changes of a recipe to these, untrained weights and two steps.

    They change nothing of what a step costs, so that it can be had without weights and data.
    """
    data = f"source: {{kind: image-folder, root: {folder}}}, forget: {{classes: [a]}}, retain: {{classes: [b]}}"
    own = [f"data={{{data}}}", "model.weights=null", "training.epochs=null", "training.steps=2"]
    recipe = read(path, [*own, *changes], plugins)
    size, count = recipe.model.build(None).image_size, recipe.training.batch_size + 4
    for seed, label in enumerate("ab"):
        (folder / label).mkdir()
        noise = torch.Generator().manual_seed(seed)
        for number in range(count):
            picture = torch.randint(256, (*sides(size), 3), generator=noise, dtype=torch.uint8)
            Image.fromarray(picture.numpy()).save(folder / label / f"{number:03}.png")
    return [*own, *changes]


def prepared(path: Path, changes: Sequence[str], plugins: Plugins) -> Workbench:
    """Return the workbench of a recipe with changes, with what is frozen computed once, as in a run."""
    bench = build(read(path, changes, plugins), path.parent)
    for side in bench.sides.values():
        for kept in filter(None, (side.stages, side.targets)):
            _ = kept[torch.arange(side.count)]
    return bench


def several(step: Step, count: int) -> None:
    """Take so many steps."""
    for _ in range(count):
        step()


def constrained(bench: Workbench) -> Step:
    """Return our step with the default rule: a pass for each loss."""
    return _ours(bench, Averaged(0.9, 0.05))


def weighted_sum(bench: Workbench) -> Step:
    """Return our step with a fixed weight of f1: one joint pass, what any composite loss costs at least."""
    return _ours(bench, Constant(1, ALPHA))


def _ours(bench: Workbench, rule: Averaged | Constant) -> Step:
    psi = bench.recipe.control.epsilon.build()
    stage = Stage(bench.losses.forget, bench.losses.retain, rule)
    problem = Problem("benchmark", [stage], psi, phase=2, epsilon=EPSILON)
    descent = Descent(problem, bench.flat, bench.sides, bench.recipe.training, 10**9)
    descent.begin(bench.origin)
    return descent.step


def _plain(side: Side) -> Side:
    """Return a side that is not compiled: a compiled backward pass can be taken once only, and by one vector."""
    plain = copy.copy(side)
    plain.distance = side.loss.distance
    return plain


class _Loss(nn.Module):
    """The loss of a side as a module, whose parameters can be given in a call."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.model = bench.student.module

    def forward(self, side: Side, view: View, target: Sequence[Tensor]) -> Tensor:
        """Return the loss of a batch."""
        return side.at(view, target)


def stacked(bench: Workbench, count: int) -> tuple[Step, dict[str, nn.Parameter]]:
    """Return one step of so many ε at once on the same batches, and their weights, stacked by name.

    Gradients of all come from one vectorised pass for each loss (`torch.func.vmap`), λ from each pair of them.
    """
    loss, batches, trained = _Loss(bench), _Batches(bench), set(bench.flat.parameters)
    weights = {
        name: nn.Parameter(parameter.detach().expand(count, *parameter.shape).clone())
        for name, parameter in loss.named_parameters()
        if parameter in trained
    }
    optimizer = torch.optim.AdamW(weights.values(), lr=LR, betas=(0.9, 0.95), fused=True)

    def gradients(name: str, rows: Tensor) -> dict[str, Tensor]:
        side = _plain(bench.sides[name])
        batch = side.batch(rows, "benchmark", batches.step)

        def of(own: dict[str, Tensor]) -> Tensor:
            found: Tensor = functional_call(loss, own, (side, *batch))
            return found

        return dict(vmap(grad(of), randomness="same")({name: weight.detach() for name, weight in weights.items()}))

    def inner(a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        return torch.stack([(a[name] * b[name]).flatten(1).sum(1) for name in a]).sum(0)

    def step() -> None:
        rows = next(batches)
        forget, retain = (gradients(name, rows[name]) for name in ("forget", "retain"))
        lam = (-inner(forget, retain) / inner(forget, forget)).clamp(0, LAM_MAX)
        for name, weight in weights.items():
            weight.grad = retain[name] + lam.view(-1, *[1] * (weight.ndim - 1)) * forget[name]
        optimizer.step()

    return step, weights


def switched(bench: Workbench, on: bool) -> Step:
    """Return our step with deterministic kernels asked for or not."""
    step = constrained(bench)

    def run() -> None:
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(on, warn_only=True)
        try:
            step()
        finally:
            torch.use_deterministic_algorithms(before, warn_only=True)

    return run


def decode(bench: Workbench) -> None:
    """Read as many images as a step takes from where they are kept, one after the other."""
    for side in bench.sides.values():
        pixels = side.images
        for row in range(bench.recipe.training.batch_size):
            pixels.source.read(pixels.items[row % len(pixels)], pixels.size)


def product(bench: Workbench) -> tuple[Step, int]:
    """Return a large matrix product on the device in the precision of the recipe, and its floating-point operations."""
    side = 8192 if bench.device.type == "cuda" else 1024
    precision = torch.bfloat16 if bench.recipe.training.precision == "bf16" else torch.float32
    matrix = torch.rand(side, side, device=bench.device, dtype=precision)

    def run() -> None:
        torch.mm(matrix, matrix)

    return run, 2 * side**3


class _Batches:
    """The batches of the steps, one after the other."""

    def __init__(self, bench: Workbench) -> None:
        self.bench, self.step = bench, 0

    def __next__(self) -> dict[str, Tensor]:
        size = self.bench.recipe.training.batch_size
        self.step += 1
        return {
            name: batch_index(self.step, side.count, size, side.seed, "benchmark", name)
            for name, side in self.bench.sides.items()
        }


def _adamw(bench: Workbench) -> torch.optim.AdamW:
    """Return AdamW over a list of parameters, as most training code has it."""
    for parameter in bench.flat.parameters:
        parameter.grad = None
    return torch.optim.AdamW(bench.flat.parameters, lr=LR, betas=(0.9, 0.95))


def li_et_al(bench: Workbench) -> Step:
    """Return the step of Li et al. (2024), with the passes and in the order of their released code.

    The frozen encoder on retain and forget images together and on as many noise images, the student on the former, the
    composite loss, one backward pass. Nothing is cached, and a frozen first stage runs for each of the three.
    """
    batches, optimizer = _Batches(bench), _adamw(bench)

    def embed(adapter: ModelAdapter, images: Tensor, seed: int) -> list[Tensor]:
        view: View = view_of(adapter, bench.task, images, seeded("benchmark", seed))
        return list(parts(adapter.embed(_staged(adapter, view))))

    def step() -> None:
        rows = next(batches)
        retain, forget = (to_float(bench.sides[name].images[rows[name]]) for name in ("retain", "forget"))
        images, half = torch.cat([retain, forget]), len(retain)
        with torch.no_grad():
            guide = embed(bench.reference, images, batches.step)
            noise = (torch.randn_like(images) * images.std() + images.mean()).clamp(0, 1)
            noised = embed(bench.reference, noise, batches.step)
        student = embed(bench.student, images, batches.step)
        losses = [
            (s[:half] - g[:half]).square().mean() + ALPHA * (s[half:] - n[half:]).square().mean()
            for s, g, n in zip(student, guide, noised, strict=True)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step


def _staged(adapter: ModelAdapter, view: View) -> View:
    if adapter.first is None:
        return view
    with torch.no_grad():
        return replace(view, stage=adapter.first_stage(view))


def torchjd(bench: Workbench) -> Step:
    """Return a step of TorchJD's MGDA on the two losses, whose targets come from our cache."""
    batches, optimizer, aggregator = _Batches(bench), _adamw(bench), MGDA()
    parameters = list(bench.flat.parameters)

    def step() -> None:
        rows = next(batches)
        losses = [_plain(bench.sides[name]).value(rows[name], batches.step) for name in ("retain", "forget")]
        optimizer.zero_grad()
        backward(losses, inputs=parameters, parallel_chunk_size=1)
        jac_to_grad(parameters, aggregator)
        optimizer.step()

    return step


def cooper(bench: Workbench) -> Step:
    """Return a step of Cooper's simultaneous descent and ascent on the two losses, with our cached targets."""
    batches = _Batches(bench)

    class Bounded(ConstrainedMinimizationProblem):
        def __init__(self) -> None:
            super().__init__()
            multiplier = DenseMultiplier(num_constraints=1, device=bench.device)
            self.constraint = Constraint(ConstraintType.INEQUALITY, formulation_type=Lagrangian, multiplier=multiplier)

        def compute_cmp_state(self, rows: dict[str, Tensor]) -> CMPState:
            retain, forget = (bench.sides[name].value(rows[name], batches.step) for name in ("retain", "forget"))
            observed = ConstraintState(violation=(forget - EPSILON).reshape(1))
            return CMPState(loss=retain, observed_constraints={self.constraint: observed})

    problem = Bounded()
    dual = torch.optim.SGD(problem.dual_parameters(), lr=0.05, maximize=True)
    optimizer = SimultaneousOptimizer(cmp=problem, primal_optimizers=_adamw(bench), dual_optimizers=dual)

    def step() -> None:
        optimizer.roll(compute_cmp_state_kwargs={"rows": next(batches)})

    return step


WAYS: dict[str, Callable[[Workbench], Step]] = {
    "weighted sum (ours)": weighted_sum,
    "ε-constrained (ours)": constrained,
    "Li et al. 2024": li_et_al,
    "TorchJD MGDA": torchjd,
    "Cooper": cooper,
}
