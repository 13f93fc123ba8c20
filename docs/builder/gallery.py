"""The recipe gallery: one page a recipe from the recipe itself and, where one was collected, from a run's results."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe import vary
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import label
from unlearnkit.recipe.validate import load
from unlearnkit.report import comparison, shape, strips, tables, verdict
from unlearnkit.report.comparison import compare, gather, places
from unlearnkit.report.markdown import plain, table, titled
from unlearnkit.report.tables import Table
from unlearnkit.run.plan import describe, lines
from unlearnkit.seal import Sealed

from .paths import GALLERY, RECIPES, ROOT, listed

OF_ONE = ("results.json", "report.html", "plots/front.png", "plots/montage.png")
"""What of the folder of a run is committed as it is; the manifest goes without the folder it was run from."""

OF_SEVERAL = ("plots/comparison.png",)
"""The same where it is several runs: the comparison has the pictures of all solutions."""

OF_EACH = ("results.json", "recipe.resolved.json")
"""What the tables over all runs are made of."""

OF_COMPARED = ("comparison.html", "tables")
"""What a run with other methods or several runs have beside; its report and its comparison link to these."""

FAMILIES = {
    "vit-mae": "masked autoencoder",
    "mae": "masked autoencoder",
    "vq-gan": "VQ-GAN",
    "mage": "VQ-GAN",
    "pix2pix": "U-Net",
    "conv-autoencoder": "autoencoder",
    "autoencoder": "autoencoder",
    "autoencoder-kl": "autoencoder",
    "autoencoder-tiny": "autoencoder",
    "palette": "diffusion",
    "latent-inpainting": "diffusion",
    "instruct-pix2pix": "diffusion",
    "spandrel": "restoration",
}
"""The family of a model's kind; a kind that is not named here is a family of its own."""

SHOWN = ("solution", "ε", "f1", "gap", "satisfied", "f2", "λ", "steps", "ended")
"""The columns of a report's table of solutions that a card has room for."""

ORDER = "Top: forget set, bottom: retain set. Left to right: input, original model, then ε from loose to tight."
MEANING = "Losses are means over the whole training sets; [How it works](../method.md) has the meaning of each column."

FIRST, NAMED = "quickstart", 4
"""The card that stands before all others, and how many classes a card in the index names."""

SIDE, GAP = 96, 4
"""Squares of the small strip and the space between them, px."""


@dataclass(frozen=True)
class Card:
    """A recipe, and the results of a run of it where one was collected."""

    path: Path
    recipe: Recipe
    runs: list[tuple[shape.Results, dict[str, Any]]]
    """Results and manifest of each run."""
    needs: dict[str, str]

    @property
    def name(self) -> str:
        """Name of the recipe, its page and its folder."""
        return self.path.stem

    @property
    def folder(self) -> Path:
        """Where what was collected of it is."""
        return GALLERY / self.name

    @property
    def results(self) -> shape.Results | None:
        """Results of the first run; None where no run was collected."""
        return self.runs[0][0] if self.runs else None

    @property
    def manifest(self) -> dict[str, Any]:
        """Manifest of the first run."""
        return self.runs[0][1] if self.runs else {}

    @property
    def several(self) -> bool:
        """Whether it is several runs."""
        return bool(self.recipe.seeds or self.recipe.vary)

    @property
    def beside(self) -> str:
        """What these are."""
        return "runs" if self.recipe.vary else "seeds"

    @property
    def command(self) -> str:
        """What runs it."""
        return f"unlearnkit run {self.path.relative_to(ROOT)}"

    @property
    def family(self) -> str:
        """The model's family."""
        return FAMILIES.get(self.recipe.model.kind, self.recipe.model.kind)

    @property
    def tasks(self) -> list[str]:
        """Kinds of the task, or of those that it is varied over."""
        over = (self.recipe.vary or {}).get("task") or [{"kind": self.recipe.task.kind}]
        return list(dict.fromkeys(task["kind"] for task in over))

    @property
    def methods(self) -> list[str]:
        """How the front was found, and the methods beside it."""
        sweep, rule = self.recipe.sweep.kind, self.recipe.control.multiplier.kind
        ours = "ε-constraint, one curve" if sweep == "curve" else f"ε-constraint, {rule} λ"
        return [ours, *(section.kind for section in self.recipe.compare)]

    @property
    def seconds(self) -> float:
        """What the solutions of all runs took."""
        return float(sum(sum(manifest.get("times", {}).values()) for _, manifest in self.runs))


