"""Images, folders and lists as people have them: right, or refused with the reason and the way out."""

import io
import json
import re
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_task import ran

from unlearnkit.builtin.data.pictures import opened, square
from unlearnkit.builtin.data.sections import ImageFolder, Manifest, Sample, WebDataset
from unlearnkit.data import decode, likeness, load_apart, split
from unlearnkit.data.likeness import alike, perceptual
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.data import Data, PerClass, Selection
from unlearnkit.recipe.validate import load

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def picture(number: int, size: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (size, size, 3), dtype=np.uint8))


def written(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number).save(path)
    return path


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def mean(data: bytes) -> float:
    image = square(lambda: opened(io.BytesIO(data)), "it", 16, enlarge=True)
    return image.float().mean().item() / 255


def folder(root: Path) -> ImageFolder:
    return ImageFolder(kind="image-folder", root=str(root))


def both(chosen) -> list:
    return [*chosen.train, *chosen.validation]


def refused(section, words: str) -> str:
    with pytest.raises(UserError, match=words) as caught:
        section.open(Path())
    return str(caught.value)


# images


def sixteen(grey: np.ndarray) -> np.ndarray:
    return (grey * 65535).round().astype(np.uint16)


def tiff12(grey: np.ndarray) -> bytes:
    """Return a TIFF of 12 bits a pixel, two pixels in three bytes."""
    one, other = (grey * 4095).round().astype(np.uint32).reshape(-1, 2).T
    packed = np.stack([one >> 4, (one & 15) << 4 | other >> 8, other & 255], 1).astype(np.uint8).tobytes()
    return tiff(packed, grey.shape, 12, 1)


def tiff(data: bytes, shape: tuple[int, int], bits: int, photometric: int) -> bytes:
    fields = [(256, shape[1]), (257, shape[0]), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1),
              (278, shape[0]), (279, len(data))]  # fmt: skip
    entries = b"".join(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + n.to_bytes(4, "little") for tag, n in fields)
    entries = entries.replace(b"\x02\x01\x04\0", b"\x02\x01\x03\0")  # bits are a short
    directory = len(fields).to_bytes(2, "little") + entries + bytes(4)
    return b"II*\0" + (8 + len(data)).to_bytes(4, "little") + data + directory


def eight(grey: np.ndarray) -> Image.Image:
    return Image.fromarray((grey * 255).round().astype(np.uint8))


MODES = {
    "1": lambda grey: encoded(eight(grey).convert("1")),
    "L": lambda grey: encoded(eight(grey)),
    "LA": lambda grey: encoded(eight(grey).convert("LA")),
    "P": lambda grey: encoded(eight(grey).convert("P")),
    "P with transparency": lambda grey: encoded(eight(grey).convert("P"), transparency=bytes(range(256))),
    "RGB": lambda grey: encoded(eight(grey).convert("RGB")),
    "RGB with transparency": lambda grey: encoded(eight(grey).convert("RGB"), transparency=(1, 2, 3)),
    "RGBA": lambda grey: encoded(eight(grey).convert("RGBA")),
    "GIF": lambda grey: encoded(eight(grey), "GIF"),
    "CMYK": lambda grey: encoded(eight(grey).convert("RGB").convert("CMYK"), "TIFF"),
    "16 bits": lambda grey: encoded(Image.fromarray(sixteen(grey))),
    "16 bits, TIFF": lambda grey: encoded(Image.fromarray(sixteen(grey)), "TIFF"),
    "16 bits, big": lambda grey: encoded(Image.frombytes(
        "I;16B", grey.shape[::-1], sixteen(grey).astype(">u2").tobytes()), "TIFF"),
    "16 bits, JPEG 2000": lambda grey: encoded(Image.fromarray(sixteen(grey)), "JPEG2000"),
    "16 bits, white is zero": lambda grey: tiff(sixteen(1 - grey).astype("<u2").tobytes(), grey.shape, 16, 0),
    "16 bits, PGM": lambda grey: b"P5 24 24 65535\n" + sixteen(grey).astype(">u2").tobytes(),
    "12 bits": tiff12,
    "float": lambda grey: encoded(Image.fromarray(grey.astype(np.float32)), "TIFF"),
}  # fmt: skip


