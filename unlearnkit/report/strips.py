"""The run's pictures: horizontal strips of squares, cut, embedded, and side by side."""

import base64
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageOps

from unlearnkit.report import reading
from unlearnkit.report.drawing import DPI
from unlearnkit.report.numbers import unbroken
from unlearnkit.report.shape import SETS, Results, Solution
from unlearnkit.report.shape import Strips as Paths
from unlearnkit.seal import Sealed

ROWS, SQUARE, GAP = 4, 96, 4
LOSSLESS_SIDE = 128
"""Larger squares are embedded with losses, or one page would weigh tens of megabytes."""
BRIGHTER = 4
"""How many times brighter than it is a difference is shown."""


@dataclass(frozen=True)
class Strip:
    """One row of squares: `set` is "forget" or "retain", `of` is truth, input, original or a solution's id."""

    set: str
    of: str
    label: str
    squares: list[Image.Image]

    def uri(self, index: int) -> str:
        """Return one square as a data: URI."""
        square = self.squares[index]
        return _uri(square, lossless=square.width <= LOSSLESS_SIDE, quality=90)

    def light(self, index: int) -> str:
        """Return one square as a data: URI of a fifth of the bytes, for what there are many of."""
        return _uri(self.squares[index], lossless=False, quality=80)


def _uri(square: Image.Image, *, lossless: bool, quality: int) -> str:
    data = BytesIO()
    square.save(data, "webp", lossless=lossless, quality=quality, method=6)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def explored(strips: Sequence[Strip], shown: Solution) -> dict[str, list[Strip]]:
    """Return by set the rows that the page opens with: from the truth to a solution, and what that one changed."""
    found: dict[str, list[Strip]] = {}
    for of in dict.fromkeys(strip.set for strip in strips):
        rows = {strip.of: strip for strip in strips if strip.set == of}
        found[of] = [rows[key] for key in ("truth", "input", "original") if key in rows]
        if now := rows.get(shown["id"]):
            found[of].append(replace(now, of="now"))
            if before := rows.get("original"):
                pairs = zip(before.squares, now.squares, strict=True)
                squares = [ImageChops.difference(*pair).point(lambda v: BRIGHTER * v) for pair in pairs]
                found[of].append(Strip(of, "difference", f"difference from the original, ×\u00a0{BRIGHTER}", squares))
    return found


def read(run: Sealed, results: Results) -> tuple[list[Strip], list[str]]:
    """Cut the strips of all models; say which are no images. Raise `UserError` for one that has changed."""
    labels = {"truth": "truth", "input": "input"} | {s["id"]: s["label"] for s in reading.shown(results)}

    def paths(its: Paths) -> Mapping[str, str]:
        return {"truth": its["truth"], "input": its["input"], "original": its["original"], **its["solutions"]}

    return _read(run, results, labels, paths)


def between(run: Sealed, results: Results) -> tuple[list[Strip], list[str]]:
    """Cut the strips of the dial's stops; say which are no images. Raise `UserError` for one that has changed."""
    return _read(run, results, {s["id"]: s["label"] for s in reading.stops(results)}, lambda its: its.get("dial", {}))


def _read(
    run: Sealed, results: Results, labels: Mapping[str, str], paths_of: Callable[[Paths], Mapping[str, str]]
) -> tuple[list[Strip], list[str]]:
    strips, missing = list[Strip](), list[str]()
    if not (images := results.get("images")):
        return strips, missing
    for of, paths in ((of, paths_of(images[of])) for of in SETS if of in images):
        for key in (key for key in labels if key in paths):
            data = run.read(paths[key])
            try:
                strips.append(Strip(of, key, labels[key], _cut(data, images["count"])))
            except Exception:  # Pillow raises whatever it stumbles over
                missing.append(f"{paths[key]} can't be shown: not an image.")
    return strips, missing


def _cut(data: bytes, count: int) -> list[Image.Image]:
    with Image.open(BytesIO(data), formats=["PNG"]) as opened:
        strip = opened.convert("RGB")
    side = strip.width // count
    return [strip.crop((i * side, 0, (i + 1) * side, strip.height)) for i in range(count)]


def montage(strips: Sequence[Strip]) -> Figure | None:
    """Return every solution's pictures side by side, or None without any."""
    if not strips:
        return None
    columns = {s.of: s.label for s in strips}
    pitch, between, count = SQUARE + GAP, 4 * GAP, min(ROWS, len(strips[0].squares))
    half = count * pitch
    width, height = len(columns) * pitch - GAP, 2 * half - GAP + between
    sheet = Image.new("RGB", (width, height), "white")
    for strip in strips:
        x, top = list(columns).index(strip.of) * pitch, (half + between) * (strip.set == "retain")
        for i, square in enumerate(strip.squares[:count]):
            shown = ImageOps.contain(square, (SQUARE, SQUARE), Image.Resampling.BICUBIC)
            sheet.paste(shown, (x + (SQUARE - shown.width) // 2, top + i * pitch + (SQUARE - shown.height) // 2))
    labels = [textwrap.fill(unbroken(label), 14) for label in columns.values()]
    left, top = 30, 10 + 17 * max(label.count("\n") + 1 for label in labels)
    plot = Figure(figsize=((width + left) / DPI, (height + top) / DPI))
    axes = plot.add_axes((left / (width + left), 0, width / (width + left), height / (height + top)))
    axes.imshow(sheet, interpolation="none", aspect="auto")
    axes.axis("off")
    for x, label in enumerate(labels):
        axes.text(x * pitch + SQUARE / 2, -6, label, ha="center", va="bottom", size=6)
    for words, middle in (("forget set", half / 2), ("retain set", half * 1.5 + between)):
        axes.text(-8, middle, words, ha="right", va="center", rotation=90, size=8)
    return plot
