"""`python -m benchmarks.copies`: what hashing images and looking for copies among them costs beside decoding them."""

import argparse
import hashlib
import io
import tempfile
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import ratio, timed
from unlearnkit.builtin.data import Archive, Folder
from unlearnkit.data import decode
from unlearnkit.data.likeness import alike, perceptual
from unlearnkit.data.sets import copies
from unlearnkit.weights import sample

T = TypeVar("T")
CPU, ROUNDS = torch.device("cpu"), 20
SIDES, QUALITY, FEW, SAMPLE = (320, 240), 85, 50, "objects-64"
"""Pixels and quality of the images, one of how many is a copy of another, and the sample they are cut out of."""


def main() -> None:
    """Write images to a temporary folder, half of them to be forgotten, and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="images (20,000)")
    parser.add_argument("--size", type=int, default=64, help="pixels that a model takes (64)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), given.count)
        measure(Folder(Path(folder)), given.size)


def write(root: Path, count: int) -> None:
    """Write so many photographs, cut at random out of the sample's; of one in FEW a copy, as it is or saved again."""
    sample_of = Archive(sample(SAMPLE, "images.zip"))

    def one(number: int) -> None:
        draw = np.random.default_rng(number)
        item = sample_of.items[int(draw.integers(len(sample_of.items)))]
        image = Image.open(io.BytesIO(sample_of.bytes_of(item))).convert("RGB")
        left, top, side = draw.integers((0, 0, 32), (16, 16, 49)).tolist()
        image = image.crop((left, top, left + side, top + side)).resize(SIDES, Image.Resampling.BICUBIC)
        grain = np.asarray(image) + draw.normal(0, 4, (*SIDES[::-1], 3))
        image = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
        path = root / f"{'forget' if number % 2 else 'retain'}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=QUALITY)
        if number % (2 * FEW) == 1:
            (root / "retain").mkdir(exist_ok=True)
            (root / "retain" / f"{number}-copy.jpg").write_bytes(path.read_bytes())
            image.resize((160, 120)).save(root / "retain" / f"{number}-small.jpg", quality=QUALITY)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(count)))


def measure(source: Folder, size: int) -> None:
    """Measure and print."""
    spent: dict[str, list[float]] = defaultdict(list)
    hashes, marks = list[bytes](), list[bytes]()

    def clocked(name: str, work: Callable[[], T]) -> T:
        found, seconds = timed(work, CPU)
        spent[name].append(seconds)
        return found

    part = -(-len(source.items) // ROUNDS)
    for start in range(0, len(source.items), part):
        images = clocked("decode", partial(decode, source, source.items[start : start + part], size)).numpy()
        hashes += clocked("hash", partial(list, map(sha256, images)))
        marks += clocked("perceptual", partial(list, map(perceptual, images)))
    sets = [[row for row, item in enumerate(source.items) if item.label == name] for name in ("forget", "retain")]
    ours, theirs = ([source.items[row] for row in rows] for rows in sets)
    forgotten = {hashes[row] for row in sets[0]}
    files = clocked("files", lambda: copies(source, ours, source)(theirs))
    same = clocked("same", lambda: [row for row in sets[1] if hashes[row] in forgotten])
    look = partial(alike, *([marks[row] for row in rows] for rows in sets))
    near = clocked("near", look)
    tracemalloc.start()
    look()
    peak = tracemalloc.get_traced_memory()[1]
    print(
        f"\n{len(ours)} + {len(theirs)} images of {SIDES[0]} x {SIDES[1]} px, decoded to {size} px, {ROUNDS} rounds\n"
    )
    print("| what | ÷ decoding them | found |\n|:--|--:|--:|")
    for title, name in (("SHA-256 of the pixels of each", "hash"), ("perceptual hash of each", "perceptual")):
        middle, low, high = ratio(spent[name], spent["decode"])
        print(f"| {title} | {middle:.4f} [{low:.4f}, {high:.4f}] | |")
    titles = {"files": "copies by their files", "same": "copies by their pixels", "near": "near copies"}
    for (name, title), found in zip(titles.items(), (len(files), len(same), len(near)), strict=True):
        print(f"| {title} | {spent[name][0] / sum(spent['decode']):.4f} | {found} |")
    held = sum(map(len, hashes + marks)), peak, len(source.items) * 3 * size**2
    print("\nMiB of hashes, of the search for near copies, of the decoded images:", *(f"{n / 2**20:.1f}" for n in held))


def sha256(image: NDArray[np.uint8]) -> bytes:
    """Return the hash of an image's pixels."""
    return hashlib.sha256(image.tobytes()).digest()


if __name__ == "__main__":
    main()
