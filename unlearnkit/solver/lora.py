"""Low-rank adapters of PEFT beside frozen weights: W x becomes W x + B A x, where B is zero at first (Hu et al. 2022).

The reference is the student with its adapters off: a copy that shares all weights, so that there is one of each.
"""

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import Parameter

from unlearnkit.contracts import ModelAdapter, Part
from unlearnkit.control import Stage
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.sections import Lora

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

LAYERS = (nn.Linear, nn.Conv2d)
"""Layers that can have an adapter, without groups; those of their subclasses may be read past their `forward`."""
SHOWN = 8
"""Names listed of many."""


def add(model: ModelAdapter, lora: Lora | None, part: Part, seed: int) -> None:
    """Put adapters beside layers of a part of a model, A drawn by the seed; without `lora` leave it as it is.

    Those of the encoder are the same whether others come or not. Raise `UserError` where no layer is meant.
    """
    if lora is None:
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("model.train: lora needs `pip install 'unlearnkit[lora]'`", Exit.PLUGIN) from None
    inside = set(model.encoder.modules())
    frozen = set() if model.first is None else set(model.first.modules())
    layers = {n: m for n, m in model.module.named_modules() if _whole(m) and m not in frozen}
    layers = {name: layer for name, layer in layers.items() if part == "all" or layer in inside}
    found = {name: layer for name, layer in layers.items() if _meant(lora, name, layer)}
    if not found:
        there = sorted({name.rpartition(".")[2] for name in layers})
        said = f"none of the {len(layers)} layers of the part `{part}` is meant; they are called {_listed(there)}"
        raise UserError(f"model.train.targets: {said}", Exit.RECIPE)
    torch.manual_seed(seed)
    for ours in (True, False):
        names = [re.escape(f"model.{name}") for name, layer in found.items() if (layer in inside) is ours]
        if names:
            box = nn.ModuleDict({"model": model.module})  # on which PEFT leaves its marks
            inject_adapter_in_model(LoraConfig(r=lora.rank, lora_alpha=lora.rank, target_modules="|".join(names)), box)
    _put(model, {layer: model.module.get_submodule(name) for name, layer in found.items()})
    model.adapters = [p for layer in _adapted(model) for p in _pair(layer)]


def original(model: ModelAdapter) -> ModelAdapter:
    """Return a copy of a model; that of one with adapters has them off, and shares all weights."""
    if not model.adapters:
        return copy.deepcopy(model)
    twin = _twin(model)
    for layer in _adapted(twin):
        layer.enable_adapters(False)
    return twin


def plain(model: ModelAdapter, merged: bool = False) -> ModelAdapter:
    """Return a model without adapters, which are `merged` into its weights or left out.

    It shares all other weights with the model, and is the model itself where that has none.
    """
    if not model.adapters:
        return model
    twin = _twin(model)
    layers = _adapted(twin)
    for layer in layers if merged else ():
        layer.merge(safe_merge=True)  # into weights of its own
    _put(twin, {cast("nn.Module", layer): layer.get_base_layer() for layer in layers})
    twin.adapters = ()
    return twin


def change(model: ModelAdapter) -> float:
    """Return how far adapters take the layers that they are beside: ‖B A‖ over ‖W‖, all of them as one vector."""
    squares = []
    for layer in _adapted(model):
        a, b = (parameter.detach().flatten(1) for parameter in _pair(layer))
        weight = _weight(layer.get_base_layer()).detach()
        squares.append(torch.stack([(b.T @ b * (a @ a.T)).sum(), weight.square().sum()]))
    moved, whole = torch.stack(squares).sum(0).tolist()
    return math.sqrt(max(0.0, moved) / whole)


def refuse(label: str, model: ModelAdapter, stages: Sequence[Stage]) -> None:
    """Raise `UserError` where a method does to weights what adapters beside frozen ones cannot."""
    does = {
        "fresh": "begins at fresh weights",
        "noise": "puts noise on the weights",
        "salient": "picks salient weights",
    }
    for name, words in does.items() if model.adapters else ():
        if any(getattr(stage, name) for stage in stages):
            found = f"compare: {label} {words}, which stay frozen with `model.train: lora`"
            raise UserError(f"{found}; leave it out, or train the encoder or all", Exit.RECIPE)


def _whole(layer: nn.Module) -> bool:
    return type(layer) in LAYERS and getattr(layer, "groups", 1) == 1


def _meant(lora: Lora, name: str, layer: nn.Module) -> bool:
    if lora.targets is not None:
        return any(f".{name}".endswith(f".{target}") for target in lora.targets)
    weight = _weight(layer)
    return lora.rank * (len(weight) + weight[0].numel()) < weight.numel()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _adapted(model: ModelAdapter) -> "list[LoraLayer]":
    from peft.tuners.lora import LoraLayer

    return [module for module in model.module.modules() if isinstance(module, LoraLayer)]


def _pair(layer: "LoraLayer") -> Iterator[Parameter]:
    yield from (_weight(half["default"]) for half in (layer.lora_A, layer.lora_B))


def _weight(layer: nn.Module) -> Parameter:
    return cast("Parameter", layer.weight)


def _put(model: ModelAdapter, instead: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in the place of others, wherever an adapter's attributes lead to them."""
    new = set(instead.values())
    for name, root in [(name, value) for name, value in vars(model).items() if isinstance(value, nn.Module)]:
        for above in [module for module in root.modules() if module not in new]:
            for below, child in list(above._modules.items()):
                if child is not None and child in instead:
                    setattr(above, below, instead[child])
        if root in instead:
            setattr(model, name, instead[root])


def _twin(model: ModelAdapter) -> ModelAdapter:
    """Return a copy whose parameters and buffers have the storage of the model's own."""
    shared: dict[int, Any] = {id(buffer): buffer for buffer in model.module.buffers()}
    shared |= {id(own): Parameter(own.data, requires_grad=False) for own in model.module.parameters()}
    return copy.deepcopy(model, shared)