def cards() -> list[Card]:
    """Return a card for every recipe that unlearns."""
    plugins, needs = discover(), yaml.safe_load((GALLERY / "needs.yaml").read_text())
    found = []
    for path in listed():
        run = GALLERY / path.stem
        runs = [shape.load(Sealed.measured(place)) for place in places(run)] if (run / "recipe.yaml").is_file() else []
        recipe = load(path, plugins).recipe
        assert isinstance(recipe, Recipe)
        found.append(Card(path, recipe, runs, needs.get(path.stem, {})))
    return sorted(found, key=lambda card: (bool(card.needs), card.results is None, card.name != FIRST))


def collect(run: Path) -> Path:
    """Take what a card needs from the finished run of a committed recipe into docs/gallery/NAME, and return that.

    Raise `UserError` for a run that has not finished in all of its seeds, or of another recipe than the committed one.
    """
    inside = [Sealed.of(place) for place in places(run)]
    runs = [shape.load(place) for place in inside]
    name = runs[0][0]["name"]
    recipe = next((path for path in listed() if path.stem == name), None)
    if recipe is None:
        raise UserError(f"{run}: there is no committed recipe of the name '{name}'", Exit.RECIPE)
    said = yaml.safe_load(recipe.read_text())
    if not _is_of(run, recipe):
        raise UserError(f"{run}: ran another recipe than {recipe} now says; run it again", Exit.RECIPE)
    seeds = said.get("seeds")
    several = bool(seeds or said.get("vary"))
    if missing := set(seeds or ()) - {results["seed"] for results, _ in runs}:
        raise UserError(f"{run}: no run of seed {min(missing)}; try `unlearnkit resume {run}`", Exit.FOLDER)
    folder = GALLERY / recipe.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _copy(run, OF_SEVERAL if several else OF_ONE, folder)
    shutil.copy(recipe, folder / "recipe.yaml")
    _copy(run, [name for name in OF_COMPARED if (run / name).exists()], folder)
    for place, (_, manifest) in zip(inside, runs, strict=True):
        to = folder / place.folder.relative_to(run)
        to.mkdir(exist_ok=True)
        _copy(place.folder, OF_EACH if several else (), to)
        for name in ("base", "near"):
            manifest.pop(name, None)
        (to / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    pictures, _ = strips.read(inside[0], runs[0][0])
    strip(pictures).save(folder / "strip.png", optimize=True)
    return folder


def _is_of(run: Path, recipe: Path) -> bool:
    """Tell whether a run is of a recipe as it is now; one may have become so by `unlearnkit resume --set`."""
    began, resolved = run / "recipe.yaml", run / "recipe.resolved.json"
    if resolved.is_file():
        now = load(recipe, discover()).recipe
        return type(now).model_validate_json(resolved.read_text()) == now
    return began.is_file() and yaml.safe_load(began.read_text()) == yaml.safe_load(recipe.read_text())


def _copy(source: Path, names: Iterable[str], to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, to / name)
        else:
            shutil.copy(source / name, to)


def strip(pictures: list[strips.Strip]) -> Image.Image:
    """Return the first image of each set as input, under the original model and under each ε, loose to tight."""
    shown = [
        picture for picture in pictures if picture.of in ("input", "original") or picture.of.startswith("epsilon-")
    ]
    of = list(dict.fromkeys(picture.of for picture in shown))
    squares = {(picture.set, picture.of): picture.squares[0] for picture in shown}
    pitch = SIDE + GAP
    sheet = Image.new("RGB", (len(of) * pitch - GAP, len(shape.SETS) * pitch - GAP), "white")
    for (row, column), square in squares.items():
        place = of.index(column) * pitch, list(map(str, shape.SETS)).index(row) * pitch
        sheet.paste(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC), place)
    return sheet


