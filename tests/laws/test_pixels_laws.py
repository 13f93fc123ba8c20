"""Laws of images that are decoded for each batch: the same bytes as in memory, whatever was announced."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unlearnkit.builtin.data.folders import Folder
from unlearnkit.builtin.data.sections import ImageFolder
from unlearnkit.contracts import Images, Item
from unlearnkit.data import (
    Chosen,
    Pixels,
    batch_index,
    colour_statistics,
    decode,
    decoding,
    load,
    to_float,
    whole_digest,
)
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.data import Data, Selection

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    (root / "a").mkdir()
    for number in range(24):
        draw = np.random.default_rng(number)
        Image.fromarray(draw.integers(0, 256, (18, 20, 3), dtype=np.uint8)).save(root / "a" / f"{number:02}.png")
    return root


def pixels(folder: Path, workers: int | None) -> Pixels:
    source = Folder(folder)
    return Pixels(source, source.items, 16, CPU, workers)


def children() -> set[str]:
    me = os.getpid()
    return set(Path(f"/proc/{me}/task/{me}/children").read_text().split())


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_streamed_images_are_those_in_memory(folder, workers):
    held, streamed = pixels(folder, None), pixels(folder, workers)
    assert streamed.held is None
    assert len(held) == len(streamed) == 24
    state = torch.get_rng_state()
    with streamed.expect(batch_index(step, 24, 5, 0, "x") for step in range(10**9)):
        for step in range(12):
            rows = batch_index(step, 24, 5, 0, "x")
            if step == 3:  # one that was not announced
                assert torch.equal(streamed[torch.tensor([7, 7, 1])], held[torch.tensor([7, 7, 1])])
            if step == 5:  # a check on the whole set amid training
                assert torch.equal(torch.cat(list(streamed.chunks(10))), held[torch.arange(24)])
            if step == 6:  # one that ends early
                next(streamed.chunks(10))
            if step != 8:  # a batch that is announced and never asked for
                assert torch.equal(streamed[rows], held[rows])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_does_not_depend_on_the_batches_before(folder):
    """A resumed run announces from its step on."""
    whole, resumed = pixels(folder, 1), pixels(folder, 1)
    order = [batch_index(step, 24, 5, 0, "x") for step in range(9)]
    with whole.expect(order):
        found = [whole[rows] for rows in order]
    with resumed.expect(order[4:]):
        assert all(torch.equal(resumed[rows], images) for rows, images in zip(order[4:], found[4:], strict=True))


def test_a_short_order_and_one_after_it(folder):
    held, streamed = pixels(folder, None), pixels(folder, 2)
    one, two = torch.arange(4).split(2), torch.arange(4, 12).split(2)
    with streamed.expect(one):
        assert torch.equal(streamed[one[0]], held[one[0]])
        with streamed.expect(two):
            for rows in (*two, one[1], two[0]):
                assert torch.equal(streamed[rows], held[rows])
    with streamed.expect(two):
        assert torch.equal(torch.cat([streamed[rows] for rows in two]), held[torch.arange(4, 12)])


@needs_proc
def test_processes_end_with_their_block(folder):
    streamed, before = pixels(folder, 2), children()

    def fails_inside():
        with streamed.expect([torch.arange(3)]):
            streamed[torch.arange(3)]
            assert len(children() - before) == 2
            raise KeyError

    with pytest.raises(KeyError):
        fails_inside()
    assert children() <= before


@needs_proc
def test_a_killed_process_costs_a_warning_and_no_byte(folder):
    held, streamed, before = pixels(folder, None), pixels(folder, 2), children()
    rows = torch.arange(24).split(4)
    with streamed.expect(rows):
        assert torch.equal(streamed[rows[0]], held[rows[0]])
        for child in children() - before:
            os.kill(int(child), signal.SIGKILL)
        time.sleep(0.5)
        with pytest.warns(UserWarning, match="the processes that decode images have ended; going on without them"):
            found = [streamed[part] for part in rows[1:]]
        assert torch.equal(torch.cat(found), held[torch.arange(4, 24)])
    assert torch.equal(torch.cat(list(streamed.chunks(5))), held[torch.arange(24)])  # with new ones


@needs_proc
@pytest.mark.parametrize("workers", [1, 3])
def test_a_process_that_never_begins_is_started_anew(folder, tmp_path, monkeypatch, workers):
    begins = decoding._serve

    def hangs_at_first(*given):
        if len([*tmp_path.iterdir()]) < 2:
            (tmp_path / str(os.getpid())).touch()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        begins(*given)

    monkeypatch.setattr(decoding, "_serve", hangs_at_first)
    monkeypatch.setattr(decoding, "PATIENCE", 0.5)
    held, streamed, before = pixels(folder, None), pixels(folder, workers), children()
    with streamed.expect(torch.arange(24).split(4)):
        assert torch.equal(streamed[torch.arange(4)], held[torch.arange(4)])
        assert len(children() - before) == workers
    assert children() <= before
    assert len([*tmp_path.iterdir()]) >= 2


class Plain(Images):
    """Images of one colour, read in no time; that of the key 0 cannot be."""

    labels = frozenset({"all"})

    def __init__(self, count: int) -> None:
        self.items = [Item(str(number), "all") for number in range(1, count + 1)]

    def read(self, item: Item, size: int) -> Tensor:
        return torch.full((3, size, size), 255 // int(item.key), dtype=torch.uint8)

    def describe(self) -> dict[str, object]:
        return {}


@needs_proc
@pytest.mark.timeout(60, method="thread")
def test_a_process_killed_while_it_sends_a_batch_costs_no_byte():
    """A batch is far more than a pipe holds, and sending it takes longer than reading it."""
    source, before = Plain(16), children()
    rows = torch.arange(16)
    expected = decode(source, source.items, 256)
    for delay in torch.linspace(0, 0.02, 6).tolist():
        streamed = Pixels(source, source.items, 256, CPU, 2)
        with streamed.expect(rows for _ in iter(int, 1)):
            for _ in range(3):
                assert torch.equal(streamed[rows], expected)
            time.sleep(delay)
            for child in children() - before:
                os.kill(int(child), signal.SIGKILL)
            with pytest.warns(UserWarning, match="the processes that decode images have ended"):
                assert all(torch.equal(streamed[rows], expected) for _ in range(6))
    assert children() <= before


@needs_proc
def test_blocks_may_end_in_any_order(folder):
    held, one, two, before = pixels(folder, None), pixels(folder, 1), pixels(folder, 2), children()
    looks = [one.chunks(6), two.chunks(10), one.chunks(7), two.chunks(5)]
    found = [[next(look)] for look in looks]
    assert len(children() - before) == 3  # one look shares its processes with the next
    for place in (0, 1, 3, 2):
        found[place].extend(looks[place])
        assert torch.equal(torch.cat(found[place]), held[torch.arange(24)])
    assert children() <= before


@needs_proc
def test_batches_that_cannot_be_announced_leave_no_process(folder):
    before = children()

    def fails():
        yield torch.arange(3)
        raise KeyError

    with pytest.raises(KeyError), pixels(folder, 2).expect(fails()):
        pass
    assert children() <= before


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_an_unreadable_image_is_the_users_mistake(tmp_path, folder, workers):
    (tmp_path / "a").mkdir()
    for path in (folder / "a").iterdir():
        (tmp_path / "a" / path.name).write_bytes(path.read_bytes()[: 40 if path.name == "05.png" else None])
    with pytest.raises(UserError, match=r"a/05.png: not a readable image .*; mend or remove it") as caught:
        list(pixels(tmp_path, workers).chunks(4))
    assert caught.value.code is Exit.RECIPE


@pytest.mark.parametrize("workers", [None, 0, 2])
def test_a_bug_in_a_source_keeps_its_own_error(workers):
    source = Plain(8)
    with pytest.raises(ZeroDivisionError):
        list(Pixels(source, [*source.items, Item("0", "all")], 4, CPU, workers).chunks(4))


def test_digest_and_statistics_do_not_depend_on_where_images_are(folder):
    held, streamed, fresh = pixels(folder, None), pixels(folder, 0), pixels(folder, 2)
    images = decode(held.source, held.items, 16)
    each = [hashlib.sha256(image.numpy().tobytes()).digest() for image in images]
    assert held.digest == streamed.digest == fresh.digest == hashlib.sha256(b"".join(each)).hexdigest()
    assert whole_digest(held) == whole_digest(fresh) == hashlib.sha256(images.numpy().tobytes()).hexdigest()
    expected = colour_statistics(images)
    for found in map(colour_statistics, (held, streamed, fresh)):
        assert torch.equal(found.mean, expected.mean)
        assert torch.equal(found.covariance, expected.covariance)


@pytest.mark.parametrize("seed", range(5))
def test_statistics_are_those_of_all_pixels_whatever_the_parts(seed):
    images = (torch.rand(140 + seed, 3, 21, 17, generator=torch.Generator().manual_seed(seed)) ** seed * 255).byte()
    values = to_float(images).permute(1, 0, 2, 3).flatten(1).double()
    found, other = colour_statistics(images), colour_statistics(images.flip(0))
    torch.testing.assert_close(found.mean, values.mean(1).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.covariance, torch.cov(values).float(), rtol=1e-5, atol=1e-9)
    assert torch.equal(found.mean, other.mean)
    assert torch.equal(found.covariance, other.covariance)


def test_what_memory_does_not_hold_is_streamed(folder):
    source = Folder(folder)
    chosen = {
        "forget": Chosen("forget", ("a",), source, source.items[:4], source.items[4:6]),
        "retain": Chosen("retain", ("a",), source, source.items[6:24], ()),
    }
    for mib, held in ((8192, 4), (0, 1)):
        data = Data(
            source=ImageFolder(kind="image-folder", root="x"),
            forget=Selection(fraction=0.1),
            retain=Selection(),
            memory_mib=mib,
            workers=0,
        )
        found = load(chosen, 16, data, CPU)
        parts = [found[name][half] for name in chosen for half in ("train", "validation")]
        assert [len(part) for part in parts] == [4, 2, 18, 0]
        assert sum(part.held is not None for part in parts) == held
        assert torch.equal(parts[0][torch.tensor([3])], pixels(folder, None)[torch.tensor([3])])


RUN = """
import os, signal, sys, time, torch
from pathlib import Path
from unlearnkit.builtin.data.folders import Folder
from unlearnkit.data import Pixels
stop = []
signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
source = Folder(Path(sys.argv[1]))
images = Pixels(source, source.items, 16, torch.device("cpu"), 2)
rows = torch.arange(4)
with images.expect(rows for _ in iter(int, 1)):
    images[rows]
    me = os.getpid()
    print(Path(f"/proc/{me}/task/{me}/children").read_text(), flush=True)
    while not stop:
        images[rows]
        time.sleep(0.01)
    images[rows]
print("saved", flush=True)
sys.exit(143)
"""


@needs_proc
@pytest.mark.parametrize("how", ["process", "group", "kill"])
def test_processes_die_with_the_run_and_a_signal_leaves_it_its_last_step(folder, how):
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    workers = run.stdout.readline().split()
    assert len(workers) == 2
    if how == "group":
        os.killpg(run.pid, signal.SIGTERM)
    else:
        run.send_signal(signal.SIGTERM if how == "process" else signal.SIGKILL)
    if how != "kill":
        assert run.stdout.read() == "saved\n"
    assert run.wait(20) == (-signal.SIGKILL if how == "kill" else 143)
    run.stdout.close()
    until = time.monotonic() + 20
    while alive(workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(workers)


def alive(pids: list[str]) -> list[str]:
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":  # nobody collects it in a container without an init
            found.append(pid)
    return found
