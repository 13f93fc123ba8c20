"""Every data source on small files of its real layout: the contract, what each image is, and clear messages."""

import csv
import io
import json
import pickle
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlearnkit import disk
from unlearnkit.builtin.data.sections import Cifar10, HuggingFace, ImageFolder, Manifest, Places365, Stl10, WebDataset
from unlearnkit.contracts import Item
from unlearnkit.data import memo
from unlearnkit.data.sets import unsplit
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.data import PerClass
from unlearnkit.recipe.pretraining import Source
from unlearnkit.recipe.validate import load
from unlearnkit.testing.checks import check_data

ROOT = Path(__file__).parents[1]


def pixels(number: int, size: int = 20) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (size, size, 3), dtype=np.uint8)


def png(number: int, size: int = 20) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(number, size)).save(stream, "PNG")
    return stream.getvalue()


def written(path: Path, number: int, size: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number, size))
    return path


def chw(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def refusal(section, base: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        section.open(base)
    return caught.value


# image-folder


@pytest.mark.parametrize("held_back", ["validation", "val"])
def test_a_folder_with_halves_fixes_the_split(tmp_path, held_back):
    for half in ("train", held_back, "test"):
        written(tmp_path / "in" / half / "n02123045" / "a.png", 1)
    written(tmp_path / "in" / "train" / "n02123046" / "b.png", 2)
    section = ImageFolder(kind="image-folder", root="in")
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert images.labels == {"n02123045", "n02123046"}
    assert {item.key: item.split for item in images.items} == {
        "train/n02123045/a.png": "train",
        "train/n02123046/b.png": "train",
        f"{held_back}/n02123045/a.png": "validation",
    }


def test_a_class_may_be_called_train(tmp_path):
    written(tmp_path / "in" / "train" / "a.png", 1)
    written(tmp_path / "in" / "bus" / "b.png", 2)
    images = ImageFolder(kind="image-folder", root="in").open(tmp_path)
    assert [(item.label, item.split) for item in images.items] == [("bus", None), ("train", None)]


# manifest


def manifest(folder: Path, lines: str, name: str = "list.csv") -> Manifest:
    for number in range(4):
        written(folder / "files" / f"{number}.png", number)
    (folder / "files" / name).write_text(lines)
    return Manifest(kind="manifest", path=f"files/{name}")


def test_a_csv_manifest(tmp_path):
    section = manifest(
        tmp_path,
        'file,label,split,identity,year\n1.png,cat,train,"Tom, the cat",2019\n'
        "0.png,dog,val,rex,\n2.png,dog,test,rex,2\n",
    )
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert list(images.items) == [
        Item("0.png", "dog", "validation", {"label": "dog", "split": "val", "identity": "rex"}),
        Item(
            "1.png",
            "cat",
            "train",
            {"label": "cat", "split": "train", "identity": "Tom, the cat", "year": "2019"},
        ),
    ]
    assert torch.equal(images.read(images.items[1], 20), chw(pixels(1)))


def test_a_jsonl_manifest_names_its_columns(tmp_path):
    lines = ({"at": "0.png", "who": 7, "ok": True, "note": None}, {"at": "1.png", "who": "rex", "ok": False})
    manifest(tmp_path, "\n\n".join(map(json.dumps, lines)), "list.jsonl")
    section = Manifest(kind="manifest", path="files/list.jsonl", file="at", label="who")
    check_data(section, tmp_path)
    assert list(section.open(tmp_path).items) == [
        Item("0.png", "7", None, {"who": "7", "ok": "true"}),
        Item("1.png", "rex", None, {"who": "rex", "ok": "false"}),
    ]


def test_a_manifest_without_classes_has_one(tmp_path):
    images = manifest(tmp_path, "file\n0.png\n1.png\n").open(tmp_path)
    assert images.labels == {"all"}
    assert {item.split for item in images.items} == {None}


MANIFEST_MISTAKES = [
    ("file,label\n0.png,a\n9.png,a\n", "list.csv line 3: there is no file"),
    ("path,label\n0.png,a\n", "line 2: nothing in the column 'file'; The line has: path, label"),
    ("fil,label\n0.png,a\n", "line 2: nothing in the column 'file'; did you mean 'fil'?"),
    ("file,label\n0.png\n", "line 2: expected 2 columns, as line 1 has"),
    ("file,label\n0.png,a,b\n", "line 2: expected 2 columns, as line 1 has"),
    ("file,label\n0.png,a\n1.png,\n", "line 3: nothing in the column 'label'"),
    ('file,label\n0.png,a\n"1.png,b\n', "no CSV"),
    ("file,label\n0.png,a\n1.png,a\n0.png,b\n", "line 4: '0.png' is on line 2 already; remove one of them"),
    ("file,label\n0.png,a\n1.png,a\n./0.png,b\n", "line 4: './0.png' is on line 2 already; remove one of them"),
    ("file,split\n0.png,trian\n", "line 2: 'trian' is no split; write train, validation or test"),
    ("file,split\n0.png,train\n1.png,\n", "line 3: nothing in the column 'split'"),
    ("file,label\n", "lists no images"),
]


@pytest.mark.parametrize(("lines", "message"), MANIFEST_MISTAKES)
def test_a_mistake_in_a_manifest_has_its_line(tmp_path, lines, message):
    error = refusal(manifest(tmp_path, lines), tmp_path)
    assert error.code == Exit.RECIPE
    assert message in str(error)
    assert "list.csv" in str(error)


@pytest.mark.parametrize(("line", "message"), [("{", "no JSON"), ("[1]", "expected an object, such as")])
def test_a_mistake_in_json_lines_has_its_line(tmp_path, line, message):
    lines = json.dumps({"file": "0.png"}) + "\n" + line + "\n"
    error = str(refusal(manifest(tmp_path, lines, "list.jsonl"), tmp_path))
    assert "list.jsonl line 2: " in error
    assert message in error


def test_a_class_that_is_named_twice_is_trained_on_once(tmp_path):
    for number, label in enumerate(("e\u0301", "b")):
        (tmp_path / label).mkdir()
        Image.fromarray(pixels(number)).save(tmp_path / label / "0.png")
    own = ImageFolder(kind="image-folder", root=".")
    recipe = Source(source=own, classes=["\u00e9", "e\u0301", "b"], per_class=PerClass(train=1, validation=0))
    assert [item.label for item in unsplit(recipe, tmp_path, 0).train] == ["e\u0301", "b"]


def test_a_manifest_that_is_not_there_or_no_text(tmp_path):
    assert "there is no file" in str(refusal(Manifest(kind="manifest", path="nowhere.csv"), tmp_path))
    (tmp_path / "list.csv").write_bytes(b"file\n\xff\xfe\n")
    assert "no UTF-8 text" in str(refusal(Manifest(kind="manifest", path="list.csv"), tmp_path))


# torchvision's data sets. Their files have checksums, which made ones cannot have.

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def unchecked(monkeypatch):
    for module in ("cifar", "stl10", "places365"):
        name = f"torchvision.datasets.{module}.check_integrity"
        monkeypatch.setattr(name, lambda path, md5=None: Path(path).is_file())


def cifar(folder: Path) -> Cifar10:
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{place}" for place in range(1, 6)), "test_batch"]):
        data = np.stack([pixels(2 * number + row, 32).transpose(2, 0, 1).reshape(-1) for row in range(2)])
        (batches / name).write_bytes(pickle.dumps({"data": data, "labels": [number, 9]}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    return Cifar10(kind="cifar10", root=folder.name)


def test_cifar10(tmp_path, unchecked):
    section = cifar(tmp_path / "cifar")
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert images.labels == set(NAMES)
    assert [item.split for item in images.items] == ["validation"] * 2 + ["train"] * 10
    found = next(item for item in images.items if item.key == "train/00003")
    assert found.label == "truck"
    assert torch.equal(images.read(found, 32), chw(pixels(3, 32)))
    with pytest.raises(UserError, match="train/00003: 32 x 32 px, but the model works on 64 px"):
        images.read(found, 64)
    enlarged = section.model_copy(update={"enlarge": True}).open(tmp_path).read(found, 64)
    wanted = Image.fromarray(pixels(3, 32)).resize((64, 64), Image.Resampling.LANCZOS)
    assert torch.equal(enlarged, chw(np.array(wanted)))


def test_cifar10_is_checked(tmp_path):
    section = Cifar10(kind="cifar10", root="cifar")
    assert "put the unpacked folder cifar-10-batches-py" in str(refusal(section, tmp_path))
    cifar(tmp_path / "cifar")  # with other checksums than the real one, so that no pickle of it is read
    assert "has no complete CIFAR-10 (Dataset not found or corrupted)" in str(refusal(section, tmp_path))


def test_stl10(tmp_path, unchecked):
    section = Stl10(kind="stl10", root="stl")
    assert "put the unpacked folder stl10_binary" in str(refusal(section, tmp_path))
    folder = tmp_path / "stl" / "stl10_binary"
    folder.mkdir(parents=True)
    for half, numbers in (("train", (1, 2, 3)), ("test", (4, 5))):
        # Column by column, as the data set has it.
        np.stack([pixels(number, 96).transpose(2, 1, 0) for number in numbers]).tofile(folder / f"{half}_X.bin")
        np.array(numbers, np.uint8).tofile(folder / f"{half}_y.bin")
    for name in ("unlabeled_X.bin", "fold_indices.txt"):
        (folder / name).touch()
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n")
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert images.labels == set(NAMES)
    assert [(item.key, item.label, item.split) for item in images.items[1:3]] == [
        ("test/00001", "deer", "validation"),
        ("train/00000", "airplane", "train"),
    ]
    assert torch.equal(images.read(images.items[2], 96), chw(pixels(1, 96)))


def test_places365(tmp_path, unchecked):
    root = tmp_path / "places"
    section = Places365(kind="places365", root="places")
    assert "put categories_places365.txt" in str(refusal(section, tmp_path))
    root.mkdir()
    (root / "categories_places365.txt").write_text("/a/airfield 0\n/a/apartment_building/outdoor 1\n/z/zoo 2\n")
    (root / "places365_train_standard.txt").write_text(
        "/a/airfield/1.jpg 0\n/a/apartment_building/outdoor/1.jpg 1\n/a/airfield/2.jpg 0\n"
    )
    (root / "places365_val.txt").write_text("Places365_val_00000001.jpg 1\n")
    assert "there is no folder data_256_standard" in str(refusal(section, tmp_path))
    for number, name in enumerate(("airfield/1", "airfield/2", "apartment_building/outdoor/1")):
        written(root / "data_256_standard" / "a" / f"{name}.jpg", number)
    written(root / "val_256" / "Places365_val_00000001.jpg", 4)
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert images.labels == {"airfield", "apartment_building/outdoor", "zoo"}
    assert [(item.key, item.label, item.split) for item in images.items][2:] == [
        ("data_256_standard/a/apartment_building/outdoor/1.jpg", "apartment_building/outdoor", "train"),
        ("val_256/Places365_val_00000001.jpg", "apartment_building/outdoor", "validation"),
    ]
    assert torch.equal(images.read(images.items[3], 20), chw(pixels(4)))
    large = Places365(kind="places365", root="places", small=False)
    assert "there is no folder data_large_standard" in str(refusal(large, tmp_path))


# hugging-face


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    package = pytest.importorskip("datasets")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return package


def table(datasets, start: int, count: int = 4):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog", "yak"]),
            "who": datasets.Value("string"),
            "seen": datasets.Value("int32"),
        }
    )
    columns = {
        "image": [{"bytes": png(start + row), "path": None} for row in range(count)],
        "label": [row % 2 for row in range(count)],
        "who": [f"n{row}" for row in range(count)],
        "seen": [row or None for row in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def test_a_saved_data_set_with_halves(tmp_path, datasets):
    datasets.DatasetDict(train=table(datasets, 0), test=table(datasets, 10, 2)).save_to_disk(tmp_path / "saved")
    section = HuggingFace(kind="hugging-face", path="saved")
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert images.labels == {"cat", "dog", "yak"}
    assert [item.split for item in images.items] == ["validation"] * 2 + ["train"] * 4
    assert images.items[1] == Item("test/0000001", "dog", "validation", {"label": "dog", "who": "n1", "seen": "1"})
    assert torch.equal(images.read(images.items[1], 20), chw(pixels(11)))


def test_parquet_alone_leaves_the_split_to_the_seed(tmp_path, datasets):
    table(datasets, 0).to_parquet(tmp_path / "rows.parquet")
    section = HuggingFace(kind="hugging-face", path="rows.parquet", label="who")
    check_data(section, tmp_path)
    assert {(item.label, item.split) for item in section.open(tmp_path).items} == {
        (f"n{row}", None) for row in range(4)
    }


def test_an_image_folder_with_metadata(tmp_path, datasets):
    written(tmp_path / "pictures" / "0.png", 3)
    (tmp_path / "pictures" / "metadata.csv").write_text("file_name,who\n0.png,rex\n")
    section = HuggingFace(kind="hugging-face", path="pictures")
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert [(item.label, item.columns) for item in images.items] == [("all", {"who": "rex"})]
    assert torch.equal(images.read(images.items[0], 20), chw(pixels(3)))


def test_mistakes_about_a_data_set(tmp_path, datasets, monkeypatch):
    table(datasets, 0).save_to_disk(tmp_path / "saved")
    (tmp_path / "empty").mkdir()

    def message(**fields: str) -> str:
        return str(refusal(HuggingFace(kind="hugging-face", **fields), tmp_path))

    assert "there is no file or folder" in message(path="nowhere")
    assert "is no data set that `datasets` can read" in message(path="empty")
    assert "has no column 'picture' of images; there is: image, label" in message(path="saved", image="picture")
    assert "has no column 'clas'; there is: image, label" in message(path="saved", label="clas")
    monkeypatch.setitem(sys.modules, "datasets", None)
    error = refusal(HuggingFace(kind="hugging-face", path="saved"), tmp_path)
    assert error.code == Exit.PLUGIN
    assert "pip install 'unlearnkit[datasets]'" in str(error)


# webdataset


def shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_shards_with_classes(tmp_path):
    for number in range(2):
        members = {f"{row:03}.cls": str(row % 2).encode() for row in range(3)}
        members |= {f"{row:03}.png": png(10 * number + row) for row in range(3)}
        shard(tmp_path / "in" / f"train-{number}.tar", members)
    section = WebDataset(kind="webdataset", shards="in/train-*.tar")
    check_data(section, tmp_path)
    images = section.open(tmp_path)
    assert [(item.key, item.label, item.split) for item in images.items][-2:] == [
        ("train-1.tar/001", "1", None),
        ("train-1.tar/002", "0", None),
    ]
    assert torch.equal(images.read(images.items[4], 20), chw(pixels(11)))


def test_shards_with_fields_and_halves(tmp_path):
    fields = json.dumps({"category": "cat", "who": 3, "box": [1, 2]}).encode()
    for half in ("train", "held"):
        shard(
            tmp_path / half / "0.tar",
            {"./a/x.0.png": png(1), "./a/x.json": b"{}", "a/y.jpeg": png(2), "a/y.json": fields},
        )
    section = WebDataset(kind="webdataset", shards="train/*.tar", validation="held/*.tar", label="json.category")
    check_data(section, tmp_path)
    assert list(section.open(tmp_path).items) == [
        Item("held/0.tar/a/y", "cat", "validation", {"category": "cat", "who": "3"}),
        Item("train/0.tar/a/y", "cat", "train", {"category": "cat", "who": "3"}),
    ]


def test_a_shard_is_indexed_once_and_again_where_it_is_another(tmp_path, monkeypatch):
    monkeypatch.setenv(disk.CACHE, str(tmp_path / "memo"))
    monkeypatch.setattr(memo, "SETTLED", 0)
    section = WebDataset(kind="webdataset", shards="*.tar")
    members = {"a.png": png(1), "a.cls": "été".encode(), "a.json": json.dumps({"who": "ß"}).encode()}
    shard(tmp_path / "0.tar", members)
    first = section.open(tmp_path)
    with monkeypatch.context() as without:
        without.setattr(tarfile, "open", None)
        again = section.open(tmp_path)
    assert list(again.items) == list(first.items) == [Item("0.tar/a", "été", None, {"who": "ß"})]
    assert torch.equal(again.read(again.items[0], 20), chw(pixels(1)))
    shard(tmp_path / "0.tar", {"b.cls": b"1", "b.png": png(2)})
    (item,) = section.open(tmp_path).items
    assert item.key == "0.tar/b"


def test_samples_of_shards_without_an_image_are_told(tmp_path):
    shard(tmp_path / "0.tar", {"p0.v2.png": png(1), "p0.cls": b"1", "q.png": png(2), "q.cls": b"2"})
    images = WebDataset(kind="webdataset", shards="*.tar").open(tmp_path)
    assert [item.key for item in images.items] == ["0.tar/q"]
    assert images.notes[0].startswith("data.source: 1 of its images are not used, such as '0.tar/p0'")


def test_mistakes_about_shards(tmp_path):
    section = WebDataset(kind="webdataset", shards="*.tar")
    assert "data.source.shards: no file matches" in str(refusal(section, tmp_path))
    path = shard(tmp_path / "0.tar", {"a.png": png(1), "a.txt": b"cat"})
    assert f"{path}: there is no a.cls; say in data.source.label" in str(refusal(section, tmp_path))
    twice = WebDataset(kind="webdataset", shards="*.tar", validation="0.tar")
    assert f"data.source.validation: 1 of its files are among `shards` too, such as {path}" in str(
        refusal(twice, tmp_path)
    )
    field = WebDataset(kind="webdataset", shards="*.tar", label="json.kind")
    assert "there is no field 'kind' in a.json" in str(refusal(field, tmp_path))
    shard(path, {"a.png": png(1), "a.cls": b"1", "a.json": b"{"})
    assert "a.json is no JSON" in str(refusal(section, tmp_path))
    shard(path, {"a.png": png(1), "a.cls": b"1", "./a.png": png(2)})
    assert "./a.png is there twice" in str(refusal(section, tmp_path))
    path.write_bytes(b"no tar" * 200)
    assert f"{path}: no complete, uncompressed tar" in str(refusal(section, tmp_path))


# a plan without the data

PLANNED = """\
model: {kind: vit-mae, image_size: 16, patch_size: 4, width: 16, depth: 1, heads: 2, decoder_width: 16}
data:
  source: {kind: image-folder, root: imagenet}
  forget: {draw: 100}
  retain: {draw: 50, source: {kind: hugging-face, path: places}}
  per_class: {train: 8, validation: 4}
"""


def planned(tmp_path, unlearnkit, *overrides: str) -> dict:
    (tmp_path / "recipe.yaml").write_text(PLANNED)
    arguments = [part for override in overrides for part in ("--set", override)]
    outcome = unlearnkit("plan", tmp_path / "recipe.yaml", "--json", *arguments)
    plan = json.loads(outcome.out)
    assert outcome.code == plan["exit_code"] == (3 if plan["missing"] else 0)
    return plan


def test_a_plan_without_the_data_counts_and_says_what_is_missing(tmp_path, unlearnkit, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    plan = planned(tmp_path, unlearnkit)
    assert plan["sets"] == {
        "forget": {"train": 800, "validation": 400},
        "retain": {"train": 400, "validation": 200},
    }
    first, second = plan["missing"]
    assert f"there is no folder {tmp_path / 'imagenet'}" in first
    assert "pip install 'unlearnkit[datasets]'" in second
    assert plan["classes"] is None
    counts = planned(tmp_path, unlearnkit, "data.forget.fraction=0.5")["sets"]
    assert counts["forget"] == {"train": None, "validation": None}


def test_a_plan_lists_the_classes_and_says_what_memory_does_not_hold(tmp_path, unlearnkit):
    for label in "abcdef":
        for number in range(3):
            written(tmp_path / "imagenet" / label / f"{number}.png", 3 * ord(label) + number)
    overrides = "data.forget={draw: 2}", "data.retain={draw: 3}", "data.per_class={train: 2}"
    plan = planned(tmp_path, unlearnkit, *overrides)
    assert plan["sets"]["forget"] == {"train": 4, "validation": 0}
    assert [len(plan["classes"][name]) for name in ("forget", "retain")] == [2, 3]
    assert plan["missing"] == []
    assert plan["images"]["decoded"] == "once"
    streamed = planned(tmp_path, unlearnkit, *overrides, "data.memory_mib=0")
    assert streamed["images"]["decoded"] == "for each batch where data.memory_mib does not hold them"
    assert streamed["memory_mib"]["images"] == 0


# the document


def test_recipes_of_the_document_are_valid(tmp_path):
    recipes = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.S)
    assert recipes
    for number, recipe in enumerate(recipes):
        path = tmp_path / f"{number}.yaml"
        path.write_text(recipe)
        load(path, discover())


def test_sections_of_sources_load_no_torch():
    import subprocess

    code = "import sys, unlearnkit.builtin.data; sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_manifest_of_the_document_can_be_written(tmp_path):
    """A manifest that the csv module writes reads back as it was, whatever stands in its values."""
    written(tmp_path / 'a "b", c.png', 1)
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "who"], ['a "b", c.png', "two\nlines"]])
    (found,) = Manifest(kind="manifest", path="list.csv").open(tmp_path).items
    assert found == Item('a "b", c.png', "all", None, {"who": "two\nlines"})