def copy_files(pages: Path, extra: Path) -> None:
    """Put pictures beside the pages, and the reports, which Sphinx must not rename, into the extra files."""
    for card in cards():
        if card.results is not None:
            _copy(card.folder, [path.name for path in card.folder.glob("*.png")], pages / card.name)
            files = [name for name in ("report.html", *OF_COMPARED) if (card.folder / name).exists()]
            _copy(card.folder, files, extra / card.name)


def pages(plans: Path) -> dict[str, str]:
    """Return the index of the gallery and the page of each card by its path below docs/; plans are kept in `plans`."""
    found = cards()
    made = {f"gallery/{card.name}.md": page(card, plans) for card in found}
    made["gallery/index.md"] = index(found)
    return made


def index(found: list[Card]) -> str:
    """Return the page with all cards and the filter's words."""
    sorts = {"family": "Model family", "task": "Task", "method": "Method"}
    words: dict[str, Any] = {sort: {"title": title, "options": {}} for sort, title in sorts.items()}
    blocks = []
    for card in found:
        said = {"family": [card.family], "task": card.tasks, "method": card.methods}
        classes = ["card"]
        for sort, values in said.items():
            for value in values:
                words[sort]["options"][_class(sort, value)] = value
                classes.append(_class(sort, value))
        blocks.append(_summary(card, " ".join(classes)))
    data = json.dumps(words, ensure_ascii=False).replace("<", "\\u003c")
    return _joined(
        "# Recipe gallery",
        "What unlearning did, recipe by recipe, before you install anything. Every card has the exact command, the "
        "front, the pictures and what it cost. Those that need a GPU or data that cannot be shipped show their plan.",
        f'```{{raw}} html\n<script type="application/json" id="gallery-words">{data}</script>\n'
        '<div id="gallery-filter"></div>\n<p id="gallery-count" role="status"></p>\n'
        '<script src="../_static/gallery.js" defer></script>\n```',
        "\n\n".join(["::::{container} cards", *blocks, "::::"]),
        "## The models behind them",
        "The weights that travel with the project were trained by these recipes, with "
        "`unlearnkit pretrain RECIPE --to DIR`; figures are of the hidden region of validation images.",
        _pretrained(),
        "```{toctree}\n:hidden:\n\n" + "\n".join(card.name for card in found) + "\n```",
    )


def _summary(card: Card, classes: str) -> str:
    sets = card.recipe.data
    named = sets.forget.classes or []
    more = f" and {len(named) - NAMED} more classes" if len(named) > NAMED else ""
    forget = ", ".join(named[:NAMED]) + more or f"{sets.forget.draw} classes drawn from the seed"
    facts = f"{card.family} · {', '.join(card.tasks)} · forget {forget}"
    if card.results is not None:
        several = f" for {len(card.runs)} {card.beside}" if card.several else ""
        cost = f"{_minutes(card.seconds)}{several} on {_device(card)}"
        facts += f" · {cost}"
        seen = f"[![Inputs and outputs of {card.name}]({card.name}/strip.png)]({card.name}.md)"
        small = ORDER
    else:
        seen = f"`{card.command}`"
        small = "Not run for the gallery: it needs a GPU and data of your own." if card.needs else "Not run yet."
    title = f"[**{card.name}**]({card.name}.md)"
    return f":::{{container}} {classes}\n{title}\n\n{seen}\n\n{facts}\n\n{small}\n:::"


def page(card: Card, plans: Path) -> str:
    """Return the page of one recipe."""
    parts = ["---\nhide-toc: true\n---", f"# {card.name}", _preface(card), _facts(card)]
    parts += ["## Run it", f"```shell\n{card.command}\n```"]
    parts += _ran(card) if card.results is not None else _planned(card, plans)
    parts += ["## The recipe", f"```yaml\n{card.path.read_text().rstrip()}\n```"]
    return _joined(*parts)


def _ran(card: Card) -> list[str]:
    seen, cost = _of_several(card) if card.several else _of_one_run(card)
    page = "comparison.html" if card.several else "report.html"
    source = f"{card.name}/{page}"
    return [
        "## What it shows",
        *seen,
        "## Choose the axes" if card.several else "## Move along the front",
        f'```{{raw}} html\n<p><a href="{source}">Open the {page.removesuffix(".html")} by itself</a></p>\n'
        f'<iframe class="report" src="{source}" title="Report of {card.name}" loading="lazy"></iframe>\n```',
        "## What it cost, and on what",
        *cost,
        _provenance(card),
    ]


