"""Train a model with its own loss and write its weights with the recipe and the figures that produced them."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.swa_utils import get_ema_multi_avg_fn

from unlearnkit import __version__
from unlearnkit.contracts import Images, ModelAdapter, Task, mean_colour_fill, psnr, trainable
from unlearnkit.data import Pixels, augment, batch_index, choose, digest, seeded, to_float, view_of, views_of
from unlearnkit.device import choose_device, make_deterministic
from unlearnkit.disk import sha256
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.pretraining import PretrainRecipe
from unlearnkit.run.folder import refuse_used
from unlearnkit.solver.schedule import optimizer as build_optimizer
from unlearnkit.weights import resolve

VALIDATIONS = 20
"""Validations in a training."""


def train(
    recipe: PretrainRecipe,
    resolved: dict[str, object],
    base: Path,
    to: Path,
    tell: Callable[[int, dict[str, float]], None],
) -> dict[str, float]:
    """Run a pretraining recipe, write `model.safetensors` and `model.json` to the folder `to`, return the figures.

    `tell` gets the step and the figures of each validation. Raise `UserError` where `to` exists already.
    """
    refuse_used(to, "give another folder")
    options = recipe.pretrain
    device = choose_device(options.device)
    make_deterministic(device)
    torch.manual_seed(recipe.seed)
    adapter = recipe.model.build(resolve(recipe.model.weights, base))
    adapter.module.to(device)
    source: Images = recipe.data.source.open(base)
    classes = recipe.data.classes or sorted(source.labels)
    chosen = choose("training", source, classes, recipe.data.per_class, recipe.seed)
    halves = (chosen.train, chosen.validation)
    images, validation = (Pixels(source, items, adapter.image_size, device) for items in halves)
    tasks = [task.build() for task in recipe.tasks]
    parameters = trainable(adapter)
    optimizer = build_optimizer(options.optimizer, parameters)
    averages = [parameter.detach().clone() for parameter in parameters]
    figures: dict[str, float] = {}
    for step in range(options.steps):
        generator = seeded(recipe.seed, "pretrain", step)
        rows = batch_index(step, len(images), options.batch_size, recipe.seed, "pretrain")
        batch = augment(to_float(images[rows]), options.crop, generator)
        loss = adapter.own_loss(batch, view_of(adapter, tasks[step % len(tasks)], batch, generator))
        optimizer.zero_grad()
        loss.backward()
        if not torch.nn.utils.clip_grad_norm_(parameters, options.clip).isfinite():
            advice = "lower pretrain.optimizer.lr and start again"
            raise UserError(f"the loss became non-finite at step {step}; {advice}", Exit.DIVERGED)
        for group in optimizer.param_groups:
            group["lr"] = options.optimizer.lr * rate(step, options.steps, options.warmup)
        optimizer.step()
        with torch.no_grad():
            get_ema_multi_avg_fn(min(options.average, (1 + step) / (10 + step)))(averages, parameters, step)
        if (step + 1) % max(1, options.steps // VALIDATIONS) == 0 or step + 1 == options.steps:
            exchange(parameters, averages)
            figures = {"loss": loss.item()} | (quality(adapter, tasks[0], validation) if len(validation) else {})
            exchange(parameters, averages)
            tell(step + 1, figures)
    exchange(parameters, averages)
    to.mkdir(parents=True, exist_ok=True)
    if options.half:
        adapter.module.half()
    adapter.save(to)
    facts = {
        "name": recipe.name,
        "unlearnkit": __version__,
        "torch": torch.__version__,
        "recipe": resolved,
        "figures": figures,
        "data_sha256": {"train": digest(images), "validation": digest(validation)},
        "sha256": {path.relative_to(to).as_posix(): sha256(path) for path in sorted(to.rglob("*")) if path.is_file()},
    }
    (to / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return figures


def rate(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate's factor: a linear rise, then a half cosine to zero."""
    rise = max(1.0, warmup * steps)
    fall = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))
    return (step + 1) / rise if step < rise else fall


def exchange(parameters: list[Parameter], averages: list[Tensor]) -> None:
    """Exchange the values of the parameters with those of their moving averages."""
    for parameter, average in zip(parameters, averages, strict=True):
        parameter.data, average.data = average.data, parameter.data


def quality(adapter: ModelAdapter, task: Task, images: Pixels) -> dict[str, float]:
    """Return the mean validation PSNR in the hidden region, of the model and of a mean-colour fill."""
    made: dict[str, list[Tensor]] = {"validation_psnr": [], "mean_colour_psnr": []}
    with torch.no_grad():
        for _, view in views_of(adapter, task, images, images.device, lambda number: ("validation", number), size=128):
            made["validation_psnr"].append(psnr(adapter.output(view), view.truth, view.region))
            made["mean_colour_psnr"].append(psnr(mean_colour_fill(view), view.truth, view.region))
    return {name: float(torch.cat(values).mean()) for name, values in made.items()} | {"validation_images": len(images)}
