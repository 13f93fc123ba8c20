"""A recipe with `seeds`: one run for each of them in a folder of its own, and what they come to together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearnkit import checkpoint, manifest, runner
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.runner import Tell


def start(
    recipe: Recipe, text: str, resolved: Mapping[str, Any], base: Path, folder: Path, plugins: Plugins, tell: Tell
) -> Path:
    """Run a recipe in a new folder, once for each seed where it has `seeds`, and return the folder."""
    if recipe.seeds is None:
        return runner.start(recipe, text, resolved, base, folder, plugins, tell)
    runner.refuse_used(folder)
    with checkpoint.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write_file(folder / "recipe.yaml", text.encode())
    checkpoint.write_json(folder / "recipe.resolved.json", resolved)
    checkpoint.write_json(folder / "manifest.json", {"base": str(base.resolve()), "seeds": recipe.seeds})
    return _each(recipe, resolved, folder, (), plugins, tell)


def resume(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell
) -> Path:
    """Continue the run in `folder`, or those of all seeds in it; without `overrides` one that is finished stays."""
    if recipe.seeds is None:
        return runner.resume(recipe, resolved, folder, overrides, plugins, tell)
    begun = runner.read_json(folder / "manifest.json")
    if begun.get("seeds") != recipe.seeds:
        raise UserError(f"{folder}: seeds: the run began with {begun.get('seeds')}; run the recipe again", Exit.FOLDER)
    if overrides:
        checkpoint.write_json(folder / "recipe.resolved.json", resolved)
    return _each(recipe, resolved, folder, overrides, plugins, tell)


def _each(
    recipe: Recipe,
    resolved: Mapping[str, Any],
    folder: Path,
    overrides: tuple[str, ...],
    plugins: Plugins,
    tell: Tell,
) -> Path:
    from unlearnkit.report.comparison import write as write_comparison  # matplotlib is slow to import

    base = Path(runner.read_json(folder / "manifest.json")["base"])
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    images = recipe.seed if recipe.data.seed is None else recipe.data.seed
    done = []
    for seed in recipe.seeds or ():
        data = recipe.data.model_copy(update={"seed": images})
        alone = recipe.model_copy(update={"seed": seed, "seeds": None, "data": data})
        plain = {**resolved, "seed": seed, "seeds": None, "data": {**resolved["data"], "seed": images}}
        place = folder / f"seed-{seed}"
        if not (place / "manifest.json").exists():
            runner.start(alone, text, plain, base, place, plugins, tell)
        elif overrides or not (place / "results.json").exists():
            runner.resume(alone, plain, place, overrides, plugins, tell)
        done.append(place)
    (page, *_) = write_comparison(done, folder)
    tell({"event": "done", "time": manifest.now(), "report": str(page)})
    return folder