@settings(max_examples=3, deadline=None)
@given(low=st.floats(0, 0.9), width=st.floats(0.02, 1))
@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_mode_and_depth_keeps_its_brightness(mode, low, width):
    grey = np.linspace(low, min(1, low + width), 24 * 24).reshape(24, 24)
    rounded = 0.03 if mode == "1" else 0.01
    assert mean(MODES[mode](grey)) == pytest.approx(grey.mean(), abs=rounded)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (Image.fromarray(np.arange(400, dtype=np.int32).reshape(20, 20)), "32 bits or signs.*save it with 8 or 16"),
        (Image.fromarray(np.full((20, 20), 127.0, np.float32)), "decimal numbers outside 0 to 1.*save it with 8"),
        (Image.fromarray(np.full((20, 20), np.nan, np.float32)), "decimal numbers outside 0 to 1"),
    ],
)
def test_what_nobody_can_scale_is_refused_by_name(image, words):
    with pytest.raises(UserError, match=f"it: not a readable image .*{words}"):
        mean(encoded(image, "TIFF"))


def test_grey_images_alone_can_be_forgotten(tiny, tmp_path):
    for path in (tiny.parent / "pictures").rglob("*.png"):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path)
    run = ran(tiny, tmp_path / "run", "epsilons.fractions=[1]")
    assert (run / "results.json").exists()


# hidden files, links and splits


@FEW
@given(st.lists(st.sampled_from(["a", "b", ".x", "._y", ".ipynb_checkpoints", "__MACOSX"]), min_size=1, max_size=3))
def test_hidden_things_are_skipped_at_every_depth(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("in")
    for number, label in enumerate(("cat", "dog")):
        written(root / label / "0.png", number)
        (root / label / "Thumbs.db").write_bytes(b"x")
        (root / label / "._0.png").write_bytes(b"no image")
    added = written(root.joinpath("cat", *parts, "1.png"), 3).relative_to(root).as_posix()
    shown = {"a", "b"}.issuperset(parts)
    files = {"cat/0.png", "dog/0.png"} | ({added} if shown else set())
    assert {item.key for item in folder(root).open(Path()).items} == files
    (root / "list.csv").write_text(f"file\ncat/0.png\ndog/0.png\n{added}\ncat/._0.png\n")
    assert {item.key for item in Manifest(kind="manifest", path=str(root / "list.csv")).open(Path()).items} == files
    with tarfile.open(root / "shard.tar", "w") as archive:
        for number, name in enumerate(("cat/0", added.removesuffix(".png"), "cat/._0")):
            for ending, content in ((".png", encoded(picture(number))), (".cls", b"cat")):
                info = tarfile.TarInfo(name + ending)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    shards = WebDataset(kind="webdataset", shards=str(root / "*.tar")).open(Path())
    assert len(shards.items) == 1 + shown


def test_folders_that_are_links_are_read_once(tmp_path):
    written(tmp_path / "elsewhere" / "0.png", 1)
    written(tmp_path / "in" / "cat" / "0.png", 2)
    (tmp_path / "in" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "cat" / "loop").symlink_to(tmp_path / "in")
    assert [item.key for item in folder(tmp_path / "in").open(Path()).items] == ["cat/0.png", "dog/0.png"]


@pytest.mark.parametrize(
    ("names", "halves"),
    [
        (["train", "test"], {"train": "train", "test": "validation"}),
        (["Training", "Validation"], {"Training": "train", "Validation": "validation"}),
        (["train", "valid", "test"], {"train": "train", "valid": "validation"}),
        (["TRAIN", "dev", "testing"], {"TRAIN": "train", "dev": "validation"}),
        (["train", "val", "notes"], {"train": "train", "val": "validation"}),
        (["train"], {"train": None}),
    ],
)
def test_usual_names_are_splits_and_no_classes(tmp_path, names, halves):
    for number, (half, label) in enumerate((half, label) for half in names for label in ("cat", "dog")):
        written(tmp_path / half / label / "0.png", number)
    images = folder(tmp_path).open(Path())
    assert images.labels == {"cat", "dog"}
    assert {item.key.split("/")[0]: item.split for item in images.items} == halves


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/cat/0.png", "dog/0.png"], "has train, which is a name of a split, beside dog; take them apart"),
        (["test/0.png", "cat/0.png", "dog/0.png"], "has test, which is a name of a split, beside cat, dog"),
        (["val/cat/0.png", "test/cat/0.png"], "has the splits test, val; expected one for train"),
        (["train/cat/0.png", "training/cat/0.png", "val/cat/0.png"], "has the splits train, training, val"),
        (["train/0.png", "test/0.png"], "train has 1 loose images, such as 0.png, and no class folders; sort them"),
    ],
)
def test_where_nobody_can_tell_splits_from_classes_it_is_said(tmp_path, files, words):
    for number, name in enumerate(files):
        written(tmp_path / name, number)
    refused(folder(tmp_path), words)


