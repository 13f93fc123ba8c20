"""Write one solution as a model of its own, with a card that states the evidence."""

import json
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit import checkpoint
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report import verdict
from unlearnkit.runner import read_json
from unlearnkit.weights import sha256
from unlearnkit.workbench import build


def export(run: Path, recipe: Recipe, epsilon: str, to: Path) -> Path:
    """Write the solution that `epsilon` names to the folder `to` and return it.

    `epsilon` is an id such as `epsilon-2`, `highest`, `lowest`, or a value of ε found in the results.
    """
    results, manifest = read_json(run / "results.json"), read_json(run / "manifest.json")
    row = chosen(results, epsilon)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists already; give another folder with --to", Exit.FOLDER)
    bench = build(recipe, Path(manifest["base"]))
    if bench.facts["weights"] != manifest["weights"]:
        raise UserError(
            f"{run}: the original weights changed since the run; the solution does not fit them", Exit.FOLDER
        )
    tensors, _ = checkpoint.read(run / "solutions" / row["id"])
    bench.put(row.get("part", recipe.model.train), tensors["theta"].to(bench.device))
    part = to.with_name(f".{to.name}.part")
    with checkpoint.disk_errors(to):
        try:
            part.mkdir(parents=True)
            bench.student.save(part)
            digests = {file.relative_to(part).as_posix(): sha256(file) for file in sorted(part.rglob("*.*"))}
            section = recipe.model.model_dump(mode="json", exclude={"weights", "train"})
            facts = {"model": section, "solution": row, "original_weights": manifest["weights"]}
            (part / "unlearnkit.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            card = _card(results, manifest, row, digests)
            (part / "README.md").write_text(card, encoding="utf-8")
            if to.exists():
                to.rmdir()
            part.rename(to)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return to


def chosen(results: dict[str, Any], epsilon: str) -> dict[str, Any]:
    """Return the solution that a user means; raise `UserError` listing them all."""
    for row in results["solutions"]:
        if epsilon in (row["id"], row["id"].removeprefix("boundary-")):
            return dict(row)
        if row["epsilon"] is not None and _equal(epsilon, row["epsilon"]):
            return dict(row)
    listed = "\n".join(f"  {row['id']:18} {row['label']}" for row in results["solutions"])
    raise UserError(f"--epsilon {epsilon}: there is no such solution; there are:\n{listed}", Exit.USAGE)


def _equal(text: str, value: float) -> bool:
    try:
        return abs(float(text) - value) <= 5e-4 * abs(value)
    except ValueError:
        return False


def _card(results: Any, manifest: dict[str, Any], row: dict[str, Any], digests: dict[str, str]) -> str:
    environment = Environment(
        loader=PackageLoader("unlearnkit", "templates"), undefined=StrictUndefined, autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("card.md.j2").render(
        results=results, manifest=manifest, row=row, digests=digests, verdict=verdict(results)
    )
