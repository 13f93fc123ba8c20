"""What sections build.

Shape suffixes: B images of a batch, H and W their sides. Images are float32 in [0, 1] unless a line says uint8.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
