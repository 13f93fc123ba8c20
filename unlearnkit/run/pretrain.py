"""Train a model with its own loss and write its weights with the recipe and the figures that produced them.

Any moment may be the last: until the folder holds the whole model it holds a state to go on from, to the same bytes.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from unlearnkit import __version__, disk
from unlearnkit.contracts import ModelAdapter, Task, mean_colour_fill, psnr, saved, trainable
from unlearnkit.contracts.checks import scalar
from unlearnkit.data import Pixels, batch_index, batch_of, refuse_misfit, seeded, unsplit, views_of
from unlearnkit.device import choose_device, make_deterministic
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.recipe import recipe_class
from unlearnkit.recipe.pretraining import STATE, PretrainRecipe
from unlearnkit.recipe.sections import placed
from unlearnkit.run import checkpoint
from unlearnkit.run.adversary import Adversary
from unlearnkit.run.folder import LOCK, base_of, held, places, refuse_begun
from unlearnkit.run.interrupts import Stop, device_errors, signals
from unlearnkit.run.interrupts import Tell as Told
from unlearnkit.solver.origin import Origin, differences, processor, software, told
from unlearnkit.solver.pretrained import built
from unlearnkit.solver.schedule import optimizer as build_optimizer
from unlearnkit.weights import noted, resolve

VALIDATIONS = 20
"""Validations in a training; before each its state is saved, so that a power cut costs a twentieth of it at most."""
CHECKPOINTS, MODEL = "checkpoints", "model.json"
"""What stands beside the state until the end, and what marks the end."""

Tell = Callable[[int, dict[str, float]], None]
"""Who gets the step and the figures of each validation."""


def train(
    recipe: PretrainRecipe,
    resolved: Mapping[str, object],
    base: Path,
    to: Path,
    tell: Tell,
    say: Told = lambda event: None,
) -> dict[str, float]:
    """Run a pretraining recipe, write the model's files and `model.json` to the folder `to`, return the figures.

    Raise `UserError` where `to` is in use already. `say` is told what was left out of the names of weights, and of a
    signal, after which `Stopped` is raised with all saved that `resume` needs.
    """
    refuse_begun(to)
    stop = Stop(say, begun=False)
    with signals(stop), device_errors():
        training = Training(recipe, base, say)
        with held(to):
            refuse_begun(to)  # another process may have begun one since
            disk.remove_parts(to)
            disk.write_record(to / STATE, {"recipe": resolved, **places(to, base), "basis": training.basis})
            stop.begun = True
            return _finish(training, resolved, to, tell, stop)


def resume(to: Path, plugins: Plugins, tell: Tell, say: Told = lambda event: None) -> dict[str, float]:
    """Go on with a training from its last checkpoint, to the same bytes, and return the figures; none where it is done.

    `say` is told of each damaged checkpoint that was passed over too, and what `train` tells. Raise `UserError` where
    something that the training depends on is not as it was when it began.
    """
    if not (to / STATE).exists():
        return {}
    disk.refuse_links(to)
    stop = Stop(say)
    with signals(stop), device_errors(), held(to):
        disk.remove_parts(to)
        if (to / MODEL).exists() or not (to / STATE).exists():
            _clear(to)
            return {}
        state = disk.read_record(to / STATE)
        base, basis = base_of(to, state), state["basis"]
        if (threads := basis["device"].get("threads")) is not None:
            torch.set_num_threads(threads)
        training = Training(_read(state["recipe"], base, to, plugins), base, say)
        if found := differences(basis, training.basis):
            ways = "go back to what it was, or train into another folder"
            raise UserError(f"{to}: changed since the training began: {told(found)}; {ways}", Exit.FOLDER)
        kept = checkpoint.newest(to / CHECKPOINTS, lambda message: say({"event": "warning", "message": message}))
        if kept is not None:
            if kept[1]["training"] != disk.sha256(to / STATE):
                advice = f"remove {to / CHECKPOINTS} to train from the start"
                raise UserError(f"{to}: the checkpoints are those of another training; {advice}", Exit.FOLDER)
            training.load(*kept)
        return _finish(training, state["recipe"], to, tell, stop)


def _read(resolved: Mapping[str, object], base: Path, to: Path, plugins: Plugins) -> PretrainRecipe:
    """Return the recipe that a training began with, with paths that start at `base`."""
    try:
        recipe = recipe_class(PretrainRecipe, plugins).model_validate_json(json.dumps(resolved))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        lacking = f"`{place}` of its recipe does not fit what is installed here; see `unlearnkit plugins`"
        raise UserError(f"{to}: {lacking}, and install what the training began with", Exit.PLUGIN) from None
    return placed(recipe, base)


class Training:
    """A model on its way: what it is trained with, and all that going on bit for bit needs."""

    def __init__(self, recipe: PretrainRecipe, base: Path, say: Told) -> None:
        """Build the model and look at the images; relative paths of the recipe start at `base`."""
        options, self.recipe = recipe.pretrain, recipe
        device = choose_device(options.device)
        make_deterministic(device)
        torch.manual_seed(recipe.seed)
        with noted() as notes:
            self.adapter = built(recipe.model, resolve(recipe.model.weights, base))
        for note in notes:
            say({"event": "warning", "message": note})
        self.adapter.module.to(device)
        chosen, size = unsplit(recipe.data, base, recipe.seed), self.adapter.image_size
        halves = (chosen.train, chosen.validation)
        scale = self.adapter.scale
        self.images, self.validation = (Pixels(chosen.source, items, size, device, scale=scale) for items in halves)
        self.tasks = [task.build() for task in recipe.tasks]
        for task in self.tasks:
            refuse_misfit(self.adapter, task, chosen.source.paired, seeded(recipe.seed, "fits"))
        self.parameters = trainable(self.adapter)
        self.optimizer = build_optimizer(options.optimizer, self.parameters)
        against = options.adversary
        self.adversary = None if against is None else Adversary(against, self.adapter, options.optimizer)
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.done, self.loss = 0, math.nan
        self.basis: Origin = {
            "software": software([recipe]),
            "device": processor(device),
            "images": {"train": self.images.digest, "validation": self.validation.digest},
            "weights": _digest(self._weights()),
        }
        """What its bytes depend on beside the recipe."""

    @property
    def due(self) -> bool:
        """Whether its state is saved here, and its figures told."""
        steps = self.recipe.pretrain.steps
        return self.done > 0 and (self.done % max(1, steps // VALIDATIONS) == 0 or self.done == steps)

    def step(self) -> None:
        """Take one step; raise `UserError` where the loss or its gradient is not finite."""
        options, seed, step = self.recipe.pretrain, self.recipe.seed, self.done
        generator = seeded(seed, "pretrain", step)
        rows = batch_index(step, len(self.images), options.batch_size, seed, "pretrain")
        view = batch_of(self.adapter, self.tasks[step % len(self.tasks)], self.images, rows, options.crop, generator)
        pace = options.optimizer.lr * rate(step, options.steps, options.warmup)
        for optimizer in self._optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = pace
        loss = scalar(self.adapter.own_loss(view.truth, view), self.adapter, "own_loss", "model")
        if self.adversary is not None:
            loss = loss + self.adversary.step(view)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, options.clip)
        if not (norm.isfinite() and loss.isfinite()):
            raise self._diverged()
        self.optimizer.step()
        with torch.no_grad():
            decay = min(options.average, (1 + step) / (10 + step))
            get_ema_multi_avg_fn(decay)(self.averages, self.parameters, step)
        self.done, self.loss = step + 1, loss.item()

    def figures(self) -> dict[str, float]:
        """Return the loss of the last step, and what the averaged model does on the validation images."""
        exchange(self.parameters, self.averages)
        try:
            found = quality(self.adapter, self.tasks[0], self.validation) if len(self.validation) else {}
        finally:
            exchange(self.parameters, self.averages)
        if not all(map(math.isfinite, found.values())):
            raise self._diverged()
        return {"loss": self.loss} | found

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and facts to go on from; raise `UserError` where a weight is not finite."""
        if not all(bool(value.isfinite().all()) for value in (*self.parameters, *self.averages)):
            raise self._diverged()
        return self._tensors(), {"done": self.done, "loss": self.loss}

    def _weights(self) -> dict[str, Tensor]:
        modules = {"model": self.adapter.module} | ({"adversary": self.adversary.module} if self.adversary else {})
        return {
            f"{of}.{name}": value.detach()
            for of, module in modules.items()
            for name, value in (*module.named_parameters(), *module.named_buffers())
        }

    def _optimizers(self) -> dict[str, Optimizer]:
        """Return each optimiser by the name of its tensors."""
        return {"optimizer": self.optimizer} | ({"against": self.adversary.optimizer} if self.adversary else {})

    def _tensors(self) -> dict[str, Tensor]:
        found = self._weights() | {f"average.{number}": value for number, value in enumerate(self.averages)}
        for of, optimizer in self._optimizers().items():
            for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
                held = optimizer.state.get(parameter, {}).items()
                found |= {f"{of}.{number}.{name}": value for name, value in held if isinstance(value, Tensor)}
        # Of models that draw as they are trained, such as by dropout.
        found["random.cpu"] = torch.get_rng_state()
        if self.images.device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self.images.device)
        return found

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        for name, value in self._tensors().items():
            if not name.startswith("random."):
                value.copy_(tensors[name])
        optimizers = self._optimizers()
        for name, value in tensors.items():
            of, _, rest = name.partition(".")
            if of in optimizers:
                number, what = rest.split(".", 1)
                parameter = optimizers[of].param_groups[0]["params"][int(number)]
                optimizers[of].state[parameter][what] = value.to(parameter.device)
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.images.device)
        self.done, self.loss = facts["done"], facts["loss"]

    def _diverged(self) -> UserError:
        advice = "lower pretrain.optimizer.lr and train into another folder"
        return UserError(f"the loss became non-finite at step {self.done}; {advice}", Exit.DIVERGED)


