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
from unlearnkit.contracts import Images, ModelAdapter, Task, View
from unlearnkit.data import augment, batch_index, choose, decode, digest, seeded, to_float
from unlearnkit.device import choose_device, make_deterministic
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import PretrainRecipe
from unlearnkit.weights import resolve, sha256

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
    if to.exists() and any(to.iterdir()):
        raise UserError(f"{to} exists already; give another folder with --to", Exit.FOLDER)
    options = recipe.pretrain
    device = choose_device(options.device)
    make_deterministic(device)
    torch.manual_seed(recipe.seed)
    adapter = recipe.model.build(resolve(recipe.model.weights, base))
    adapter.module.to(device)
    source: Images = recipe.data.source.open(base)
    classes = recipe.data.classes or sorted(source.labels)
    chosen = choose("training", source, classes, recipe.data.per_class, recipe.seed)
    size = adapter.image_size
    images = decode(source, chosen.train, size).to(device)
    validation = decode(source, chosen.validation, size).to(device)
    tasks = [task.build() for task in recipe.tasks]
    parameters = adapter.trainable()
    optimizer = options.optimizer.build(parameters)
    averages = [parameter.detach().clone() for parameter in parameters]
    figures: dict[str, float] = {}
    for step in range(options.steps):
        generator = seeded(recipe.seed, "pretrain", step)
        rows = batch_index(step, len(images), options.batch_size, recipe.seed, "pretrain")
        batch = augment(to_float(images[rows.to(device)]), options.crop, generator)
        loss = adapter.own_loss(batch, adapter.view(tasks[step % len(tasks)], batch, generator))
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, options.clip)
        if not bool(norm.isfinite()):
            raise UserError(
                f"the loss became non-finite at step {step}; lower pretrain.optimizer.lr and start again", Exit.DIVERGED
            )
        for group in optimizer.param_groups:
            group["lr"] = options.optimizer.lr * rate(step, options.steps, options.warmup)
        optimizer.step()
        with torch.no_grad():
            get_ema_multi_avg_fn(min(options.average, (1 + step) / (10 + step)))(averages, parameters, step)
        if (step + 1) % max(1, options.steps // VALIDATIONS) == 0 or step + 1 == options.steps:
            exchange(parameters, averages)
            figures = {"loss": float(loss.detach())} | (
                quality(adapter, tasks[0], validation) if len(validation) else {}
            )
            exchange(parameters, averages)
            tell(step + 1, figures)
    exchange(parameters, averages)
    write(
        recipe, resolved, adapter, to, figures, {"train": digest(images.cpu()), "validation": digest(validation.cpu())}
    )
    return figures


def rate(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate's factor: a linear rise, then a half cosine to zero."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


def exchange(parameters: list[Parameter], averages: list[Tensor]) -> None:
    """Exchange the values of the parameters with those of their moving averages."""
    for parameter, average in zip(parameters, averages, strict=True):
        parameter.data, average.data = average.data, parameter.data


def mean_colour_fill(view: View) -> Tensor:
    """Return the images with each hidden pixel replaced by the mean colour of the visible ones."""
    seen = (~view.hidden).float()
    mean = (view.images * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(view.hidden, mean, view.images)


def hidden_psnr(outputs: Tensor, images: Tensor, view: View) -> Tensor:
    """Return the PSNR in dB over the hidden pixels of each image [B]."""
    weight = view.hidden.expand_as(images).float()
    error = ((outputs - images).square() * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)
    return -10 * error.clamp(min=1e-10).log10()


def quality(adapter: ModelAdapter, task: Task, images: Tensor) -> dict[str, float]:
    """Return the mean validation PSNR in the hidden region, of the model and of a mean-colour fill."""
    psnr, fill = [], []
    with torch.no_grad():
        for number, chunk in enumerate(images.split(128)):
            truth = to_float(chunk)
            view = adapter.view(task, truth, seeded("validation", number))
            psnr.append(hidden_psnr(adapter.output(view), truth, view))
            fill.append(hidden_psnr(mean_colour_fill(view), truth, view))
    return {
        "validation_psnr": float(torch.cat(psnr).mean()),
        "mean_colour_psnr": float(torch.cat(fill).mean()),
        "validation_images": len(images),
    }


def write(
    recipe: PretrainRecipe,
    resolved: dict[str, object],
    adapter: ModelAdapter,
    to: Path,
    figures: dict[str, float],
    digests: dict[str, str],
) -> None:
    """Write weights and facts to the folder `to`."""
    to.mkdir(parents=True, exist_ok=True)
    if recipe.pretrain.half:
        adapter.module.half()
    adapter.save(to)
    facts = {
        "name": recipe.name,
        "unlearnkit": __version__,
        "torch": torch.__version__,
        "recipe": resolved,
        "figures": figures,
        "data_sha256": digests,
        "sha256": {path.relative_to(to).as_posix(): sha256(path) for path in sorted(to.rglob("*")) if path.is_file()},
    }
    (to / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
