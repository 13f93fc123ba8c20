from .conv import ConvAdapter as ConvAdapter
from .pix2pix import Pix2PixAdapter as Pix2PixAdapter
from .vit_mae import MaskedAutoencoder as MaskedAutoencoder
from .vit_mae import VitMaeAdapter as VitMaeAdapter