def test_imagenets_flat_validation_images_have_their_classes_from_the_list_beside_them(tmp_path):
    written(tmp_path / "train" / "n01440764" / "0.png", 1)
    for number in (1, 2):
        written(tmp_path / "val" / f"ILSVRC2012_val_{number:08}.png", number + 1)
    refused(folder(tmp_path), "val has 2 loose images, such as .* put LOC_val_solution.csv beside val")
    told = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4 \nILSVRC2012_val_00000002,n2 1 2 3 4\n"
    (tmp_path / "LOC_val_solution.csv").write_text(told)
    found = [(item.label, item.split) for item in folder(tmp_path).open(Path()).items]
    assert found == [("n01440764", "train"), ("n01440764", "validation"), ("n2", "validation")]


# lists and manifests

ACCENTED = unicodedata.normalize("NFD", "cafés")


@FEW
@given(
    st.sampled_from([",", ";", "\t", "array", "lines"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["/", "\\"]),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from(["", " "]),
)
def test_a_manifest_says_the_same_however_it_was_saved(tmp_path_factory, form, encoding, slash, letters, blank):
    root = tmp_path_factory.mktemp("in")
    for number in range(2):
        written(root / ACCENTED / f"{number}.png", number)
    keys = [unicodedata.normalize(letters, f"{ACCENTED}{slash}{number}.png") for number in range(2)]
    rows = [{"file" + blank: blank + key + blank, blank + "label": blank + "cat"} for key in keys]
    if len(form) == 1:
        text = "\r\n".join(form.join(line) for line in (rows[0], *(row.values() for row in rows)))
    else:
        text = json.dumps(rows, indent=1) if form == "array" else "\n".join(map(json.dumps, rows))
    (root / "list.csv").write_bytes(text.encode(encoding))
    found = Manifest(kind="manifest", path=str(root / "list.csv")).open(Path()).items
    assert [(item.key, item.label) for item in found] == [(f"{ACCENTED}/{number}.png", "cat") for number in range(2)]


def test_all_that_is_wrong_in_a_list_is_told_at_once(tmp_path):
    for number in range(2):
        written(tmp_path / "watch" / f"{number}.png", number)
    written(tmp_path / "faces" / "0.png", 3)
    (tmp_path / "list.csv").write_text("file,label\nwatch/0.png\nWatch/1.png,a\nwatch/1.png,\n" + "x.png,a\n" * 30)
    told = refused(Manifest(kind="manifest", path=str(tmp_path / "list.csv")), "line 2: expected 2 columns").split("\n")
    assert "line 3: there is no file" in told[1]
    assert told[1].endswith("did you mean 'watch'?")
    assert "line 4: nothing in the column 'label'" in told[2]
    assert told[20:] == ["and 13 more such lines"]
    (tmp_path / "keys.txt").write_text("Watch/0.png\nfaces/0.png\nhere/1.png\n")
    data = Data(source=folder(tmp_path), forget=Selection(files="keys.txt"), retain=Selection())
    with pytest.raises(UserError) as caught:
        split(data, tmp_path, 0)
    first, second = str(caught.value).split("\n")
    assert first.endswith("line 1: the source has no image 'Watch/0.png'; did you mean 'watch/0.png'?")
    assert second.endswith("line 3: the source has no image 'here/1.png'; did you mean 'watch/1.png'?")


@pytest.mark.parametrize(
    "text",
    ["a\\0.png\r\n  b/0.png ,\n", '["a/0.png", "b/0.png"]', '\ufeff"a/0.png"\n./b/0.png\n', "a/0.png;\nb//0.png"],
)
def test_a_list_of_keys_says_the_same_however_it_was_saved(tmp_path, text):
    for number, label in enumerate("abc"):
        written(tmp_path / "in" / label / "0.png", number)
    (tmp_path / "keys.txt").write_text(text)
    data = Data(source=folder(tmp_path / "in"), forget=Selection(files="keys.txt"), retain=Selection())
    forget, retain = split(data, tmp_path, 0)
    assert [item.key for item in both(forget)] == ["a/0.png", "b/0.png"]
    assert [item.key for item in both(retain)] == ["c/0.png"]


def test_names_are_equal_however_their_letters_are_composed(tmp_path):
    for number, label in enumerate((ACCENTED, "dog")):
        written(tmp_path / label / "0.png", number)
    (tmp_path / "keys.txt").write_text(unicodedata.normalize("NFC", f"{ACCENTED}/0.png"))
    for forget in (Selection(files="keys.txt"), Selection(classes=[unicodedata.normalize("NFC", ACCENTED)])):
        found = split(Data(source=folder(tmp_path), forget=forget, retain=Selection()), tmp_path, 0)
        assert [item.key for item in both(found[0])] == [f"{ACCENTED}/0.png"]
        assert found[0].classes == (ACCENTED,)


# copies


def sets(root: Path, other: Path | None = None, **counts: int):
    forget = Selection(files="keys.txt")
    retain = Selection(source=folder(other) if other else None)
    data = Data(source=folder(root), forget=forget, retain=retain, per_class=PerClass(**counts))
    return data, split(data, root, 0)


@FEW
@given(st.sets(st.integers(0, 7), min_size=1, max_size=3), st.booleans(), st.booleans(), st.booleans())
def test_no_pixel_of_a_forget_image_is_retained(tmp_path_factory, copied, elsewhere, anew, bounded):
    root, other = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("other")
    for number in range(8):
        written(root / "cat" / f"{number}.png", number)
        written(root / "dog" / f"{number}.png", 10 + number)
        written(other / "dog" / f"{number}.png", 20 + number)
    (root / "keys.txt").write_text("".join(f"cat/{number}.png\n" for number in range(8)))
    proxy = other if elsewhere else None
    counts = {"train": 4, "validation": 2} if bounded else {}
    clean = sets(root, proxy, **counts)[1]
    for number in copied:
        place = (proxy or root) / "dog" / f"again-{number}"
        if anew:
            picture(number).save(place.with_suffix(".bmp"))
        else:
            place.with_suffix(".png").write_bytes((root / "cat" / f"{number}.png").read_bytes())
    data, (forget, retain) = sets(root, proxy, **counts)
    device = torch.device("cpu")
    found, images = load_apart({"forget": forget, "retain": retain}, 16, data, device)
    marks = {name: {mark.pixels for half in images[name].values() for mark in half.marks} for name in images}
    assert not marks["forget"] & marks["retain"]
    assert [item.key for item in forget.train] == [item.key for item in clean[0].train]
    left_out = 6 - len(both(found["retain"])) if bounded and anew else len(copied) if not bounded else None
    if left_out:
        assert f"{left_out} of its images are copies of forget images" in found["retain"].notes[0]
    if not anew:
        assert len(both(found["retain"])) == len(both(clean[1]))


@FEW
@given(st.data(), st.sampled_from(["cat", "dog"]), st.sampled_from([64, 0]))
def test_no_pixel_of_a_training_image_is_kept_for_validation(tmp_path_factory, drawn, copied, memory_mib):
    root = tmp_path_factory.mktemp("in")
    numbers = drawn.draw(st.lists(st.integers(0, 5), min_size=10, max_size=10), "of the pictures")
    for place in range(10):
        for label, first in (("cat", 0), ("dog", 100)):
            number = first + numbers[place] if label == copied else first + 50 + place
            (root / label).mkdir(exist_ok=True)
            picture(number).save(root / label / f"{place}{drawn.draw(st.sampled_from(['.png', '.bmp']))}")
    counts = PerClass(validation=4)
    data = Data(
        source=folder(root), forget=Selection(classes=["cat"]), retain=Selection(), per_class=counts,
        memory_mib=memory_mib, workers=0,
    )  # fmt: skip
    chosen = dict(zip(("forget", "retain"), split(data, root, 0), strict=True))
    found, images = load_apart(chosen, 16, data, torch.device("cpu"))
    for name, part in found.items():
        trained, aside = ({mark.pixels for mark in images[name][half].marks} for half in ("train", "validation"))
        assert not trained & aside
        assert part.train == chosen[name].train
        assert len(images[name]["validation"]) == len(part.validation)
        left_out = 4 - len(part.validation)
        seen = {numbers[int(item.key[4])] for item in chosen[name].train}
        twice = [item for item in chosen[name].validation if numbers[int(item.key[4])] in seen]
        assert left_out == (len(twice) if (name == "forget") == (copied == "cat") else 0)
        said = f"data.{name}: {left_out} of its validation images are copies of its training images and left out"
        assert any(note.startswith(said) for note in part.notes) == (left_out > 0)


def test_copies_that_are_left_out_are_told_in_the_report(tiny, tmp_path):
    pictures = tiny.parent / "pictures"
    for number in range(12):
        Image.open(pictures / "red" / f"{number:02}.png").save(pictures / "green" / f"0{number:02}.bmp")
    told = []
    short = ("training.steps=2", "training.checks=1", "epsilons.fractions=[1]", "data.per_class.at_most=true")
    run = ran(tiny, tmp_path / "run", *short, tell=told.append)
    message = "of its images are copies of forget images and left out, such as 'green/0"
    assert any(message in event.get("message", "") for event in told)
    assert any(message in warning for warning in json.loads((run / "manifest.json").read_text())["warnings"])
    assert message.replace("'", "&#x27;") in (run / "report.html").read_text().replace("&#39;", "&#x27;")


@pytest.mark.parametrize("memory_mib", [64, 0])
@pytest.mark.parametrize("spoilt", [1, 25])
def test_all_images_that_cannot_be_read_are_told_at_once(tmp_path, memory_mib, spoilt):
    for number in range(60):
        written(tmp_path / "ab"[number % 2] / f"{number:02}.png", number)
    for number in range(spoilt):
        (tmp_path / "ab"[number % 2] / f"{number:02}.png").write_bytes(bytes([number]) * (number % 3))
    Image.new("RGB", (9, 30)).save(tmp_path / "b" / "59.png")
    data = Data(
        source=folder(tmp_path), forget=Selection(classes=["a"]), retain=Selection(classes=["b"]),
        memory_mib=memory_mib, workers=0,
    )  # fmt: skip
    forget, retain = split(data, tmp_path, 0)
    with pytest.raises(UserError) as caught:
        load_apart({"forget": forget, "retain": retain}, 16, data, torch.device("cpu"))
    assert caught.value.code == Exit.RECIPE
    lines = str(caught.value).split("\n")
    assert len(lines) == min(spoilt + 1, 21)
    assert lines[20:] == (["and 6 more"] if spoilt == 25 else [])
    reasons = [line.split(": ", 1)[1] for line in lines[:20]]
    assert all(one.startswith(("not a readable image (cannot identify", "9 x 30 px, but the")) for one in reasons)
    alone = decode_error(retain.source, next(item for item in retain.source.items if item.key == "a/00.png"))
    assert alone in lines


def decode_error(source, item) -> str:
    with pytest.raises(UserError) as caught:
        decode(source, [item], 16)
    return str(caught.value)


def photographs() -> list[bytes]:
    """Return 400 of the shipped pictures, 33 or 34 of each class."""
    source = Sample(kind="sample").open(Path())
    return [source.bytes_of(item) for item in list(source.items)[:: len(source.items) // 400]][:400]


def saved_again(data: bytes, form: str = "JPEG", side: float = 1, cut: float = 0, **options: object) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    edge = round(image.width * cut)
    image = image.crop((edge, edge, image.width, image.height))
    return encoded(image.resize([round(length * side) for length in image.size]), form, **options)


def marks(data: list[bytes], size: int = 64) -> list[bytes]:
    opened_each = (square(lambda one=one: opened(io.BytesIO(one)), "it", size, True) for one in data)
    return [perceptual(image.numpy()) for image in opened_each]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"quality": 50}, 0.99),
        ({"quality": 90}, 0.99),
        ({"form": "WEBP", "quality": 60}, 0.97),
        ({"form": "GIF"}, 0.97),
        ({"side": 0.5, "form": "PNG"}, 0.99),
        ({"side": 3, "quality": 80}, 0.99),
        ({"cut": 0.02, "form": "PNG"}, 0.93),
    ],
)
def test_a_picture_saved_again_is_nearly_the_same(change, found):
    pictures = photographs()[::4]
    near = alike(marks(pictures), marks([saved_again(one, **change) for one in pictures]))
    assert sum(near.get(place) == place for place in range(len(pictures))) >= found * len(pictures)


