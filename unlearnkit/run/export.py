"""Write one solution as a model of its own, with a card that states the evidence."""

import json
import math
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.disk import disk_errors, sha256
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.report import verdict
from unlearnkit.run import checkpoint
from unlearnkit.run.folder import read_json, refuse_used
from unlearnkit.solver.workbench import build


def export(run: Path, recipe: Recipe, epsilon: str, to: Path) -> Path:
    """Write the solution of an id such as `highest`, or of a value of ε, to the folder `to` and return the folder."""
    results, manifest = read_json(run / "results.json"), read_json(run / "manifest.json")
    row = chosen(results, epsilon)
    refuse_used(to, "give another folder")
    bench = build(recipe, Path(manifest["base"]))
    if bench.facts["weights"] != manifest["weights"]:
        changed = "the original weights changed since the run; the solution does not fit them"
        raise UserError(f"{run}: {changed}", Exit.FOLDER)
    tensors, _ = checkpoint.read(run / "solutions" / row["id"])
    bench.put(row.get("part", recipe.model.train), tensors["theta"].to(bench.device))
    part = to.with_name(f".{to.name}.part")
    with disk_errors(to):
        try:
            part.mkdir(parents=True)
            bench.student.save(part)
            digests = {file.relative_to(part).as_posix(): sha256(file) for file in sorted(part.rglob("*.*"))}
            section = recipe.model.model_dump(mode="json", exclude={"weights", "train"})
            facts = {"model": section, "solution": row, "original_weights": manifest["weights"]}
            (part / "unlearnkit.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            (part / "README.md").write_text(_card(results, manifest, row, digests), encoding="utf-8")
            if to.exists():
                to.rmdir()
            part.rename(to)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return to


def chosen(results: dict[str, Any], epsilon: str) -> dict[str, Any]:
    """Return the solution that a user means; raise `UserError` listing them all."""
    value = math.nan  # which is near no ε
    with suppress(ValueError):
        value = float(epsilon)
    for row in results["solutions"]:
        near = row["epsilon"] is not None and abs(value - row["epsilon"]) <= 5e-4 * abs(row["epsilon"])
        if near or epsilon in (row["id"], row["id"].removeprefix("boundary-")):
            return dict(row)
    listed = "\n".join(f"  {row['id']:18} {row['label']}" for row in results["solutions"])
    raise UserError(f"--epsilon {epsilon}: there is no such solution; there are:\n{listed}", Exit.USAGE)


def _card(results: Any, manifest: dict[str, Any], row: dict[str, Any], digests: dict[str, str]) -> str:
    environment = Environment(
        loader=PackageLoader("unlearnkit", "templates"), undefined=StrictUndefined, autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    template = environment.get_template("card.md.j2")
    return template.render(results=results, manifest=manifest, row=row, digests=digests, verdict=verdict(results))
