"""What is frozen is computed once, and where it is kept changes no number."""

import json

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
    off, often, where = run(tiny, "off", "training.cache.memory_mib=0", "training.cache.disk_mib=0")
    assert where["retain-reference"] == "nowhere"
    assert often["retain train: reference"] > 100
    assert "retain-reference needs" in (off / "manifest.json").read_text()
    for name in SAME:
        assert (memory / name).read_bytes() == (disk / name).read_bytes() == (off / name).read_bytes()


def test_with_augmentation_the_cache_steps_aside(tiny):
    _, passes, kept = run(tiny, "run", "training.crop=0.5")
    assert kept == {}
    assert passes["retain train: reference"] > 16


def rows(store, seen):
    def compute(row):
        seen.append(row)
        return torch.full((1, 3), float(row)), torch.tensor([[row]])

    return store.rows("rows", 5, compute)


def store(folder, identity="a"):
    return Store(folder, 0, 2**20, identity, torch.device("cpu"))


def test_rows_on_disk_are_found_again_and_trusted_only_when_whole_and_of_one_origin(tmp_path):
    seen: list[int] = []
    first = rows(store(tmp_path), seen)
    assert seen == [0, 1, 2, 3, 4]
    numbers, places = first[torch.tensor([4, 1])]
    assert numbers[:, 0].tolist() == [4.0, 1.0]
    assert places.tolist() == [[4], [1]]
    seen.clear()
    again = rows(store(tmp_path), seen)
    assert seen == [0], "one row tells the layout; the others are read"
    assert torch.equal(again[torch.arange(5)][0], first[torch.arange(5)][0])
    seen.clear()
    rows(store(tmp_path, "another model"), seen)
    assert len(seen) == 5
    data = bytearray((tmp_path / "rows.bin").read_bytes())
    data[3] ^= 1
    (tmp_path / "rows.bin").write_bytes(data)
    seen.clear()
    mended = rows(store(tmp_path, "another model"), seen)
    assert len(seen) == 5
    assert torch.equal(mended[torch.arange(5)][0], first[torch.arange(5)][0])


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
