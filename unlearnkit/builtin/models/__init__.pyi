from .vit_mae import MaskedAutoencoder as MaskedAutoencoder
from .vit_mae import VitMaeAdapter as VitMaeAdapter
