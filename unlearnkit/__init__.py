"""Controllable machine unlearning of image-to-image generative models."""

import pluggy

__version__ = "0.2.0"

hookimpl = pluggy.HookimplMarker("unlearnkit")
"""Mark a function of a plugin as the implementation of one of the hooks in `unlearnkit.hookspecs`."""
