"""The PatchGAN of pix2pix: a discriminator beside the model's own loss while a model is trained.

It sees input and output together and says of each patch whether the output is the truth (Isola et al., "Image-to-Image
Translation with Conditional Adversarial Networks", 2017, eq. 1 and §3.2; layers as `NLayerDiscriminator` in
junyanz/pytorch-CycleGAN-and-pix2pix). Shape suffixes: B images of a batch, H and W their sides.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnkit.contracts import ModelAdapter, Size, View, sides
from unlearnkit.contracts.sizes import told
from unlearnkit.errors import UserError
from unlearnkit.recipe.pretraining import PatchGAN
from unlearnkit.recipe.training import SGD, AdamW
from unlearnkit.solver.schedule import optimizer as build_optimizer


class Discriminator(nn.Sequential):
    """`depth` convolutions that halve the side, of `width` channels and then twice as many, and two that do not."""

    def __init__(self, width: int, depth: int) -> None:
        widths = [6, *(width * min(2**level, 8) for level in range(depth + 1))]
        layers = list[nn.Module]()
        for level, (outer, inner) in enumerate(pairwise(widths)):
            norm = [nn.InstanceNorm2d(inner)] if level else []
            layers += [nn.Conv2d(outer, inner, 4, 2 if level < depth else 1, 1), *norm, nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02) if parameter.ndim > 1 else nn.init.zeros_(parameter)


class Adversary:
    """A discriminator and its optimiser, against a model."""

    def __init__(self, section: PatchGAN, model: ModelAdapter, optimizer: AdamW | SGD) -> None:
        """Draw its weights; raise `UserError` where outputs are sampled, or too small for its depth."""
        if type(model).output is not ModelAdapter.output:
            found = "the model draws its outputs in many steps, which no gradient goes through"
            raise UserError(f"pretrain.adversary: {found}; leave it out")
        _refuse_small(section.depth, model.image_size)
        self.model, self.weight = model, section.weight
        self.module = Discriminator(section.width, section.depth).to(next(model.module.parameters()).device)
        self.optimizer = build_optimizer(optimizer, self.module.parameters())

    def step(self, view: View) -> Tensor:
        """Teach the discriminator a batch, then return the weighted loss that the model gets from it, a scalar.

        The discriminator's is half of −log D(x, y) − log(1 − D(x, G(x))), the model's −log D(x, G(x)).
        """
        self.module.requires_grad_(True)
        made = torch.where(view.region, self.model.decode(self.model.embed(view), view).float(), view.truth)
        told = self._logits(view, made.detach())
        loss = (F.softplus(-self._logits(view, view.truth)).mean() + F.softplus(told).mean()) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.module.requires_grad_(False)
        return self.weight * F.softplus(-self._logits(view, made)).mean()

    def _logits(self, view: View, images: Tensor) -> Tensor:
        """Return what is said of each patch of images [B, 3, H, W] that were made of the view's input, as logits."""
        given = F.interpolate(view.images, images.shape[-2:])
        logits: Tensor = self.module(torch.cat([given, images], 1) * 2 - 1)
        return logits


def _refuse_small(depth: int, size: Size) -> None:
    """Refuse a depth that leaves no patch: each of the last two convolutions takes one from the side."""
    fits = (min(sides(size)) // 3).bit_length() - 1
    if depth > fits:
        advice = f"at most {fits}" if fits > 0 else "leave it out"
        raise UserError(f"pretrain.adversary.depth: {depth} leaves no patch of images of {told(size)}; {advice}")
