"""The public address of what a method builds."""

from unlearnkit.control.stages import Stage, Until

__all__ = ["Stage", "Until"]
