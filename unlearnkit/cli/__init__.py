"""The command line: parse, call, print, exit code."""

from unlearnkit.cli.commands import app, main

__all__ = ["app", "main"]
