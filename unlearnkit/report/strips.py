"""The run's pictures: horizontal strips of squares, cut and embedded."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from unlearnkit.report import results as shape
from unlearnkit.report.results import Results

LOSSLESS_SIDE = 128
"""Larger squares are embedded as WebP, or one page would weigh tens of megabytes."""


@dataclass(frozen=True)
class Strip:
    """One row of squares: `set` is "forget" or "retain", `of` is truth, input, original or a solution's id."""

    set: str
    of: str
    label: str
    squares: list[Image.Image]

    def uri(self, index: int) -> str:
        """Return one square as a data: URI."""
        square, data = self.squares[index], BytesIO()
        if square.width <= LOSSLESS_SIDE:
            kind = "png"
            square.save(data, kind, optimize=True)
        else:
            kind = "webp"
            square.save(data, kind, quality=90)
        return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def read(run: Path, results: Results) -> tuple[list[Strip], list[str]]:
    """Cut all strips, in the slider's order; say which can't be shown."""
    images = results.get("images")
    if not images:
        return [], []
    found, missing = [], []
    solutions = [*shape.stops(results)[1:], *shape.others(results)]
    for of in (of for of in shape.SETS if of in images):
        paths = images[of]
        rows = [("truth", "truth", paths["truth"]), ("input", "input", paths["input"])]
        rows += [("original", "original model", paths["original"])]
        rows += [(s["id"], s["label"], paths["solutions"][s["id"]]) for s in solutions if s["id"] in paths["solutions"]]
        for key, label, path in rows:
            try:
                found.append(Strip(of, key, label, _cut(run / path, images["count"])))
            except (OSError, UnidentifiedImageError) as error:
                missing.append(f"{path} can't be shown: {getattr(error, 'strerror', None) or 'not an image'}.")
    return found, missing


def _cut(path: Path, count: int) -> list[Image.Image]:
    with Image.open(path) as opened:
        strip = opened.convert("RGB")
    side = strip.width // count
    return [strip.crop((i * side, 0, (i + 1) * side, strip.height)) for i in range(count)]
