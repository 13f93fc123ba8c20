"""The public address of the hooks."""

from unlearnkit.plugins.hookspecs import *  # noqa: F403
from unlearnkit.plugins.hookspecs import __all__ as __all__
