"""What is known of each architecture: where its encoder ends, what it is told, and why some cannot be unlearned."""

from collections.abc import Mapping

CUTS: Mapping[str, str] = {
    "ATD": "layers",
    "CRAFT": "layers",
    "Compact": "body.-3",
    "DAT": "layers",
    "DCTLSA": "B6",
    "DITN": "UFONE",
    "DRCT": "layers",
    "DRUNet": "m_body",
    "DnCNN": "model.-3",
    "ESRGAN": "model.1.sub.-2",
    "FBCNN": "m_body_encoder",
    "FDAT": "groups",
    "FFTformer": "encoder_level3",
    "GRL": "layers",
    "HAT": "layers",
    "HVICIDNet": "HV_LCA3",
    "KBNet": "middle_blks",
    "LaMa": "model.model.-14",
    "MIGAN": "encoder",
    "MMRealSR": "body",
    "MixDehazeNet": "layer3",
    "MoESR": "blocks",
    "MoSR": "gblocks.-1",
    "NAFNet": "middle_blks",
    "OmniSR": "residual_layer",
    "PLKSR": "feats.-2",
    "RCAN": "body.-2",
    "RGT": "layers",
    "RealCUGAN": "unet1",
    "RestoreFormer": "encoder",
    "RetinexFormer": "body.0.denoiser.bottleneck",
    "SAFMN": "feats",
    "SAFMNBCIE": "feats",
    "SCUNet": "m_body",
    "SPAN": "block_6",
    "SwiftSRGAN": "residual",
    "Swin2SR": "layers",
    "SwinIR": "layers",
    "Uformer": "conv",
}
"""By spandrel's name of an architecture the module whose output ends the encoder: the deepest one of a U-Net, and of
what has no bottleneck the last block before the output is put together. A list stands for its last one."""

AS_IN_TRAINING: Mapping[str, tuple[str, ...]] = {
    "PLKSR": ("PLKConv2d", "SparsePLKConv2d", "RectSparsePLKConv2d"),
    "SPAN": ("Conv3XC",),
}
"""Classes of modules that run as in training: else they write into what the gradient needs, or fold their weights."""

LEVELS: Mapping[str, str] = {"DRUNet": "m_head.weight", "DnCNN": "model.0.weight"}
"""The first layer of denoisers, which may have a channel for the level of the noise."""
LEVEL = 15 / 255
"""The level that spandrel tells them."""

BOUNDED = ("HVICIDNet",)
"""Networks whose transform of colours has no value outside [0, 1], where noise may lie; it is clamped for them."""

NOISE, ONE = "it draws noise of its own at every call", "it takes one image at a time"
REFUSED: Mapping[str, str] = {"AuraSR": NOISE, "GFPGAN": NOISE, "IPT": ONE, "SeemoRe": ONE}
"""Architectures that cannot be unlearned, and why."""
