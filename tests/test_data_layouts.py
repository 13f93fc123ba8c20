"""Published layouts of folders, each as a miniature tree: the classes and splits that are read of it."""

import csv
import json
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from unlearnkit.builtin.data.sections import Cifar10, ImageFolder, Manifest, Places365, Poisoned
from unlearnkit.data import split
from unlearnkit.errors import UserError
from unlearnkit.recipe.data import Data, Selection
from unlearnkit.testing.checks import check_data

SYNSETS = {
    "n01440764": "tench, Tinca tinca",
    "n01443537": "goldfish, Carassius auratus",
    "n02012849": "crane",
    "n03126707": "crane",
}
NUMBERS = {"n01440764": 449, "n01443537": 442, "n02012849": 3, "n03126707": 700, "n00001740": 1001}
"""The devkit's numbers, in another order than the names, with a synset above the classes."""


def grown(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([number, len(names)]).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "JPEG", quality=95)
    return root


def train(root: Path, count: int = 2) -> Path:
    names = [f"train/{synset}/{synset}_{number}.JPEG" for synset in SYNSETS for number in range(count)]
    return grown(root, *names)


def flat(root: Path) -> Path:
    return grown(train(root), *(f"val/ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 5)))


def folder(root: Path) -> ImageFolder:
    return ImageFolder(kind="image-folder", root=str(root))


def validation(root: Path) -> list[str]:
    check_data(folder(root), Path())
    return [item.label for item in folder(root).open(Path()).items if item.split == "validation"]


def meta(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object)]
    rows = [(number, synset, SYNSETS.get(synset, "entity"), "what it is") for synset, number in NUMBERS.items()]
    savemat(path, {"synsets": np.array(rows, dtype=dtype).reshape(-1, 1)})


@pytest.mark.parametrize("place", [".", "ILSVRC2012_devkit_t12/data", "devkit/data", "../ILSVRC2012_devkit_t12/data"])
def test_imagenets_devkit_gives_the_classes_of_flat_validation_images(tmp_path, place):
    root = flat(tmp_path / "up" / "in")
    meta(root / place / "meta.mat")
    order = ("n01443537", "n01440764", "n03126707", "n01440764")
    truth = root / place / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{NUMBERS[synset]}\n" for synset in order))
    assert validation(root) == [*order]
    assert folder(root).open(Path()).labels == set(SYNSETS)
    assert folder(root).open(Path()).called("goldfish") == ["n01443537"]
    (root / place / "meta.mat").write_bytes(b"no matrix")
    with pytest.raises(UserError, match=r"meta\.mat has no synsets of ImageNet"):
        folder(root).open(Path())
    (root / place / "meta.mat").unlink()
    with pytest.raises(
        UserError, match=r"numbers classes as meta\.mat or map_clsloc\.txt of the devkit says, which is"
    ):
        folder(root).open(Path())
    lines = (f"{synset} {number} {SYNSETS.get(synset, 'x').split(',')[0]}\n" for synset, number in NUMBERS.items())
    (root / place / "map_clsloc.txt").write_text("".join(lines))
    assert validation(root) == [*order]
    truth.write_text(f"{NUMBERS[order[0]]}\n")
    with pytest.raises(UserError, match="val has 3 loose images, such as ILSVRC2012_val_00000002\\.JPEG"):
        folder(root).open(Path())


def test_kaggles_imagenet(tmp_path):
    root = flat(tmp_path / "ILSVRC" / "Data" / "CLS-LOC")
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{synset} {SYNSETS[synset]}\n" for synset in SYNSETS))
    lines = [f"ILSVRC2012_val_{n:08},{synset} 1 2 3 4\n" for n, synset in enumerate(SYNSETS, 1)]
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(lines))
    assert validation(root) == [*SYNSETS]
    assert folder(root).open(Path()).called("Tinca tinca") == ["n01440764"]


def chosen(root: Path, forget: list[str], retain: list[str] | None) -> list[tuple]:
    data = Data(source=folder(root), forget=Selection(classes=forget), retain=Selection(classes=retain))
    return [(part.classes, part.train, part.validation) for part in split(data, root, 0)]


