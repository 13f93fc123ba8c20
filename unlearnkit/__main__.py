"""Run the command line with `python -m unlearnkit`."""

from unlearnkit.cli import main

main()
