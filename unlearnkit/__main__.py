"""Run the command line with `python -m unlearnkit`."""

from unlearnkit.cli.commands import main

main()
