"""What is frozen is computed once, and where it is kept changes no number."""

import json
import subprocess
import sys
from collections import Counter

import pytest
import torch
from tiny_task import ran

from unlearnkit.solver.frozen import Store

SAME = (
    "results.json",
    "solutions/boundary-highest/tensors.safetensors",
    "solutions/epsilon-at-0.5/tensors.safetensors",
)


def facts(folder):
    """Return a run's folder, its passes, and where it kept what."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    passes = next(event for event in events if event["event"] == "passes")
    kept = {event["name"]: event["where"] for event in events if event["event"] == "cache"}
    return folder, passes, kept


def run(recipe, to, *overrides):
    return facts(ran(recipe, recipe.parent / to, *overrides))


def test_memory_disk_and_nowhere_give_the_same_bits(finished, tiny):
    memory, once, where = facts(finished / "run")
    assert where == {"retain-reference": "memory"}
    assert once["retain train: reference"] == 16, "one pass an image for the whole run"
    disk, also_once, where = run(tiny, "disk", "training.cache.memory_mib=0")
    assert where["retain-reference"] == "disk"
    assert also_once["retain train: reference"] == 16
    assert not (disk / "cache").exists(), "nothing of it is left when the run is done"
    shared = "training.cache={memory_mib: 0, shared: frozen}"
    first, also_once, _ = run(tiny, "first", shared)
    second, no_more, _ = run(tiny, "second", shared)
    assert also_once["retain train: reference"] == 16
    assert no_more["retain train: reference"] == 1, "it tells the layout"
    off, often, where = run(tiny, "off", "training.cache.memory_mib=0", "training.cache.disk_mib=0")
    assert where["retain-reference"] == "nowhere"
    assert often["retain train: reference"] > 100
    assert "retain-reference needs" in (off / "manifest.json").read_text()
    for name in SAME:
        assert len({(one / name).read_bytes() for one in (memory, disk, first, second, off)}) == 1


def test_with_augmentation_the_cache_steps_aside(tiny):
    _, passes, kept = run(tiny, "run", "training.crop=0.5")
    assert kept == {}
    assert passes["retain train: reference"] > 16


def rows(store, seen):
    def compute(rows):
        for row in rows.tolist():
            seen.append(row)
            yield torch.full((1, 3), float(row)), torch.tensor([[row]])

    return store.rows("rows", 5, compute)


def store(folder, identity="a"):
    return Store(folder, 0, 2**20, identity, torch.device("cpu"))


def test_rows_on_disk_are_made_when_asked_for_and_found_again_of_one_origin_alone(tmp_path):
    seen: list[int] = []
    first = rows(store(tmp_path), seen)
    numbers, places = first[torch.tensor([4, 1, 4])]
    assert seen == [0, 1, 4], "the first one tells the layout"
    assert numbers[:, 0].tolist() == [4.0, 1.0, 4.0]
    assert places.tolist() == [[4], [1], [4]]
    seen.clear()
    again = rows(store(tmp_path), seen)
    assert again[torch.arange(5)][0][:, 2].tolist() == [0, 1, 2, 3, 4]
    assert seen == [0, 2, 3]
    assert torch.equal(first[torch.arange(5)][0], again[torch.arange(5)][0])
    assert seen == [0, 2, 3], "what one store has made another on the same folder has as well"
    seen.clear()
    rows(store(tmp_path, "another model"), seen)[torch.arange(5)]
    assert len(seen) == 5


def test_no_row_is_trusted_in_which_a_bit_is_another(tmp_path):
    whole = rows(store(tmp_path), [])[torch.arange(5)]
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        seen: list[int] = []
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        found = rows(store(tmp_path), seen)[torch.arange(5)]
        assert all(torch.equal(a, b) for a, b in zip(found, whole, strict=True)), place
        assert len(seen) <= 2


def test_processes_that_share_a_folder_make_each_row_once_and_outlive_each_other(tmp_path):
    """One is killed while it holds a block; whoever waits for it goes on, to the same rows."""
    lines = """
import os, sys, time, torch
from pathlib import Path
from unlearnkit.solver.frozen import Store
folder, last = Path(sys.argv[1]), int(sys.argv[2])
def compute(rows):
    for row in rows.tolist():
        with open(folder / "seen.txt", "a") as seen:
            print(row, file=seen, flush=True)
        if row == last:
            os.kill(os.getpid(), 9)
        time.sleep(0.002)
        yield torch.full((1, 3), float(row)),
rows = Store(folder / "kept", 0, 2**20, "a", torch.device("cpu")).rows("rows", 300, compute)
assert rows[torch.arange(300)][0][:, 0].tolist() == [*range(300)]
"""
    command = [sys.executable, "-c", lines, str(tmp_path)]
    first = [subprocess.Popen([*command, last]) for last in ("200", "-1", "-1")]
    assert sorted(each.wait() for each in first) in ([0, 0, 0], [-9, 0, 0])
    seen = [int(line) for line in (tmp_path / "seen.txt").read_text().split()]
    assert sorted(set(seen)) == [*range(300)]
    assert all(count == 1 for row, count in Counter(seen).items() if row not in (0, 200) and not 128 <= row < 256)


@pytest.mark.parametrize("room", [0, 10])
def test_rows_that_fit_nowhere_are_not_kept(tmp_path, room):
    store = Store(tmp_path, room, room, "a", torch.device("cpu"))
    assert rows(store, []) is None
    assert store.kept["rows"]["where"] == "nowhere"


class NoWatcher:
    """Fails a test in which anything is to be told."""

    def event(self, kind, **facts):
        raise AssertionError(facts)


def test_metrics_do_not_depend_on_what_was_kept(tiny, monkeypatch):
    from unlearnkit.evaluation import instruments, originals
    from unlearnkit.evaluation.measure import Gauge
    from unlearnkit.plugins import discover
    from unlearnkit.recipe.validate import load
    from unlearnkit.solver.workbench import build

    bench = build(load(tiny, discover(installed=False)).recipe, tiny.parent)
    tools = instruments.build(bench.recipe.evaluate, tiny.parent, bench.device)
    found = []
    for room in (2**30, 20_000, 0):
        monkeypatch.setattr(originals, "KEPT_BYTES", room)
        gauge = Gauge(originals.Originals(bench), tools, NoWatcher())
        found += [gauge.measure(bench.student.output) for _ in range(2)]
    assert all(other == found[0] for other in found)
