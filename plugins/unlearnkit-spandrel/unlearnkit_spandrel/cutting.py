"""Any network in two parts: all that runs until one of its modules is done, and the rest.

The encoder's modules leave the network, and a piece stands where each of them was. Encoding runs the network until the
last of them is done and keeps what they return; decoding runs it again with that in their place, so that it depends on
none of their parameters. What the rest never uses is not part of the embedding.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[nn.Module], Tensor]
"""What calls a network on its inputs and returns its images."""


class _Reached(Exception):  # noqa: N818 (no error: the encoder is done)
    """The encoder is done."""


class Tape:
    """What the encoder's modules returned, in the order of their calls: written by the encoder, read by the decoder."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []
        self.reading = False

    def call(self, piece: "Piece", *given: Any, **named: Any) -> Any:
        """Return what a module returns, or returned; raise `_Reached` once the last one has."""
        if self.reading:
            return self.outputs.pop(0)
        found = piece.whole(*given, **named)
        self.outputs.append(found)
        if piece.last:
            raise _Reached
        return found


class Piece(nn.Module):
    """Stands where a module of the encoder was; it registers none of its parameters."""

    def __init__(self, whole: nn.Module, tape: Tape, last: bool) -> None:
        super().__init__()
        # Not as a submodule, which would give its parameters two names.
        self.__dict__.update(whole=whole, tape=tape, last=last)

    def forward(self, *given: Any, **named: Any) -> Any:
        """Return what the tape says."""
        return self.tape.call(self, *given, **named)

    def __getattr__(self, name: str) -> Any:
        """Return what the network asks of the module itself, such as its sizes."""
        if "whole" not in self.__dict__:  # while it is copied
            raise AttributeError(name)
        return getattr(self.__dict__["whole"], name)