def _finish(training: Training, resolved: Mapping[str, object], to: Path, tell: Tell, stop: Stop) -> dict[str, float]:
    """Take the steps that are left, saving and telling on the way, and leave nothing but the model.

    A signal waits for a step to be saved, and for nothing else.
    """
    began, figures = disk.sha256(to / STATE), dict[str, float]()
    while True:
        if training.due:
            figures = training.figures()
            tell(training.done, figures)
        if training.done == training.recipe.pretrain.steps:
            break
        with stop.later():
            training.step()
            while not training.due and stop.signal is None:
                training.step()
            tensors, facts = training.state()
            checkpoint.write(to / CHECKPOINTS / f"step-{training.done:09d}", tensors, {**facts, "training": began})
            checkpoint.rotate(to / CHECKPOINTS)
        stop.check()
    _store(training, resolved, figures, to)
    _clear(to)
    return figures


def _store(training: Training, resolved: Mapping[str, object], figures: Mapping[str, float], to: Path) -> None:
    """Write the averaged model beside its state, each file whole, and `model.json` last."""
    part = to / f".model{disk.PART}"
    exchange(training.parameters, training.averages)
    if training.recipe.pretrain.half:
        training.adapter.module.half()
    with disk.disk_errors(to):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        saved(training.adapter, part)
        files = {path.relative_to(part): path for path in sorted(part.rglob("*")) if path.is_file()}
        hashes = {name.as_posix(): disk.sha256(path) for name, path in files.items()}
        for name, path in files.items():
            disk.flush(path)
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            path.rename(to / name)
            disk.flush((to / name).parent)
        shutil.rmtree(part)
    facts = {
        "name": training.recipe.name,
        "unlearnkit": __version__,
        "torch": torch.__version__,
        "recipe": resolved,
        "figures": figures,
        "data_sha256": training.basis["images"],
        "sha256": hashes,
    }
    disk.write_json(to / MODEL, facts)


def _clear(to: Path) -> None:
    """Remove the state of a training whose model is whole; what marks it as begun goes last."""
    with disk.disk_errors(to):
        disk.remove_folder(to / CHECKPOINTS)
        for name in (LOCK, STATE):
            (to / name).unlink(missing_ok=True)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names."""
    state = hashlib.sha256()
    for name, value in tensors.items():
        state.update(name.encode() + value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def rate(step: int, steps: int, warmup: float) -> float:
    """Return the learning rate's factor: a linear rise, then a half cosine to zero."""
    rise = max(1.0, warmup * steps)
    fall = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))
    return min(1.0, (step + 1) / rise) if step < rise else fall


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
