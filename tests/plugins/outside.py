"""The sources of a model and of a metric that packages outside the repository bring, each a file of its own."""

MODEL = '''
from typing import Literal

from unlearnkit.recipe.sections import ModelSection


class Blur(ModelSection):
    """A convolution before and after a bottleneck."""

    kind: Literal["acme-blur"]
    """A small convolutional autoencoder."""
    channels: int = 4
    """Channels of the bottleneck."""

    def build(self, weights):
        from torch import nn

        from unlearnkit.contracts import ModelAdapter
        from unlearnkit.weights import load

        class Adapter(ModelAdapter):
            def __init__(self, channels):
                down, up = nn.Conv2d(3, channels, 4, 4), nn.ConvTranspose2d(channels, 3, 4, 4)
                self.module = nn.ModuleDict({"down": down, "up": up})
                self.encoder, self.image_size = down, 16

            def embed(self, view):
                return self.encoder(view.images)

            def decode(self, embedding, view):
                return self.module["up"](embedding)

            def own_loss(self, images, view):
                return (self.decode(self.embed(view), view) - images).square().mean()

        adapter = Adapter(self.channels)
        if weights is not None:
            load(adapter.module, weights)
        return adapter
'''

METRIC = '''
from typing import Literal

from unlearnkit.recipe.sections import MetricSection


class Error(MetricSection):
    """Mean absolute error."""

    kind: Literal["acme-error"]
    """Mean absolute error."""

    def build(self, base, device):
        from unlearnkit.contracts import Metric

        class MeanAbsoluteError(Metric):
            def __init__(self):
                self.reset()

            def update(self, outputs, targets, view):
                self.errors.append((outputs - targets).abs().mean())

            def compute(self):
                return {"value": float(sum(self.errors) / len(self.errors))}

            def reset(self):
                self.errors = []

            def describe(self):
                return {"name": "Mean absolute error", "better": "lower"}

        return MeanAbsoluteError()
'''