class Cut(nn.Module):
    """A network whose modules at `paths` are its encoder, the last one of which ends it."""

    def __init__(self, net: nn.Module, paths: Sequence[str], last: str) -> None:
        super().__init__()
        self.tape, self.paths = Tape(), list(paths)
        self.encoder = nn.ModuleList(net.get_submodule(path) for path in paths)
        for path in paths:
            above, _, name = path.rpartition(".")
            whole = net.get_submodule(path)
            net.get_submodule(above)._modules[name] = Piece(whole, self.tape, path == last)
        self.net = net
        self.crossing: list[bool] = []
        """Which of the tensors on the tape the decoder uses."""
        self.shapes: list[Any] = []
        """What was on the tape for two images, each tensor as its shape."""

    def state(self) -> dict[str, Tensor]:
        """Return the network's state by its own names."""
        found = {}
        for name, value in self.state_dict().items():
            part, _, rest = name.partition(".")
            number, _, inside = rest.partition(".")
            found[f"{self.paths[int(number)]}.{inside}" if part == "encoder" else rest] = value
        return found

    def encode(self, run: Run) -> tuple[Tensor, ...]:
        """Return what the decoder uses of what the encoder's modules return, in the order of their calls."""
        tensors = self._recorded(run)
        return tuple(one for one, used in zip(tensors, self.crossing, strict=True) if used)

    def _recorded(self, run: Run) -> list[Tensor]:
        self.tape.outputs, self.tape.reading = [], False
        try:
            run(self.net)
        except _Reached:
            return [tensor for output in self.tape.outputs for tensor in _tensors(output)]
        finally:
            outputs, self.tape.outputs = self.tape.outputs, []
            self.shapes = self.shapes or [_mapped(output, lambda tensor: tensor.shape) for output in outputs]
        raise AssertionError("the encoder was not reached")

    def decode(self, embedding: Sequence[Tensor], run: Run) -> Tensor:
        """Return the network's images for an embedding."""
        count, given = len(embedding[0]), iter(embedding)
        tensors = []
        for shape, used in zip(_tensors(self.shapes), self.crossing, strict=True):
            blank = [shape[0] // 2 * count, *shape[1:]]
            tensors.append(next(given) if used else embedding[0].new_zeros(blank))
        return self._replayed(tensors, run)

    def _replayed(self, tensors: Sequence[Tensor], run: Run) -> Tensor:
        given = iter(tensors)
        self.tape.outputs, self.tape.reading = [_mapped(output, lambda _: next(given)) for output in self.shapes], True
        try:
            return run(self.net)
        finally:
            self.tape.outputs, self.tape.reading = [], False

    @torch.no_grad()
    def trace(self, run: Run) -> None:
        """Find out by runs of two images which tensors cross the cut; raise `ValueError` where it is none."""
        tensors = self._recorded(run)
        if not all(one.is_floating_point() for one in tensors):
            raise ValueError("it hands on whole numbers, through which no gradient goes")
        whole = self._replayed(tensors, run)
        for place, one in enumerate(tensors):
            other = [*tensors]
            other[place] = one + torch.rand_like(one)
            self.crossing.append(not torch.equal(self._replayed(other, run), whole))
        found = [one for one, used in zip(tensors, self.crossing, strict=True) if used]
        if not found:
            raise ValueError("nothing that comes before it reaches the output")
        if any(len(one) != 2 for one in found):
            raise ValueError("there an image is in several rows, such as windows")


def _tensors(value: Any) -> list[Any]:
    """Return the tensors, or their shapes, in a tensor or nested tuples, lists and tables."""
    if isinstance(value, Tensor | torch.Size):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [one for part in inside for one in _tensors(part)]


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value with every tensor, or shape, in it changed."""
    if isinstance(value, Tensor | torch.Size):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(part, change) for name, part in value.items()}
    return type(value)(_mapped(part, change) for part in value) if isinstance(value, tuple | list) else value


def located(net: nn.Module, path: str) -> str:
    """Return the full path of a module, where a list stands for its last one and -2 for its last but one.

    Raise `ValueError` where there is none.
    """
    found: nn.Module = net
    names: list[str] = []
    for name in path.split("."):
        inside = dict(found.named_children())
        if name.startswith("-") and name[1:].isdigit() and int(name[1:]) <= len(inside):
            name = list(inside)[int(name)]
        if name not in inside:
            listed = ", ".join(list(inside)[:12]) or "nothing"
            raise ValueError(f"there is no '{name}'; {'.'.join(names) or 'the network'} has: {listed}")
        names.append(name)
        found = inside[name]
    if isinstance(found, nn.ModuleList):
        names.append(str(len(found) - 1))
    return ".".join(names)


@torch.no_grad()
def cut(net: nn.Module, path: str, run: Run) -> Cut:
    """Return a network cut after the module at `path`, found by runs of two images; raise `ValueError` without one."""
    last = located(net, path)
    done = Counter[str]()
    after, reached = set[str](), False

    def watched(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal reached
            found = forward(*given, **named)
            if reached:
                after.add(name)
            else:
                done[name] += 1
                reached = name == last
            return found

        return call

    inside = [(name, module) for name, module in net.named_modules() if name]
    for name, module in inside:  # no hooks, for some call `forward` itself
        module.__dict__["forward"] = watched(name, module.forward)
    try:
        first = run(net)
    finally:
        for _, module in inside:
            del module.__dict__["forward"]
    if not torch.equal(first, run(net)):
        raise ValueError("the network draws noise of its own at every call")
    if not reached:
        raise ValueError("it is not run as a module of its own")
    if done[last] > 1 or last in after:
        raise ValueError("it runs more than once")
    whole = {name for name, module in inside if name in done and any(True for _ in module.parameters())}
    if last not in whole:
        raise ValueError("it has no parameters")
    paths = [name for name, _ in inside if name in whole and not any(name.startswith(f"{other}.") for other in whole)]
    if both := sorted(name for name in after & whole if name.startswith(tuple(paths))):
        raise ValueError(f"{both[0]} runs before it and after it")
    found = Cut(net, paths, last)
    found.trace(run)
    return found
