"""Another torch, unlearnkit or plugin is refused by name; of threads, the recorded number is taken."""

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import trials
from tiny_task import write_tiny
from trials import Before, Tally

PLUGIN = """\
from typing import Literal
from unlearnkit import hookimpl
from unlearnkit.builtin.tasks.sections import CenterCrop

class AcmeCrop(CenterCrop):
    \"\"\"A centre crop from outside.\"\"\"

    kind: Literal["acme-crop"]
    \"\"\"A centre crop.\"\"\"

@hookimpl
def register_tasks():
    return [AcmeCrop]
"""
ANOTHER = "9.8.7"


def trials_of(folder: Path, large: bool) -> Iterator[Tally]:
    """Stop a run and go on under other versions; go on with two threads where it was one, and with one."""
    recipe = write_tiny(folder)
    overrides = (*trials.SHORT, "task={kind: acme-crop}")
    installed = partial(_install, folder / "site", "1.0")
    run, whole = folder / "run", folder / "whole"
    assert (done := trials.run(recipe, whole, *overrides, before=installed)).code == 0, done.told

    def stopped() -> None:
        killed = trials.killed_before(run, "solutions/epsilon", 1)
        installed()
        killed()

    assert (killed := trials.run(recipe, run, *overrides, before=stopped)).code == -9, killed.told
    tally = Tally("another version while a run is resumed: refused, with both versions")
    for what, before in {
        "torch": _torch,
        "unlearnkit": _unlearnkit,
        "acme": partial(_install, folder / "site-2", ANOTHER),
    }.items():
        copy = trials.fresh(run, folder / "copy")
        files = trials.whole(copy)
        outcome = trials.command("resume", copy, cwd=folder, before=_after(installed, before, what != "acme"))
        holds = outcome.code == 7 and what in outcome.err and ANOTHER in outcome.err and "Traceback" not in outcome.err
        same = trials.whole(copy) == files
        tally.check(holds and same, f"{what}: {'' if same else 'the folder was changed; '}{outcome.told}")
    yield tally
    tally = Tally("two threads where the run had one, and one where it had two: the recorded number is taken and said")
    for first, second in ((1, 2), (2, 1)):
        was, now = (_after(installed, partial(_threads, number)) for number in (first, second))
        base = trials.cleared(folder / "base")
        assert (done := trials.run(recipe, base, *overrides, before=was)).code == 0, done.told
        copy = trials.cleared(folder / "copy")
        kill = trials.killed_before(copy, "solutions/epsilon", 1)
        assert (killed := trials.run(recipe, copy, *overrides, before=_after(was, kill))).code == -9, killed.told
        outcome = trials.command("resume", copy, cwd=folder, before=now)
        wrong = trials.differing(trials.lasting(copy), trials.lasting(base))
        tally.check(outcome.code == 0 and "thread" in outcome.err and not wrong, f"{second}: {wrong} {outcome.told}")
    yield tally


def _after(first: Before, then: Before, both: bool = True) -> Before:
    def before() -> None:
        if both:
            first()
        then()

    return before


def _torch() -> None:
    import torch

    torch.__version__ = type(torch.__version__)(ANOTHER)


def _unlearnkit() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "unlearnkit" and "__version__" in vars(module):
            module.__version__ = ANOTHER


def _threads(number: int) -> None:
    import torch

    torch.set_num_threads(number)


def _install(site: Path, version: str) -> None:
    """Install the plugin, as pip leaves it, in this process."""
    info = site / f"acme_unlearning-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-unlearning\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[unlearnkit]\nacme = acme_unlearning\n")
    (info / "top_level.txt").write_text("acme_unlearning\n")
    (site / "acme_unlearning.py").write_text(PLUGIN)
    sys.path.insert(0, str(site))
    os.environ["UNLEARNKIT_LOAD_PLUGINS"] = "acme"
