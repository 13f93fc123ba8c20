"""Model adapters over diffusers: autoencoders, VQ-GAN, MAGE, and diffusion inpainting."""

from unlearnkit import hookimpl
from unlearnkit.recipe.sections import ModelSection
from unlearnkit_diffusers.autoencoder_sections import VQGAN, AutoencoderKL, AutoencoderTiny, Mage
from unlearnkit_diffusers.diffusion_sections import LatentInpainting, Palette


@hookimpl
def register_models() -> list[type[ModelSection]]:
    """Return the models of this package."""
    return [VQGAN, Mage, AutoencoderKL, AutoencoderTiny, Palette, LatentInpainting]
