"""A recipe with `seeds`: one run for each of them in a folder of its own, and what they come to together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearnkit.disk import disk_errors, write_file, write_json
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.run import manifest, runner
from unlearnkit.run.events import Tell
from unlearnkit.run.folder import read_json, refuse_begun


def start(
    recipe: Recipe, text: str, resolved: Mapping[str, Any], base: Path, folder: Path, plugins: Plugins, tell: Tell
) -> Path:
    """Run a recipe in a new folder, once for each seed where it has `seeds`, and return the folder."""
    if recipe.seeds is None:
        return runner.start(recipe, text, resolved, base, folder, plugins, tell)
    refuse_begun(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "recipe.yaml", text.encode())
    write_json(folder / "recipe.resolved.json", resolved)
    write_json(folder / "manifest.json", {"base": str(base.resolve()), "seeds": recipe.seeds})
    return _each(recipe, resolved, folder, (), plugins, tell)


def resume(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell
) -> Path:
    """Continue the run in `folder`, or those of all seeds in it; without `overrides` one that is finished stays."""
    if recipe.seeds is None:
        return runner.resume(recipe, resolved, folder, overrides, plugins, tell)
    begun = read_json(folder / "manifest.json")
    if begun.get("seeds") != recipe.seeds:
        raise UserError(f"{folder}: seeds: the run began with {begun.get('seeds')}; run the recipe again", Exit.FOLDER)
    if overrides:
        write_json(folder / "recipe.resolved.json", resolved)
    return _each(recipe, resolved, folder, overrides, plugins, tell)


def _each(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell
) -> Path:
    from unlearnkit.report.comparison import write as write_comparison  # matplotlib is slow to import

    base = Path(read_json(folder / "manifest.json")["base"])
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    images = recipe.seed if recipe.data.seed is None else recipe.data.seed
    data = recipe.data.model_copy(update={"seed": images})
    places = [folder / f"seed-{seed}" for seed in recipe.seeds or ()]
    for seed, place in zip(recipe.seeds or (), places, strict=True):
        alone = recipe.model_copy(update={"seed": seed, "seeds": None, "data": data})
        plain = {**resolved, "seed": seed, "seeds": None, "data": {**resolved["data"], "seed": images}}
        if not (place / "manifest.json").exists():
            runner.start(alone, text, plain, base, place, plugins, tell)
        elif overrides or not (place / "results.json").exists():
            runner.resume(alone, plain, place, overrides, plugins, tell)
    tell({"event": "done", "time": manifest.now(), "report": str(write_comparison(places, folder)[0])})
    return folder