@pytest.mark.parametrize("list_of", ["LOC_synset_mapping.txt", "../synset_words.txt", "meta/synset_words.txt"])
@pytest.mark.parametrize("root", ["in", "in/train"])
def test_a_recipe_may_say_what_a_synset_is_called(tmp_path, list_of, root):
    root = train(tmp_path / "in", 4) and tmp_path / root
    path = tmp_path / "in" / list_of
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{synset} {words}\n" for synset, words in SYNSETS.items()))
    wanted = chosen(root, ["n01440764"], ["n01443537"])
    for name in ("tench", "Tinca tinca", "tench, Tinca tinca", "Tinca_tinca"):
        assert chosen(root, [name], ["goldfish"]) == wanted
    assert chosen(root, ["tench", "n01440764"], ["goldfish"]) == wanted
    assert [item.label for item in wanted[0][1]] == ["n01440764"] * 3
    assert len(chosen(root, ["tench"], None)[1][0]) == 3
    with pytest.raises(UserError, match=r"data.forget.classes: 'crane' is a name of n02012849 and of n03126707; give"):
        chosen(root, ["crane"], None)
    with pytest.raises(UserError, match=r"\['n01440764'\] is in the forget set and in the retain set"):
        chosen(root, ["n01440764"], ["tench"])
    with pytest.raises(UserError, match="unknown class 'tencj'"):
        chosen(root, ["tencj"], None)
    poisoned = Poisoned(kind="poisoned", source=folder(root), classes=["tench"]).open(Path())
    assert {item.label for item in poisoned.items if item.columns["poisoned"] == "yes"} == {"n01440764"}


EASY = [f"{half}/{label}/0000000{number}.jpg" for half in ("train", "val") for number in (1, 2)
        for label in ("airfield", "apartment_building-outdoor")]  # fmt: skip


@pytest.mark.parametrize("above", ["", "places365_standard"])
def test_places365s_easy_format(tmp_path, above):
    root = grown(tmp_path / "places" / above, *EASY)
    (root / "train.txt").write_text("\n".join(EASY[:4]))
    for section in (Places365(kind="places365", root=str(tmp_path / "places")), folder(root)):
        check_data(section, Path())
        images = section.open(Path())
        assert images.labels == {"airfield", "apartment_building-outdoor"}
        assert {item.key.split("/")[0]: item.split for item in images.items} == {"train": "train", "val": "validation"}
    images = Places365(kind="places365", root=str(tmp_path / "places")).open(Path())
    assert images.called("apartment_building/outdoor") == ["apartment_building-outdoor"]
    assert images.describe()["name"] == "Places365-Standard"


@pytest.mark.parametrize("halves", [[""], ["train/", "val/"]])
@pytest.mark.parametrize("linked", ["one", "all", "halves"])
def test_folders_of_classes_may_be_links(tmp_path, halves, linked):
    names = [f"{half}{label}/{number}.png" for half in halves for label in ("cat", "dog") for number in (1, 2)]
    direct = grown(tmp_path / "direct", *names)
    root = tmp_path / "in"
    for half in halves:
        if linked == "halves":
            root.mkdir(exist_ok=True)
            for found in [direct / half] if half else sorted(direct.iterdir()):
                (root / found.name).symlink_to(found)
            continue
        for label in ("cat", "dog"):
            (root / half).mkdir(parents=True, exist_ok=True)
            if linked == "all" or label == "dog":
                (root / half / label).symlink_to(direct / half / label)
            else:
                (direct / half / label).rename(root / half / label)
    found = folder(root).open(Path())
    assert [item.key for item in found.items] == sorted(names)
    assert found.labels == {"cat", "dog"}


