"""The adapter of spandrel's networks, and where their weights come from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spandrel
import torch
from torch import Tensor, nn

from unlearnkit.contracts import Embedding, ModelAdapter, View, parts, sides
from unlearnkit.errors import Exit, UserError, first_line
from unlearnkit.weights import finite, held, resolve, save
from unlearnkit_spandrel.cutting import Cut, cut
from unlearnkit_spandrel.families import AS_IN_TRAINING, BOUNDED, CUTS, LEVEL, LEVELS, REFUSED
from unlearnkit_spandrel.migan import MIGANArch

if TYPE_CHECKING:
    from unlearnkit_spandrel import Spandrel

FILE = "model.safetensors"

spandrel.MAIN_REGISTRY.add(spandrel.ArchSupport.from_architecture(MIGANArch()), ignore_duplicates=True)


class SpandrelAdapter(ModelAdapter):
    """A network of spandrel's, called without its call API, which no gradient goes through."""

    module: Cut

    def __init__(self, found: Any, path: str, keys: Mapping[str, str], extra: Mapping[str, Tensor], size: Any) -> None:
        """Cut the network of a descriptor after the module at `path`; `ValueError` where that is none.

        `keys` are the file's names by the network's, `extra` what the file has besides.
        """
        self.image_size, self.scale, self.keys, self.extra = size, found.scale, keys, extra
        self.bounded = found.architecture.id in BOUNDED
        self.masked = isinstance(found, spandrel.MaskedImageModelDescriptor)
        first = LEVELS.get(found.architecture.id)
        told = first is not None and found.model.state_dict()[first].shape[1] == 4
        self.call: Callable[..., Tensor] = with_level if told else found._call_fn
        height, width = (side // self.scale for side in sides(size))
        shown = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        hidden = torch.zeros(2, 1, height, width)
        hidden[:, :, : height // 2] = 1
        unfolded = AS_IN_TRAINING.get(found.architecture.id, ())
        self.unfolded = [module for module in found.model.modules() if type(module).__name__ in unfolded]
        self.module = cut(found.model, path, partial(self._called, shown, hidden))
        self.encoder = self.module.encoder

    def _called(self, images: Tensor, hidden: Tensor, net: nn.Module) -> Tensor:
        for module in self.unfolded:
            module.training = True
        # Some scale what they are given in place.
        images = images.clamp(0, 1) if self.bounded else images.clone()
        return self.call(net, images, hidden) if self.masked else self.call(net, images)

    def embed(self, view: View) -> Embedding:
        """Return what crosses the cut, one tensor or several, [B, ...]."""
        return self.module.encode(partial(self._called, view.images, view.hidden.to(view.images)))

    def decode(self, embedding: Embedding, view: View) -> Tensor:
        return self.module.decode(parts(embedding), partial(self._called, view.images, view.hidden.to(view.images)))

    def own_loss(self, images: Tensor, view: View) -> Tensor:
        """Return the mean absolute error, with which most of these networks were trained, over what is to be made."""
        error = (self.decode(self.embed(view), view).float() - images).abs()
        weight = view.region.expand_as(images).float()
        return (error * weight).sum() / weight.sum()

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` with the keys of the file that the network came from."""
        state = {self.keys.get(name, name): value for name, value in self.module.state().items()}
        save({**state, **self.extra}, folder / FILE)


def with_level(net: nn.Module, images: Tensor) -> Tensor:
    """Return the images of a denoiser that is told the level of the noise, as spandrel tells it, for any number."""
    return net(torch.cat([images, torch.full_like(images[:, :1], LEVEL)], 1))


def build(section: Spandrel, weights: Path | None) -> SpandrelAdapter:
    """Return the adapter of a section; raise `UserError` for what is no network of spandrel's or cannot be trained."""
    place, state = ("model", _fresh(section)) if weights is None else (f"{weights}", _read(weights))
    try:
        found = spandrel.MAIN_REGISTRY.load(dict(state))
    except spandrel.UnsupportedModelError:
        raise UserError(f"{place}: spandrel detects no architecture in it; give weights that it knows") from None
    except Exception as error:  # of networks that are built by shapes that do not fit
        raise UserError(f"{place}: spandrel cannot load it ({first_line(error)}); give the file as published") from None
    name = found.architecture.id
    if name in REFUSED:
        raise UserError(f"model: {name} cannot be unlearned, for {REFUSED[name]}; take another network", Exit.RECIPE)
    if (found.input_channels, found.output_channels) != (3, 3):
        channels = f"{found.input_channels} channels to {found.output_channels}"
        raise UserError(f"model: this {name} goes from {channels}; take one from colours to colours", Exit.RECIPE)
    _refuse_size(section, found)
    found.model.float().eval().requires_grad_(True)
    keys, extra = _keys(state, found)
    path = section.cut or CUTS.get(name, "")
    if not path:
        listed = ", ".join(inside for inside, _ in found.model.named_children())
        raise UserError(f"model.cut: nobody has said where the encoder of {name} ends; it has: {listed}", Exit.RECIPE)
    try:
        return SpandrelAdapter(found, path, keys, extra, section.image_size)
    except ValueError as error:
        advice = "give another module, or leave it out"
        raise UserError(f"model.cut: {name} cannot be cut after '{path}': {error}; {advice}", Exit.RECIPE) from None


def _read(weights: Path) -> dict[str, Any]:
    """Return the state in a file, or in the one of a folder, with the keys that spandrel looks at."""
    path = weights / FILE if weights.is_dir() else weights
    state = held(path)
    if not isinstance(state, dict):
        raise UserError(f"{path}: it holds no table of weights; give a file that spandrel reads")
    found = {name: its for name, its in spandrel.canonicalize_state_dict(state).items() if isinstance(its, Tensor)}
    finite(found, path)
    return found


def _fresh(section: Spandrel) -> dict[str, Any]:
    """Return the state of an untrained network: of the section's architecture, or of the sizes of its weights."""
    if section.architecture is not None:
        return dict(network(section.architecture, section.arguments).state_dict())
    if (path := resolve(section.weights, section.folder)) is None:
        raise UserError("model: a network of spandrel's needs `weights`, or an `architecture`", Exit.RECIPE)
    like = spandrel.MAIN_REGISTRY.load(_read(path)).model
    return dict(type(like)(**like.hyperparameters).state_dict())


def network(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Return an untrained network by the architecture's name, of its first class that takes all `arguments`."""
    if architecture not in spandrel.MAIN_REGISTRY:
        listed = ", ".join(sorted(one.architecture.id for one in spandrel.MAIN_REGISTRY))
        raise UserError(f"model.architecture: spandrel has no '{architecture}'; it has: {listed}", Exit.RECIPE)
    module = import_module(type(spandrel.MAIN_REGISTRY[architecture].architecture).__module__)
    named = [found for name in module.__all__ if isinstance(found := getattr(module, name), type)]
    nets = [found for found in named if issubclass(found, nn.Module)]
    fitting = [one for one in nets if set(arguments) <= set(inspect.signature(one).parameters)]
    try:
        return (fitting or nets)[0](**arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        found = f"{architecture} does not take them ({first_line(error)})"
        raise UserError(f"model.arguments: {found}; see spandrel's class of that name", Exit.RECIPE) from None


def _refuse_size(section: Spandrel, found: Any) -> None:
    """Refuse sizes that the network would need padding for."""
    height, width = sides(section.image_size)
    needed = found.size_requirements
    fits = not (height % found.scale or width % found.scale)
    if not fits or not needed.check(width // found.scale, height // found.scale):
        least, step = needed.minimum * found.scale, needed.multiple_of * found.scale
        square = ", square" * needed.square
        wanted = f"at least {max(least, step)} px, in steps of {step}{square}"
        name = found.architecture.id
        raise UserError(f"model.image_size: {height} x {width} px do not suit {name}; give {wanted}", Exit.RECIPE)


def _keys(state: Mapping[str, Tensor], found: Any) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the file's names by the network's where spandrel renames, and what of the file is not in the network.

    Each tensor of the file is filled with a number of its own and loaded again: where a number comes out says what it
    is called there.
    """
    own = found.model.state_dict()
    if set(own) <= set(state):
        return {}, {name: value for name, value in state.items() if name not in own}
    names = [name for name, value in state.items() if value.is_floating_point()]
    # In fp32, as bf16 holds no whole number beyond 256.
    marked = {name: torch.full_like(state[name], number, dtype=torch.float32) for number, name in enumerate(names, 1)}
    again = spandrel.MAIN_REGISTRY.load({**state, **marked}).model.state_dict()
    keys: dict[str, str] = {}
    for name, value in again.items():
        number = round(float(value.flatten()[0])) if value.is_floating_point() and value.numel() else 0
        if 0 < number <= len(names) and bool((value == number).all()) and value.shape == state[names[number - 1]].shape:
            keys[name] = names[number - 1]
    whole = {name: value for name, value in state.items() if name not in keys.values() and name not in own}
    return keys, {name: value for name, value in whole.items() if not value.is_floating_point()}