def test_other_pictures_of_a_class_and_flat_ones_are_not_nearly_the_same():
    every = marks(photographs())
    pairs = [(place, like) for place in range(400) for like in alike([every[place]], every[:place])]
    assert len(pairs) <= 2  # of 79,800: the sample has some photographs twice
    draw = np.random.default_rng(0)
    flat = [np.clip(level + draw.normal(0, noise, (3, 64, 64)), 0, 255).astype(np.uint8)
            for level in range(0, 250, 10) for noise in (0, 0.5, 1, 2.5, 4)]  # fmt: skip
    assert alike(hashed := [perceptual(one) for one in flat], hashed) == {
        row: row for row, one in enumerate(hashed) if one
    }
    assert not all(hashed)


def test_the_search_finds_what_the_distance_of_each_pair_says(monkeypatch):
    monkeypatch.setattr(likeness, "BLOCK", 7)
    draw = np.random.default_rng(0)
    ours = [draw.bytes(32) for _ in range(20)]
    theirs = [draw.bytes(32), b""]
    for place, flips in enumerate(range(0, 60, 3)):
        bits = np.unpackbits(np.frombuffer(ours[place], np.uint8))
        bits[draw.permutation(256)[:flips]] ^= 1
        theirs.append(np.packbits(bits).tobytes())
    assert alike([*ours, b""], theirs) == {
        2 + place: place for place, flips in enumerate(range(0, 60, 3)) if flips <= 38
    }


