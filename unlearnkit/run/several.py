"""A recipe that is varied: one run for each of its values in a folder of its own, and what they come to together."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearnkit import __version__
from unlearnkit.disk import PART, remove_folder, remove_parts, write_record
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import ExecutorSection
from unlearnkit.recipe.vary import Child, children, said
from unlearnkit.run import folder as folders
from unlearnkit.run import manifest, runner
from unlearnkit.run.folder import held, refuse_begun
from unlearnkit.run.interrupts import Stop, Tell, signals
from unlearnkit.run.jobs import Tasks, handing
from unlearnkit.run.runner import Hand
from unlearnkit.seal import FORMAT, MANIFEST, SEAL, Sealed
from unlearnkit.solver.frozen import lasting


def start(
    recipe: Recipe, text: str, resolved: Mapping[str, Any], base: Path, folder: Path, plugins: Plugins, tell: Tell,
    executor: ExecutorSection | None = None,
) -> Path:  # fmt: skip
    """Run a recipe in a new folder, once for each value that it is varied over, and return the folder.

    Its tasks are done by the workers of an `executor`, or else by this process.
    """
    runs = children(recipe, resolved)
    if not runs:
        return runner.start(recipe, text, resolved, base, folder, plugins, tell, hand=_hand(executor, plugins))
    refuse_begun(folder)

    def checked() -> None:
        if not (folder / MANIFEST).exists():
            known = folders.begin(folder, text, resolved) | folders.places(folder, base)
            known |= {"runs": [run.name for run in runs], "unlearnkit": __version__}
            write_record(folder / MANIFEST, {"format": FORMAT, **known})

    with held(folder):
        refuse_begun(folder)
        _each(runs, text, base, folder, (), plugins, tell, checked, executor)
    return folder


def resume(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell,
    executor: ExecutorSection | None = None,
) -> Path:  # fmt: skip
    """Continue the run in `folder`, or all of those in it; what is finished and not changed stays as it is."""
    known, runs = folders.begun(folder), children(recipe, resolved)
    if bool(runs) != bool(known.get("runs") or known.get("seeds")):  # `seeds`, before there was `vary`
        held_by = "one run" if runs else "several runs"
        raise UserError(f"vary, seeds: {folder} has {held_by}; run the recipe in another folder", Exit.FOLDER)
    if not runs:
        return runner.resume(recipe, resolved, folder, overrides, plugins, tell, hand=_hand(executor, plugins))
    same = not folders.changed(folder, resolved)
    if (folder / SEAL).exists():
        for place in (folder, *(folder / run.name for run in runs)) if same else [folder]:
            Sealed.of(place).verify()
        if same:
            tell({"event": "finished", "report": str(folder / "comparison.html")})
            return folder

    def save(hashes: list[str]) -> None:
        known.update(resolved_sha256=hashes, runs=[run.name for run in runs])
        write_record(folder / MANIFEST, {"format": FORMAT, **known})

    def checked() -> None:
        if folders.changed(folder, resolved):
            (folder / SEAL).unlink(missing_ok=True)
            folders.change(folder, resolved, save)

    with held(folder):
        known = folders.begun(folder)
        text, base = (folder / folders.RECIPE).read_text(encoding="utf-8"), folders.base_of(folder, known)
        _each(runs, text, base, folder, overrides, plugins, tell, checked, executor)
    return folder


def _hand(executor: ExecutorSection | None, plugins: Plugins) -> Hand:
    """Return who does the tasks of a run that is one itself."""
    return handing(executor, [], plugins, Tasks()) if executor else runner.alone


def _each(
    runs: Sequence[Child], text: str, base: Path, folder: Path, overrides: tuple[str, ...], plugins: Plugins,
    tell: Tell, checked: Callable[[], None], executor: ExecutorSection | None,
) -> None:  # fmt: skip
    """Run or continue each; `checked` is called whenever the recipe has been found to fit one that is at work.

    With an executor all are begun first, and then the tasks of all that are not finished are done at once.
    """
    from unlearnkit.report.comparison import write as write_comparison  # matplotlib is slow to import

    places = {folder / run.name: run for run in runs}

    def go_on(place: Path, hand: Hand) -> None:
        _, varied, recipe, resolved = places[place]
        if (place / MANIFEST).exists():
            runner.resume(recipe, resolved, place, overrides, plugins, tell, checked, hand, place in begun)
        else:
            told = {key: value if type(value) in (int, float) else said(value) for key, value in varied.items()}
            runner.start(recipe, text, resolved, base, place, plugins, tell, checked, hand, told)
        begun.add(place)

    begun = set[Path]()  # by this command, which goes on with what an executor did
    left = list(places)
    with lasting():
        if executor is not None:
            found = Tasks()
            for place in places:
                go_on(place, found.add)
            left = [place for place in places if not (place / SEAL).exists()]
            if left:
                go_on(left[0], handing(executor, left[1:], plugins, found))
        for place in left[executor is not None :]:
            go_on(place, runner.alone)
    checked()
    with signals(Stop(tell)):
        for place in (folder, folder / "plots", folder / "tables"):  # not below a run's, which another may hold
            remove_parts(place, f".*{PART}")
        for path in {path.parent for path in folder.glob(f"*/{folders.RESOLVED}")} - set(places):
            remove_folder(path)
        written = write_comparison([Sealed.of(place) for place in places], folder)
        Sealed.measured(folder).write()
    tell({"event": "done", "time": manifest.now(), "report": str(written[0])})
