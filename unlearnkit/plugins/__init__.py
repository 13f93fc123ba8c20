"""Plugins: what they may implement, how they are found, and what they bring."""

from unlearnkit.plugins.discover import Plugins, discover
from unlearnkit.plugins.faults import Plugin
from unlearnkit.recipe.sections import kind_of

__all__ = ["Plugin", "Plugins", "discover", "kind_of"]
