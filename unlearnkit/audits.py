"""The public address of what an audit is made of."""

from unlearnkit.contracts.audit import Audit, Case, Figure, Finding, Missing, Over, Shadow, Shadows

__all__ = ["Audit", "Case", "Figure", "Finding", "Missing", "Over", "Shadow", "Shadows"]
