"""Model adapters over diffusers: autoencoders, VQ-GAN, MAGE, and diffusion that inpaints or edits."""

from unlearnkit import hookimpl
from unlearnkit.recipe.sections import ModelSection
from unlearnkit_diffusers.autoencoder_sections import VQGAN, Autoencoder, AutoencoderKL, AutoencoderTiny, Mage
from unlearnkit_diffusers.diffusion_sections import InstructPix2Pix, LatentInpainting, Palette


@hookimpl
def register_models() -> list[type[ModelSection]]:
    """Return the models of this package."""
    return [VQGAN, Mage, Autoencoder, AutoencoderKL, AutoencoderTiny, Palette, LatentInpainting, InstructPix2Pix]
