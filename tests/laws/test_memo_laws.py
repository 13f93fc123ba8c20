"""Laws of what is remembered of images: none is decoded that is not used, and none is taken for another."""

import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unlearnkit import disk
from unlearnkit.builtin.data.folders import Folder
from unlearnkit.builtin.data.poison import Poison, Poisoned
from unlearnkit.contracts import Item
from unlearnkit.data import Pixels, colour_statistics, decode, memo
from unlearnkit.errors import UserError

CPU = torch.device("cpu")


class Counted(Folder):
    """A folder that says which of its images were decoded, and which files were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.decoded, self.opened = list[str](), list[str]()

    def read(self, item: Item, size: int) -> Tensor:
        self.decoded.append(item.key)
        return super().read(item, size)

    def bytes_of(self, item: Item) -> bytes:
        self.opened.append(item.key)
        return super().bytes_of(item)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    (root / "a").mkdir()
    for number in range(24):
        noise(root / "a" / f"{number:02}.png", number)
    return root


def noise(path: Path, seed: int) -> None:
    """Write an image; all of them have as many bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (18, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "BMP")


@pytest.fixture
def seen(folder, tmp_path, monkeypatch):
    """Return a function that looks at images of a copy of the folder, and returns their source and them."""
    monkeypatch.setenv(disk.CACHE, str(tmp_path / "memo"))
    monkeypatch.setattr(memo, "SETTLED", 0)
    shutil.copytree(folder, tmp_path / "copy")
    time.sleep(0.02)  # the clock of file systems goes by steps

    def look(keys: Sequence[str] | None = None, size: int = 16, workers: int | None = None) -> tuple[Counted, Pixels]:
        source = Counted(tmp_path / "copy")
        items = {item.key: item for item in source.items}
        found = Pixels(source, [items[key] for key in keys or items], size, CPU, workers)
        assert found.digest
        return source, found

    return look


def test_an_image_that_was_seen_is_decoded_where_it_is_used_alone(seen):
    first, whole = seen()
    assert len(first.decoded) == len({*first.decoded}) == 24
    assert whole[torch.arange(24)].shape == (24, 3, 16, 16)
    assert len(first.decoded) == 24, "once, for both"
    source, again = seen()
    assert again.digest == whole.digest
    assert source.decoded == source.opened == []
    assert torch.equal(again[torch.tensor([5, 2, 5])], whole[torch.tensor([5, 2, 5])])
    assert torch.equal(again[torch.tensor([2, 7])], whole[torch.tensor([2, 7])])
    assert source.decoded == [again.items[row].key for row in (5, 2, 7)]
    few, part = seen([item.key for item in again.items[3:9]][::-1], workers=0)
    assert few.decoded == []
    assert [mark.pixels for mark in part.marks] == [mark.pixels for mark in whole.marks[3:9]][::-1]
    other, larger = seen(size=12)
    assert len(other.decoded) == 24
    assert larger.digest != whole.digest
    colour_statistics(whole)
    assert colour_statistics(seen()[1]).mean.equal(colour_statistics(decode(source, source.items, 16)).mean)


def changed(path: Path) -> None:
    noise(path, 99)


def replaced(path: Path) -> None:
    """Put another image of as many bytes in the place of one, with its time."""
    before = path.stat()
    noise(path.with_name(".other"), 99)
    path.with_name(".other").rename(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("how", [changed, replaced, Path.unlink])
def test_an_image_that_is_another_one_is_seen(seen, tmp_path, how, monkeypatch):
    path = tmp_path / "copy" / "a" / "03.png"
    keys = [f"a/{number:02}.png" for number in range(24)]
    _, before = seen(keys)
    _, held = seen(keys)
    how(path)
    if how is Path.unlink:
        with pytest.raises(KeyError):
            seen(keys)
        with pytest.raises(UserError, match=r"a/03\.png"):
            held[torch.tensor([3])]
        return
    source, after = seen(keys)
    assert source.decoded == ["a/03.png"]
    monkeypatch.setenv(disk.CACHE, "")  # where nothing is remembered
    assert after.digest == seen(keys)[1].digest != before.digest
    held[torch.tensor([2, 4])]
    with pytest.raises(UserError, match=r"'a/03\.png' was changed while it is in use"):
        held[torch.tensor([2, 3])]


@pytest.mark.parametrize("harm", ["a value", "all", "no room"])
def test_what_is_damaged_is_looked_at_again(seen, tmp_path, harm):
    _, whole = seen()
    place = tmp_path / "memo" / memo.FILE
    if harm == "a value":
        with closing(sqlite3.connect(place)) as connection, connection:
            for key, value in connection.execute("SELECT key, value FROM kept").fetchall():
                connection.execute("UPDATE kept SET value = ? WHERE key = ?", (value[:-1] + b"?", key))
    else:
        place.unlink()
        place.mkdir() if harm == "no room" else place.write_bytes(b"x" * 9999)
        memo._opened.cache_clear()
    for count in (24, 24 if harm != "a value" else 0):
        source, again = seen()
        assert again.digest == whole.digest
        assert len(source.decoded) == count
    if harm == "all":  # it was removed, and others begin anew
        memo._opened.cache_clear()
        assert [len(seen()[0].decoded) for _ in range(2)] == [24, 0]


def test_a_file_that_was_changed_just_now_is_read_again_and_not_decoded(seen, monkeypatch):
    monkeypatch.setattr(memo, "SETTLED", 10**12)
    seen()
    source, _ = seen()
    assert (source.decoded, len(source.opened)) == ([], 24)


@pytest.mark.parametrize("change", [{"trigger": 0.5}, {"target": 0.4}, {"fraction": 0.5}])
def test_a_planted_mark_is_of_the_origin(seen, change):
    def found(**of: float) -> str:
        made = {"trigger": 0.2, "target": 0.3, "fraction": 0.2} | of
        source = Poisoned(seen()[0], Poison(made["trigger"], made["target"]), None, made["fraction"])
        return Pixels(source, source.items, 16, CPU).digest

    assert found() == found() != found(**change)