@pytest.mark.parametrize("form", [",", ";", "\t", "array", "lines"])
def test_manifests_of_every_form_say_the_same(tmp_path, form):
    keys = ["a/one, two; three.png", "b/é\u0301 .x.png", "c/plain.png"]
    grown(tmp_path, *keys)
    rows = [{"file": key, "label": key[0], "split": half, "who": 'a "b"; c, d'}
            for key, half in zip(keys, ("train", "Validation", "test"), strict=True)]  # fmt: skip
    path = tmp_path / "list.txt"
    if len(form) == 1:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0], delimiter=form)
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text(json.dumps(rows, indent=1) if form == "array" else "\n".join(map(json.dumps, rows)))
    images = Manifest(kind="manifest", path=str(path)).open(Path())
    assert [(item.key, item.label, item.split) for item in images.items] == [
        (keys[0], "a", "train"), (keys[1], "b", "validation"),
    ]  # fmt: skip
    assert {item.columns["who"] for item in images.items} == {'a "b"; c, d'}
    composed = Selection(files="keys.txt")
    (tmp_path / "keys.txt").write_text(unicodedata.normalize("NFC", keys[0]))
    data = Data(source=Manifest(kind="manifest", path=str(path), split="none"), forget=composed, retain=Selection())
    with pytest.raises(UserError, match="nothing in the column 'none'"):
        split(data, tmp_path, 0)


CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}


def cifar10(root: Path) -> Cifar10:
    """Write CIFAR-10 of two images a batch below `root`: pickled, binary, and as folders of PNG files."""
    for name in ("cifar-10-batches-py", "cifar-10-batches-bin"):
        (root / name).mkdir(parents=True)
    pickled, binary = root / "cifar-10-batches-py", root / "cifar-10-batches-bin"
    for number, (name, half) in enumerate(BATCHES.items()):
        labels = [number, 9]
        planes = np.random.default_rng(number).integers(0, 256, (2, 3 * 32 * 32), dtype=np.uint8)
        (pickled / name).write_bytes(pickle.dumps({"data": planes, "labels": labels}))
        rows = (bytes([label]) + row.tobytes() for label, row in zip(labels, planes, strict=True))
        (binary / f"{name}.bin").write_bytes(b"".join(rows))
        for label, row in zip(labels, planes, strict=True):
            path = root / "folders" / half / CIFAR[label] / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(row.reshape(3, 32, 32).transpose(1, 2, 0)).save(path)
    (pickled / "batches.meta").write_bytes(pickle.dumps({"label_names": [*CIFAR]}))
    (binary / "batches.meta.txt").write_text("\n".join(CIFAR) + "\n\n")
    return Cifar10(kind="cifar10", root=str(root))


def test_cifar10_is_the_same_in_each_of_its_layouts(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
    section = cifar10(tmp_path)
    check_data(section, Path())
    binary = section.open(Path())
    (tmp_path / "cifar-10-batches-bin").rename(tmp_path / "elsewhere")
    pickled, folders = section.open(Path()), folder(tmp_path / "folders").open(Path())
    assert binary.items == pickled.items
    assert binary.labels == pickled.labels == {*CIFAR}
    assert [item.split for item in binary.items] == ["validation"] * 2 + ["train"] * 10
    for item in binary.items:
        assert torch.equal(binary.read(item, 32), pickled.read(item, 32))
        assert binary.origin(item) == pickled.origin(item)

    def shown(images):
        return sorted((item.split, item.label, images.read(item, 32).numpy().tobytes()) for item in images.items)

    assert shown(folders) == shown(binary)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_3.bin", None, r"No such file or directory: '.*data_batch_3\.bin'"),
        ("batches.meta.txt", None, r"No such file or directory: '.*batches\.meta\.txt'"),
        ("test_batch.bin", bytes(3073 + 3072), "test_batch.bin has 6,145 bytes, which are no whole images of 3,073"),
        ("data_batch_5.bin", b"", "data_batch_5.bin has 0 bytes, which are no whole images of 3,073"),
        ("data_batch_1.bin", b"\n" + bytes(3072), "data_batch_1.bin has the label 10, but batches.meta.txt 10 classes"),
    ],
)
def test_what_is_wrong_with_binary_cifar10_is_told(tmp_path, file, content, message):
    section, path = cifar10(tmp_path), tmp_path / "cifar-10-batches-bin" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=rf"no complete CIFAR-10 \(.*{message}\); put the unpacked folder"):
        section.open(Path())
