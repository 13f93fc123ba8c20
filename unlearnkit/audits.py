"""The public address of what an audit is made of."""

from unlearnkit.contracts.audit import Audit, Case, Figure, Finding, Missing, Over

__all__ = ["Audit", "Case", "Figure", "Finding", "Missing", "Over"]
