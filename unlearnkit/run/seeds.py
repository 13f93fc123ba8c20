"""A recipe with `seeds`: one run for each of them in a folder of its own, and what they come to together."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unlearnkit import __version__
from unlearnkit.disk import PART, remove_folder, remove_parts, write_record
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import ExecutorSection
from unlearnkit.run import folder as folders
from unlearnkit.run import manifest, runner
from unlearnkit.run.folder import held, refuse_begun
from unlearnkit.run.interrupts import Stop, Tell, signals
from unlearnkit.run.jobs import handing
from unlearnkit.run.runner import Hand
from unlearnkit.seal import FORMAT, SEAL, Sealed


def start(
    recipe: Recipe, text: str, resolved: Mapping[str, Any], base: Path, folder: Path, plugins: Plugins, tell: Tell,
    executor: ExecutorSection | None = None,
) -> Path:  # fmt: skip
    """Run a recipe in a new folder, once for each seed where it has `seeds`, and return the folder.

    Its tasks are done by the workers of an `executor`, or else by this process.
    """
    if recipe.seeds is None:
        hand = handing(executor, [], plugins) if executor else runner.alone
        return runner.start(recipe, text, resolved, base, folder, plugins, tell, hand=hand)
    refuse_begun(folder)

    def checked() -> None:
        if not (folder / folders.MANIFEST).exists():
            known = folders.begin(folder, text, resolved) | folders.places(folder, base)
            known |= {"seeds": recipe.seeds, "unlearnkit": __version__}
            write_record(folder / folders.MANIFEST, {"format": FORMAT, **known})

    with held(folder):
        refuse_begun(folder)
        _each(recipe, text, resolved, base, folder, (), plugins, tell, checked, executor)
    return folder


def resume(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell,
    executor: ExecutorSection | None = None,
) -> Path:  # fmt: skip
    """Continue the run in `folder`, or those of all seeds in it; what is finished and not changed stays as it is."""
    known = folders.begun(folder)
    if (recipe.seeds is None) != (known.get("seeds") is None):
        held_by = "one seed" if recipe.seeds else "several seeds"
        raise UserError(f"seeds: {folder} is the run of {held_by}; run the recipe in another folder", Exit.FOLDER)
    if recipe.seeds is None:
        hand = handing(executor, [], plugins) if executor else runner.alone
        return runner.resume(recipe, resolved, folder, overrides, plugins, tell, hand=hand)
    same = not folders.changed(folder, resolved)
    if (folder / SEAL).exists():
        for place in (folder, *_places(recipe, folder)) if same else [folder]:
            Sealed.of(place).verify()
        if same:
            tell({"event": "finished", "report": str(folder / "comparison.html")})
            return folder

    def save(hashes: list[str]) -> None:
        known.update(resolved_sha256=hashes, seeds=recipe.seeds)
        write_record(folder / folders.MANIFEST, {"format": FORMAT, **known})

    def checked() -> None:
        if folders.changed(folder, resolved):
            (folder / SEAL).unlink(missing_ok=True)
            folders.change(folder, resolved, save)

    with held(folder):
        known = folders.begun(folder)
        text, base = (folder / folders.RECIPE).read_text(encoding="utf-8"), folders.base_of(folder, known)
        _each(recipe, text, resolved, base, folder, overrides, plugins, tell, checked, executor)
    return folder


def _places(recipe: Recipe, folder: Path) -> list[Path]:
    return [folder / f"seed-{seed}" for seed in recipe.seeds or ()]


def _each(
    recipe: Recipe, text: str, resolved: Mapping[str, Any], base: Path, folder: Path, overrides: tuple[str, ...],
    plugins: Plugins, tell: Tell, checked: Callable[[], None], executor: ExecutorSection | None,
) -> None:  # fmt: skip
    """Run or continue each seed; `checked` is called whenever the recipe has been found to fit one that is at work.

    With an executor all are begun first, and then the tasks of all that are not finished are done at once.
    """
    from unlearnkit.report.comparison import write as write_comparison  # matplotlib is slow to import

    images = recipe.seed if recipe.data.seed is None else recipe.data.seed
    data = recipe.data.model_copy(update={"seed": images})
    places = _places(recipe, folder)
    seeds = dict(zip(places, recipe.seeds or (), strict=True))

    def go_on(place: Path, hand: Hand) -> None:
        seed = seeds[place]
        alone = recipe.model_copy(update={"seed": seed, "seeds": None, "data": data})
        plain = {**resolved, "seed": seed, "seeds": None, "data": {**resolved["data"], "seed": images}}
        if (place / folders.MANIFEST).exists():
            runner.resume(alone, plain, place, overrides, plugins, tell, checked, hand)
        else:
            runner.start(alone, text, plain, base, place, plugins, tell, checked, hand)

    left = places
    if executor is not None:
        for place in places:
            go_on(place, lambda *_: False)
        left = [place for place in places if not (place / SEAL).exists()]
        if left:
            go_on(left[0], handing(executor, left[1:], plugins))
    for place in left[executor is not None :]:
        go_on(place, runner.alone)
    checked()
    with signals(Stop(tell)):
        for place in (folder, folder / "plots", folder / "tables"):  # not below a seed's, which another may hold
            remove_parts(place, f".*{PART}")
        for path in set(folder.glob("seed-*")) - set(places):
            remove_folder(path)
        written = write_comparison([Sealed.of(place) for place in places], folder)
        Sealed.measured(folder).write()
    tell({"event": "done", "time": manifest.now(), "report": str(written[0])})