def test_near_copies_are_told_and_stay(tmp_path):
    pictures = photographs()
    for place, one in enumerate(pictures[:24]):
        path = tmp_path / "ab"[place % 2] / f"{place:02}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(one)
    for place, name in ((0, "again"), (2, "small")):
        changed = saved_again(pictures[place], quality=60, side=1 if place == 0 else 0.5)
        (tmp_path / "b" / f"{name}.jpg").write_bytes(changed)
    data = Data(
        source=folder(tmp_path), forget=Selection(classes=["a"]), retain=Selection(), per_class=PerClass(validation=2)
    )
    forget, retain = split(data, tmp_path, 0)
    found, images = load_apart({"forget": forget, "retain": retain}, 32, data, torch.device("cpu"))
    assert len(images["retain"]["train"]) + len(images["retain"]["validation"]) == 14
    (note,) = found["retain"].notes
    assert note.startswith("data.retain: 2 of its images are nearly forget images (perceptual hash), such as 'b/")
    for pair in ("'b/again.jpg' (like 'a/00.jpg')", "'b/small.jpg' (like 'a/02.jpg')"):
        assert pair in note
    assert note.endswith("; look at them, and list them to forget or leave them out")


# requests


def test_all_that_a_request_lists_is_forgotten(tmp_path):
    for number in range(12):
        written(tmp_path / "cat" / f"{number:02}.png", number)
    (tmp_path / "keys.txt").write_text("".join(f"cat/{number:02}.png\n" for number in range(9)))
    _, (forget, retain) = sets(tmp_path, train=2, validation=1)
    assert (len(forget.train), len(forget.validation), forget.notes) == (9, 0, ())
    assert (len(retain.train), len(retain.validation)) == (2, 1)


