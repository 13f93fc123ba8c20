"""The step as pure functions of tensors, the rules that mix its gradients, and the stages of a method."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