def _of_one_run(card: Card) -> tuple[list[str], list[str]]:
    """Return what a run shows, and what it cost."""
    (results, manifest) = card.runs[0]
    times = manifest["times"]
    whole = tables.solutions(results, times)
    titles = [column.head for column in whole.columns]
    kept = [titles.index(head) for head in SHOWN if head in titles]
    shown = Table(
        whole.title, [whole.columns[i] for i in kept], [[row[i] for i in kept] for row in whole.rows], whole.ids
    )
    seen = [
        plain(verdict(results)),
        f"![The same images under every solution of {card.name}]({card.name}/montage.png)",
        _front(card, "front.png"),
        _wide(table(shown)),
        MEANING,
    ]
    if audits := tables.audits(results):
        seen += ["## Audits", f"{tables.AUDITING} [Audits](../audits.md) has how each one works."]
    for audit in audits:
        heading, *rest = titled(audit)
        seen += [heading, _wide(*rest)]
    spent = ", ".join(f"{id_} {seconds:.0f} s" for id_, seconds in times.items())
    return seen, [f"{_minutes(card.seconds)} for all solutions on {_device(card)}: {spent}; evaluation comes on top."]


def _of_several(card: Card) -> tuple[list[str], list[str]]:
    """Return what all runs show together, and what they cost."""
    found = compare(gather(map(Sealed.measured, places(card.folder))))
    grids = {grid.id: grid for grid in comparison.grids(found)}
    seen = [
        plain(comparison.verdict(found)),
        plain(comparison.seeds(found)),
        f"![Inputs and outputs of {card.name}]({card.name}/strip.png)",
        f"{ORDER} Of the first of them; the pictures of all methods stand in the comparison below.",
        _front(card, "comparison.png"),
    ]
    for id_ in ("hypervolume", "solutions", "scores-truth", *(id_ for id_ in grids if id_.startswith("audit-"))):
        if id_ in grids:
            seen += [f"### {plain(grids[id_].title)}", _grid(grids[id_])]
    cost = f"{_minutes(card.seconds)} for all solutions of {len(card.runs)} {card.beside} on {_device(card)}"
    return [*seen, MEANING], [f"{cost}; evaluation comes on top.", _grid(grids["cost"])]


def _front(card: Card, picture: str) -> str:
    said = f"Front of {card.name}: forget loss f1 and retain loss f2 of every solution"
    return f":::{{container}} front\n![{said}]({card.name}/{picture})\n:::"


def _grid(grid: comparison.Grid) -> str:
    shown = grid.text()
    return _wide(plain(grid.said), table(shown), "\n".join(f"- {plain(note)}" for note in shown.notes))


def _wide(*blocks: str) -> str:
    return ":::{container} wide\n" + "\n\n".join(filter(None, blocks)) + "\n:::"


def _planned(card: Card, plans: Path) -> list[str]:
    if card.needs:
        why = "This recipe needs a GPU and data that the project cannot ship, so there are no pictures of it here."
    else:
        why = "No run of this recipe has been added to the gallery yet; the command above makes one."
    return [f":::{{note}}\n{why}\n:::", "## The plan", "What `unlearnkit plan` says where neither weights nor data are "
            "at hand, or before a run:", f"```text\n{plan(card, plans)}\n```"]  # fmt: skip


def plan(card: Card, plans: Path) -> str:
    """Return the recipe's plan on a CPU, without this machine's paths; kept as long as recipe and code are the same."""
    digest = hashlib.sha256(card.path.read_bytes())
    for source in sorted([*ROOT.glob("unlearnkit/**/*.py"), *ROOT.glob("plugins/*/unlearnkit_*/**/*.py")]):
        digest.update(source.read_bytes())
    kept = plans / f"{digest.hexdigest()}.txt"
    if not kept.is_file():
        plans.mkdir(parents=True, exist_ok=True)
        recipe = load(card.path, discover(), ("training.device=cpu",)).recipe
        assert isinstance(recipe, Recipe)
        kept.write_text("\n".join(lines(describe(recipe, card.path.parent))).replace(f"{card.path.parent}/", ""))
    return kept.read_text()


