"""Metrics over the features of a frozen network, and what a plugin needs to bring such a network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