def test_what_is_set_aside_of_a_request_is_told(tmp_path):
    for number, half in enumerate(("train", "val")):
        written(tmp_path / half / "cat" / "0.png", number)
        written(tmp_path / half / "dog" / "0.png", 5 + number)
    (tmp_path / "keys.txt").write_text("train/cat/0.png\nval/cat/0.png\n")
    forget = sets(tmp_path)[1][0]
    assert "1 of 2 are not trained on, such as 'val/cat/0.png', for they are validation images" in forget.notes[0]


def test_a_listed_image_that_another_criterion_leaves_out_is_told(tmp_path):
    for number, name in enumerate(("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png")):
        written(tmp_path / name, number)
    (tmp_path / "keys.txt").write_text("cat/0.png\ndog/2.png\n")
    data = Data(source=folder(tmp_path), forget=Selection(files="keys.txt", classes=["cat"]), retain=Selection())
    (note,) = split(data, tmp_path, 0)[0].notes
    assert note.startswith("data.forget.files: 1 of 2 are not trained on, such as 'dog/2.png'")


def test_images_that_no_class_or_split_holds_are_told(tmp_path):
    (tmp_path / "keys.txt").write_text("train/cat/0.png\n")
    for number, name in enumerate(
        ("train/cat/0.png", "train/cat/1.png", "val/cat/2.png", "train/3.png", "extra/4.png")
    ):
        written(tmp_path / name, number)
    forget, retain = sets(tmp_path)[1]
    said = "data.source: 2 of its images are not used, such as 'extra/4.png'"
    assert [note.startswith(said) for note in (*forget.notes, *retain.notes)] == [True]


