"""Trained parameters and their two gradients as views into flat buffers."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Flat:
    """All trained parameters in one vector `theta`, and two gradient vectors that backward passes fill in place.

    The parameters of the module become views of `theta`; a parameter used twice is counted once. The optimiser works
    on `theta` alone, so that its step and the inner products of the rule are single kernels.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(dict.fromkeys(parameters))
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        self.theta = nn.Parameter(flat)
        self.gradients = torch.zeros_like(flat), torch.zeros_like(flat)
        self._views = tuple(list(self._split(buffer)) for buffer in self.gradients)
        for parameter, view in zip(self.parameters, self._split(self.theta.data), strict=True):
            parameter.data = view
            parameter.requires_grad_(True)

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
