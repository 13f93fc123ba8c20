"""Trained parameters and their two gradients as views into flat buffers."""

from collections.abc import Callable, Iterable
from functools import cached_property

import torch
from torch import Tensor, nn


class Flat:
    """All trained parameters in one vector `theta`, and two gradient vectors that backward passes fill in place.

    The parameters of the module become views of `theta`; a parameter used twice is counted once. The optimiser works
    on `theta` alone, so that its step and the inner products of the rule are single kernels. `first` gives a part of
    it that can be trained alone.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], whole: "Flat | None" = None) -> None:
        self.parameters, self.whole = list(dict.fromkeys(parameters)), whole or self
        if whole is None:
            self.theta = nn.Parameter(torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters]))
            for parameter, view in zip(self.parameters, self._split(self.theta.data), strict=True):
                parameter.data = view
            self.alone()
        else:
            self.theta = nn.Parameter(whole.theta.data[: sum(parameter.numel() for parameter in self.parameters)])

    def first(self, count: int) -> "Flat":
        """Return the first `count` parameters as vectors of their own, which share the memory of these."""
        return Flat(self.parameters[:count], self)

    def alone(self) -> "Flat":
        """Let autograd follow these parameters and no others of the whole, and return this."""
        mine = set(self.parameters)
        for parameter in self.whole.parameters:
            parameter.requires_grad_(parameter in mine)
        return self

    @cached_property
    def gradients(self) -> tuple[Tensor, Tensor]:
        """The two gradient vectors, which take memory from their first use on."""
        return torch.zeros_like(self.theta.data), torch.zeros_like(self.theta.data)

    @cached_property
    def _views(self) -> tuple[list[Tensor], ...]:
        return tuple(list(self._split(buffer)) for buffer in self.gradients)

    def _split(self, vector: Tensor) -> Iterable[Tensor]:
        sizes = [parameter.numel() for parameter in self.parameters]
        for piece, parameter in zip(vector.split(sizes), self.parameters, strict=True):
            yield piece.view(parameter.shape)

    def backward(self, which: int, losses: Iterable[Callable[[], Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the sum of `losses` and its gradient, accumulated in buffer `which`, one backward pass each."""
        self.gradients[which].zero_()
        for parameter, view in zip(self.parameters, self._views[which], strict=True):
            parameter.grad = view
        total = torch.zeros((), device=self.theta.device)
        for loss in losses:
            value = loss()
            value.backward()
            total = total + value.detach()
        return total, self.gradients[which]

    def set(self, theta: Tensor) -> None:
        """Copy a vector into the parameters."""
        self.theta.data.copy_(theta)