def test_a_smaller_class_gives_what_it_has_where_the_recipe_says_at_most(tmp_path):
    for number in range(8):
        written(tmp_path / "cat" / f"{number}.png", number)
    written(tmp_path / "dog" / "0.png", 9)
    data = Data(
        source=folder(tmp_path), forget=Selection(classes=["dog"]), retain=Selection(),
        per_class=PerClass(train=500, validation=50, at_most=True),
    )  # fmt: skip
    forget, retain = split(data, tmp_path, 0)
    assert (len(forget.train), len(retain.train), len(retain.validation)) == (1, 6, 2)
    with pytest.raises(UserError, match="lower the number, add `at_most: true` or choose another class"):
        split(data.model_copy(update={"per_class": PerClass(train=500)}), tmp_path, 0)


def test_the_data_part_of_the_guide_holds_to_the_letter(tmp_path):
    """200 photographs, 40 listed; of two there are copies elsewhere, one as it is and one saved again in two forms."""
    guide = (Path(__file__).parents[1] / "docs/how-to/deletion-request.md").read_text()
    (tmp_path / "recipe.yaml").write_text(re.findall(r"```yaml request.yaml\n(.*?)```", guide, re.S)[0])
    source = Sample(kind="sample").open(Path())
    kinds = ("airplanes", "faces", "motorbikes", "watch")
    keys = {label: [item for item in source.items if item.label == label][:50] for label in kinds}
    for label, items in keys.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, item in enumerate(items):
            (tmp_path / "photos" / label / f"{number:04}.jpg").write_bytes(source.bytes_of(item))
    listed = [f"{label}/{number:04}.jpg" for label in kinds for number in range(10)]
    first, second = ((tmp_path / "photos" / name).read_bytes() for name in (listed[0], listed[15]))
    (tmp_path / "photos" / "watch" / "holiday.jpg").write_bytes(first)
    (tmp_path / "photos" / "faces" / "passport.png").write_bytes(saved_again(second, "PNG"))
    (tmp_path / "photos" / "motorbikes" / "small.jpg").write_bytes(saved_again(second, quality=70))
    (tmp_path / "requests").mkdir()
    request = tmp_path / "requests" / "2024-17.txt"
    overrides = [f"data.source.root={tmp_path / 'photos'}"]
    recipe = load(tmp_path / "recipe.yaml", discover(installed=False), overrides).recipe
    request.write_text("\n".join([*listed, "faces/9999.jpg", "Watch/0030.jpg"]))
    with pytest.raises(
        UserError, match=r"line 41: .*faces/9999.*\n.*line 42: .*did you mean 'watch/0030.jpg'"
    ) as caught:
        split(recipe.data, tmp_path, recipe.seed)
    assert str(caught.value).count("\n") == 1
    request.write_text("\n".join(listed))
    forget, retain = split(recipe.data, tmp_path, recipe.seed)
    found, images = load_apart({"forget": forget, "retain": retain}, 64, recipe.data, torch.device("cpu"))
    assert sorted(item.key for item in found["forget"].train) == sorted(listed)
    assert (found["forget"].validation, found["forget"].notes) == ([], ())
    rest = both(found["retain"])
    assert len(rest) == 200 - 40 + 1  # the one that is nearly a forget image
    assert not {item.key for item in rest} & {*listed, "watch/holiday.jpg", "faces/passport.png"}
    assert len(found["retain"].validation) <= len(rest) / 4
    assert [len(images["retain"][half]) for half in ("train", "validation")] == [
        len(found["retain"].train), len(found["retain"].validation),
    ]  # fmt: skip
    bytewise, pixelwise, near = found["retain"].notes
    assert bytewise.endswith("1 of its images are copies of forget images and left out, such as 'watch/holiday.jpg'")
    assert pixelwise.endswith("1 of its images are copies of forget images and left out, such as 'faces/passport.png'")
    assert "'motorbikes/small.jpg' (like 'faces/0005.jpg')" in near
