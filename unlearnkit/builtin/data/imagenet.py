"""The lists that come with ImageNet: the classes of its flat validation images, and what its synsets are called."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

import numpy as np

from unlearnkit.data.lists import nfc, read_text
from unlearnkit.errors import Exit, UserError, first_line

SOLUTION, TRUTH = "LOC_val_solution.csv", "ILSVRC*_validation_ground_truth.txt"
"""The classes of the validation images: as Kaggle gives them, by their names, and as the devkit does, by numbers."""
NUMBERS = ("meta.mat", "map_clsloc.txt")
"""The devkit's synsets by their numbers, which are in no order."""
WORDS = ("LOC_synset_mapping.txt", "synset_words.txt")
"""What synsets are called."""
INSIDE = ("", "meta/", "*devkit*/", "*devkit*/data/")


def _find(root: Path, *names: str) -> Path | None:
    """Return a list in a folder of images or up to three above, or in a folder of lists there."""
    places = (place.glob(inside + name) for place in (root, *root.parents[:3]) for name in names for inside in INSIDE)
    return next((found for place in places for found in sorted(place) if found.is_file()), None)


def validation_classes(root: Path, images: Iterable[str]) -> dict[str, str]:
    """Return the classes of flat validation images, by their names without the ending, as far as a list says them."""
    if (path := _find(root, SOLUTION)) is not None:
        lines = (line.partition(",") for line in read_text(path, "data.source.root").splitlines())
        return {name: boxes.split()[0] for name, _, boxes in lines if boxes.strip()}
    if (path := _find(root, TRUTH)) is None:
        return {}
    if (numbers := _find(path.parent, *NUMBERS)) is None:
        found = f"{path} numbers classes as {' or '.join(NUMBERS)} of the devkit says, which is not there"
        raise UserError(f"data.source.root: {found}; put it beside that file", Exit.RECIPE)
    synsets = {number: synset for number, synset, _ in _devkit(numbers)}
    classes = dict(enumerate(read_text(path, "data.source.root").split(), 1))
    places = {image: int(match[1]) for image in images if (match := re.fullmatch(r".*_val_(\d+)", image))}
    return {image: synsets[classes[place]] for image, place in places.items() if classes.get(place) in synsets}


def names(root: Path) -> Mapping[str, Set[str]]:
    """Return the synsets of each word that a list beside a folder of images has for them."""
    found = defaultdict[str, set[str]](set)
    if (path := _find(root, *WORDS)) is not None:
        lines = (line.partition(" ") for line in read_text(path, "data.source.root").splitlines())
        known = [(synset, words) for synset, _, words in lines]
    else:
        path = _find(root, *NUMBERS)
        known = [(synset, words) for _, synset, words in _devkit(path)] if path else []
    for synset, words in known:
        for word in (words, *words.split(",")):
            found[spelt(word)].add(synset)
    return found


def spelt(word: str) -> str:
    """Return what a synset is called as it is compared: in small letters, with blanks for `_`."""
    return nfc(word).casefold().replace("_", " ").strip()


def _devkit(path: Path) -> list[tuple[str, str, str]]:
    """Return number, name and words of each synset."""
    if path.suffix == ".txt":
        lines = (line.split(" ", 2) for line in read_text(path, "data.source.root").splitlines())
        return [(line[1], line[0], line[2]) for line in lines if len(line) == 3]
    from scipy.io import loadmat

    try:
        rows = np.atleast_1d(loadmat(path, squeeze_me=True)["synsets"])
        return [(str(row["ILSVRC2012_ID"]), str(row["WNID"]), str(row["words"])) for row in rows]
    except Exception as error:  # whatever a damaged file brings about
        found = f"{path} has no synsets of ImageNet ({first_line(error)})"
        raise UserError(f"data.source.root: {found}; put the devkit's there, or remove it", Exit.RECIPE) from None
