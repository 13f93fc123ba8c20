"""Build the site, take a run's results into the gallery, or make the sample folders that are handed over."""

import argparse
import sys
from pathlib import Path

from unlearnkit.errors import UserError

from . import gallery, stage


def _handed_over() -> Path:
    from . import handed  # which needs the extra `attest`

    return handed.make()


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(prog="python -m docs.builder")
    commands = parser.add_subparsers(required=True)
    site = commands.add_parser("site", help="build the site, warnings as errors")
    site.add_argument("out", type=Path)
    site.set_defaults(call=lambda chosen: stage.build(chosen.out))
    collect = commands.add_parser("collect", help="take finished runs of committed recipes into docs/gallery")
    collect.add_argument("runs", type=Path, nargs="+")
    collect.set_defaults(call=lambda chosen: [print(gallery.collect(run)) for run in chosen.runs])
    handed = commands.add_parser("handed-over", help="make the sample folders of docs/handed-over again")
    handed.set_defaults(call=lambda chosen: print(_handed_over()))
    chosen = parser.parse_args()
    try:
        chosen.call(chosen)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
