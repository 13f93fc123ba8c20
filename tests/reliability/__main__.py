"""`python tests/reliability [NAME...]`: what is promised of a run's record, tried; a table for docs/reliability.md."""

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[depth]) for depth in (0, 1, 2)]  # what is here, the tiny task, unlearnkit

import full_disk  # noqa: E402
import trials  # noqa: E402

NAMES = ("flips", "leaves", "kills", "race", "full_disk", "stops", "deletion", "versions", "old_runs")


def main() -> None:
    """Try each and print a table, on stderr what does not hold; exit with 1 where anything does not."""
    parser = argparse.ArgumentParser(prog="python tests/reliability", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to try: {', '.join(NAMES)} (all)")
    parser.add_argument("--few", action="store_true", help="a sample of each, as in the test suite")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"there is no {', '.join(unknown)}")
    os.environ["UNLEARNKIT_LOAD_PLUGINS"] = ""
    os.environ["OMP_NUM_THREADS"] = "1"
    if "full_disk" in (given.names or NAMES):
        full_disk.preload()
    trials.ready()
    print("| What | Tried | Held | | Time |\n|---|---|---|---|---|")
    broken = 0
    for name in given.names or NAMES:
        module = importlib.import_module(name)
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            began = time.monotonic()
            for tally in module.trials_of(Path(folder).resolve(), not given.few):
                spent, began = time.monotonic() - began, time.monotonic()
                held = tally.tried - tally.broken
                print(f"| {tally.what} | {tally.tried} | {held} | {tally.note} | {spent:.0f} s |", flush=True)
                broken += tally.broken
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