def _preface(card: Card) -> str:
    said = [line[2:] for line in card.path.read_text().splitlines() if line.startswith("# ")]
    text = plain(" ".join(line for line in said if not line.startswith("yaml-language-server")))
    return re.sub(r"docs/([\w-]+)\.md", r"[\1](../\1.md)", text)


def _facts(card: Card) -> str:
    data, sets = card.recipe.data, card.results["sets"] if card.results else {}
    rows = [("model", f"{card.family}: `{card.recipe.model.kind}`, trains {card.recipe.model.part}"),
            ("task", plain(label(card.recipe.task))), ("method", "; ".join(card.methods))]  # fmt: skip
    over = {key: plain(" or ".join(map(vary.said, values))) for key, values in (card.recipe.vary or {}).items()}
    rows = [row for row in rows if row[0] not in over] + list(over.items())
    for name, selection in (("forget", data.forget), ("retain", data.retain)):
        chosen = plain(", ".join(selection.classes or []) or label(selection).strip() or "the rest of the source")
        counts = sets.get(name)
        told = f"; {counts['train']} training and {counts['validation']} validation images" if counts else ""
        rows.append((f"{name} set", f"{chosen}{told}"))
    weights = card.recipe.model.weights or "none: the model starts untrained"
    rows.append(("weights", f"`{weights}`, " + card.needs.get("weights", "Apache-2.0, travel with the project")))
    rows.append(("data", card.needs.get("data") or _licence(card)))
    rows += [("hardware", card.needs["hardware"])] if "hardware" in card.needs else []
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in rows)])


def _licence(card: Card) -> str:
    facts = card.recipe.data.source.open(card.path.parent).describe()
    return plain("; ".join(str(facts[key]) for key in ("title", "licence", "attribution") if key in facts))


def _provenance(card: Card) -> str:
    packages = card.manifest["packages"]
    software = ", ".join(f"{name} {version}" for name, version in packages.items())
    plugins = {p["package"]: p["version"] for p in card.manifest["plugins"]}
    brought = ", ".join(f"{name} {version}" for name, version in plugins.items())
    seeds = f"seeds {', '.join(map(str, card.recipe.seeds))}" if card.recipe.seeds else f"seed {card.recipe.seed}"
    return "\n".join([
        f"- {plain(brought)}, Python {plain(card.manifest['python'])}, {plain(software)}.",
        f"- Weights SHA-256 `{card.manifest['weights']['sha256']}`, recipe SHA-256 "
        f"`{card.manifest['recipe_sha256']}`, {seeds}.",
    ])  # fmt: skip


def _device(card: Card) -> str:
    device = card.manifest["device"]
    return f"{device['threads']} CPU thread{'s' * (device['threads'] > 1)}" if device["kind"] == "cpu" \
        else plain(str(device["name"]))  # fmt: skip


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _pretrained() -> str:
    rows = ["| recipe | model | steps | PSNR, dB | mean-colour fill, dB |", "|---|---|---|---|---|"]
    shipped = [*sorted(RECIPES.glob("weights/*/model.json")), *sorted(ROOT.glob("unlearnkit/samples/*/model.json"))]
    for path in shipped:
        facts = json.loads(path.read_text())
        figures, name = facts["figures"], path.parent.name
        rows.append(
            f"| [{name}](../recipes/pretrain/{name}.yaml) | {facts['recipe']['model']['kind']} | "
            f"{facts['recipe']['pretrain']['steps']:,} | "
            f"{figures['validation_psnr']:.2f} | {figures['mean_colour_psnr']:.2f} |"
        )
    return "\n".join(rows)


def _class(sort: str, value: str) -> str:
    """Return the class of a card under a filter; docutils would make the same of it."""
    ascii_ = value.replace("ε", "epsilon").replace("λ", "lambda").lower()
    return f"{sort}-{re.sub(r'[^a-z0-9]+', '-', ascii_).strip('-')}"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def _joined(*parts: str | Iterable[str]) -> str:
    return "\n\n".join(part if isinstance(part, str) else "\n\n".join(part) for part in parts if part) + "\n"
