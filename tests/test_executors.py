"""Executors: whoever does the tasks of a run, and whatever dies, the bytes are those of a serial run."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from tiny_task import Killer, lasting, ran, resumed

from unlearnkit import hookimpl
from unlearnkit.errors import Exit, Stopped, UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.sections import ExecutorSection
from unlearnkit.recipe.validate import load
from unlearnkit.report import comparison
from unlearnkit.report.comparison import places
from unlearnkit.run import runner, worker
from unlearnkit.run.folder import held
from unlearnkit.run.tasks import Schedule, makespan, tasks
from unlearnkit.seal import Sealed

QUICK = (
    "training={steps: 6, batch_size: 4, checks: 2, checkpoint_every: 2, device: cpu,"
    " optimizer: {kind: adamw, lr: 3.0e-3}}",
    "evaluate={metrics: [{kind: hidden-psnr}], images: 1, stops: 2, tasks: [{kind: half}],"
    " audits: [{kind: membership}, {kind: relearning, steps: 4, every: 2}]}",
)
RETRAINED = (
    "compare=[{kind: composite, alpha: 0.25}, {kind: retrain, seed: [0, 1]}]",
    "evaluate.audits=[{kind: membership}, {kind: relative}, {kind: two-points, other: retrain-seed-0, beyond: [1]},"
    " {kind: u-lira, shadows: 4, steps: 6}]",
)
RECIPES = {
    "compare, audits and targets": (*QUICK, *RETRAINED, "epsilons.targets=[{kind: unseen}, {kind: retrained}]"),
    "seeds": (*QUICK, "seeds=[3, 4]"),
    "varied": (*QUICK, "vary={control.epsilon.delta: [1, 2], evaluate.tasks: [[], [{kind: half}]]}"),
    "continuation": (*QUICK, "sweep={kind: continuation, budget: 0.5}"),
    "a curve": (*QUICK, "sweep={kind: curve, budget: 1, polish: 3}", "epsilons={values: [0.03, 1000]}"),
}


class Called(ExecutorSection):
    """Tasks are done where and when they are asked for; what `meddle` does comes before each."""

    kind: Literal["called"]
    """In this process."""

    @contextmanager
    def open(self, logs: Path) -> Iterator[Any]:
        def submit(work: Callable[..., Any], *given: Any) -> Future[Any]:
            call = Future[Any]()
            try:
                meddle(*given)
                call.set_result(work(*given))
            except RuntimeError as error:
                call.set_exception(error)
            return call

        yield submit


class Whole(Called):
    """The same, all that there is to do of a model at once."""

    kind: Literal["whole"]
    """A model at a time."""
    whole = True


def meddle(order: Any, token: str) -> None:
    """Do what a test puts here before a task is done."""


HERE = SimpleNamespace(__name__="called", register_executors=hookimpl(lambda: [Called, Whole]))


@pytest.fixture(autouse=True, scope="module")
def unreported():
    """Leave reports out, which the tasks have no part in and which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "write_report", lambda sealed: [])
        patch.setattr(comparison, "write", lambda runs, to: [to])
        yield


@pytest.fixture
def plugins():
    worker._kept.clear()
    return discover(extra=[HERE])


@pytest.fixture(scope="module")
def serial(shared_tiny) -> Callable[[str], Path]:
    """Return what runs a recipe of `RECIPES` in one process, once."""

    def run(name: str) -> Path:
        to = shared_tiny.parent / name
        return to if to.exists() else ran(shared_tiny, to, *RECIPES[name])

    return run


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("by", ["called:workers=1", "whole:workers=3"])
def test_tasks_end_in_the_bytes_of_a_serial_run(serial, shared_tiny, tmp_path, plugins, name, by):
    told: list[Any] = []
    run = ran(shared_tiny, tmp_path / "run", *RECIPES[name], plugins=plugins, by=by, tell=told.append)
    assert lasting(run) == lasting(serial(name))
    assert not [path for path in run.rglob("*") if path.name == "tasks"]
    for place in places(run):
        manifest = json.loads((place / "manifest.json").read_text())
        assert manifest["executors"][0]["kind"] == by.partition(":")[0]
        assert set(manifest["costs"]) == set(manifest["times"])
        ids = {one["id"] for one in json.loads((place / "results.json").read_text())["solutions"]}
        assert ids <= {*manifest["times"]}
    solved = [event["id"] for event in told if event["event"] == "solution"]
    once = {"seeds": 0, "varied": 2}  # nothing is solved twice, and of what is varied not even phase 1
    assert len(solved) == len({*solved}) * (1 + (name in once)) - once.get(name, 0)


def test_processes_that_are_killed_in_each_phase_end_in_the_same_bytes(serial, shared_tiny, tmp_path):
    name, killer = "compare, audits and targets", Killer()
    run = ran(shared_tiny, tmp_path / "run", *RECIPES[name], by="processes:workers=2", tell=killer)
    assert {*killer.killed} == {"solve", "evaluate", "audit", "shadow"}
    assert lasting(run) == lasting(serial(name))


def test_seeds_of_which_one_is_finished_go_on_by_an_executor(serial, shared_tiny, tmp_path, plugins):
    seen = []

    def stop(event):
        seen.append(event["event"])
        if seen.count("start") == 2 and event["event"] == "solution":
            raise Stopped(signal.SIGTERM)

    with pytest.raises(Stopped):
        ran(shared_tiny, tmp_path / "run", *RECIPES["seeds"], tell=stop)
    run = resumed(tmp_path / "run", plugins=plugins, by="called:workers=1")
    assert lasting(run) == lasting(serial("seeds"))
    noted = [json.loads((run / name / "manifest.json").read_text())["resumed"] for name in ("seed-3", "seed-4")]
    assert [len(one) for one in noted] == [0, 1]
    Sealed.of(run / "seed-3").verify()


@pytest.fixture
def meddling(monkeypatch):
    """Return what has a function of an order called before the order is done in this process."""

    def put(what: Callable[[Any], None]) -> None:
        monkeypatch.setitem(globals(), "meddle", lambda order, token: what(order))

    return put


PLAIN = (*QUICK[:1], "evaluate={metrics: [], images: 1, stops: 0}", "epsilons={fractions: [0.5]}")


def test_a_signal_saves_what_processes_are_at_and_resume_ends_in_the_same_bytes(shared_tiny, tmp_path):
    long, told = (*PLAIN, "training.steps=400", "training.checkpoint_every=1000"), list[Any]()

    def stop(event):
        if event["event"] == "step" and not told:
            told.append(event)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        ran(shared_tiny, tmp_path / "run", *long, by="processes:workers=2", tell=stop)
    steps = [int(path.name.partition("-")[2]) for path in (tmp_path / "run" / "checkpoints").glob("*/step-*")]
    assert steps
    assert all(0 < step < 400 for step in steps)
    assert lasting(resumed(tmp_path / "run")) == lasting(ran(shared_tiny, tmp_path / "serial", *long))


def test_a_mistake_in_a_worker_comes_back_with_its_exit_code(shared_tiny, tmp_path, plugins):
    with pytest.raises(UserError) as alone:
        ran(shared_tiny, tmp_path / "serial", *PLAIN, "training.optimizer.lr=1e30")
    with pytest.raises(UserError) as caught:
        ran(shared_tiny, tmp_path / "run", *PLAIN, "training.optimizer.lr=1e30", plugins=plugins, by="called")
    assert (caught.value.code, str(caught.value)) == (Exit.DIVERGED, str(alone.value))


def test_a_bug_in_a_worker_comes_back_with_its_traceback(shared_tiny, tmp_path, plugins, monkeypatch):
    monkeypatch.setattr(worker, "solve", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"(?s)solve-boundary-highest failed in its worker:.*ZeroDivisionError"):
        ran(shared_tiny, tmp_path / "run", *PLAIN, plugins=plugins, by="called:workers=1")


def test_a_task_whose_worker_dies_again_and_again_ends_the_run_which_goes_on(shared_tiny, tmp_path, plugins, meddling):
    deaths = []

    def die(order):
        if order[0][2] == "epsilon-at-0.5":
            deaths.append(order)
            raise RuntimeError("killed")

    meddling(die)
    with pytest.raises(UserError, match=r"solve-epsilon-at-0.5: its worker died 4 times .*resume") as caught:
        ran(shared_tiny, tmp_path / "run", *PLAIN, plugins=plugins, by="called")
    assert (caught.value.code, len(deaths)) == (Exit.DEVICE, 4)
    meddling(lambda order: None)
    run = resumed(tmp_path / "run", plugins=plugins, by="called")
    assert lasting(run) == lasting(ran(shared_tiny, tmp_path / "serial", *PLAIN))


def test_an_order_whose_worker_died_is_like_one_not_begun(shared_tiny, tmp_path, plugins, meddling):
    begun, told = [], []

    def die(order):
        (task,) = order
        if task[1:] != ("solve", "boundary-highest"):
            return
        traces = tmp_path / "run" / "tasks" / "solve-boundary-highest"
        begun.append(traces.exists())
        traces.mkdir(parents=True)
        (traces / "events.jsonl").write_text('{"kind": "died", "facts": {}}\n')
        if len(begun) < 3:
            raise RuntimeError("killed")

    meddling(die)
    run = ran(shared_tiny, tmp_path / "run", *PLAIN, plugins=plugins, by="called:workers=1", tell=told.append)
    assert begun == [False] * 3
    assert [event["event"] for event in told].count("died") == 3
    assert lasting(run) == lasting(ran(shared_tiny, tmp_path / "serial", *PLAIN))


def test_a_folder_has_one_command_and_no_worker_of_another(shared_tiny, tmp_path, plugins, meddling):
    """While tasks are done a second command is refused, and so is one while a worker of a first is at work."""
    folder, refused = tmp_path / "run", []

    def again(order):
        for place in (folder, folder / "seed-3", folder / "seed-4"):
            with pytest.raises(UserError, match="another process is working in this run folder") as caught:
                resumed(place)
            refused.append(caught.value.code)
        raise Stopped(signal.SIGTERM)

    meddling(again)
    with pytest.raises(Stopped):
        ran(shared_tiny, folder, *PLAIN, "seeds=[3, 4]", plugins=plugins, by="called")
    assert refused == [Exit.FOLDER] * 3
    with held(folder / "seed-3" / "tasks" / "solve-boundary-lowest"), pytest.raises(UserError, match="still at work"):
        resumed(folder)


def test_a_worker_says_so_where_it_does_not_see_the_folder_or_is_not_wanted_any_more(finished, tmp_path):
    order = [(str(tmp_path / "nowhere"), "solve", "boundary-highest")]
    assert "does not see" in worker.perform(order, "token")["error"]
    shutil.copytree(finished / "run", tmp_path / "run")
    stopped = worker.perform([(str(tmp_path / "run"), "evaluate", "boundary-highest")], "of another command")
    assert stopped == {"stopped": signal.SIGTERM}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("whole", [False, True])
def test_a_schedule_keeps_the_needs_and_lies_between_its_bounds(shared_tiny, name, whole):
    recipe = load(shared_tiny, discover(), RECIPES[name]).recipe
    needs = {}
    for place in ("one", "other"):
        methods = {"a": False, "b": True, "c": True}
        needs |= tasks(place, recipe, methods, ["wanted"], {"membership": [], "relative": ["b", "c"]})
    cost = dict(zip(needs, (1.0 + number % 3 for number in range(len(needs))), strict=True))

    def schedule():
        return Schedule(needs, cost.__getitem__, whole=whole)

    one, done = schedule(), set()
    while (order := one.next()) is not None:
        for task in order:
            assert needs[task] <= done | {*order}
        one.finish(order)
        done |= {*order}
    assert done == {*needs}
    spent = [makespan(schedule(), workers) for workers in (1, 2, 4, 1000)]
    assert spent[0] == pytest.approx(sum(cost.values()))
    assert spent[-1] == pytest.approx(schedule().critical)
    assert all(schedule().critical <= time <= spent[0] for time in spent)
    assert spent[1] <= spent[0] / 2 + schedule().critical  # Graham's bound


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dask", "unknown 'dask'; there are: serial, processes"),
        ("proceses", "unknown 'proceses'; did you mean 'processes'?"),
        ("serial:workers=2", "serial takes no settings, got 'workers=2'; write serial"),
        ("processes:4", "expected processes:KEY=VALUE,..., got '4'"),
        ("processes:workers=many", "processes.workers: expected a whole number"),
        ("processes:worker=2", "processes.worker: unknown key; did you mean 'workers'?"),
        ("processes:workers=0", "processes.workers: expected a number of at least 1"),
    ],
)
def test_an_executor_that_there_is_not_is_refused(text, said, unlearnkit, tiny):
    outcome = unlearnkit("run", tiny, "--executor", text)
    assert outcome.code == Exit.USAGE
    assert f"--executor: {said}" in outcome.err


def test_torchrun_and_an_executor_are_not_for_one_run(unlearnkit, tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    outcome = unlearnkit("run", tiny, "--executor", "processes")
    assert (outcome.code, "use one of the two" in outcome.err) == (Exit.USAGE, True)


def test_a_plan_has_the_schedule_of_its_executor(unlearnkit, tiny):
    plan = json.loads(unlearnkit("plan", tiny, "--executor", "processes:workers=3", "--json").succeeded().out)
    found = plan["schedule"]
    assert found["executor"] == {"kind": "processes", "workers": 3}
    assert found["tasks"] == 5 + 6 + 2  # problems; evaluations of them and of the original; places of the dial
    assert (
        0
        < found["critical"]
        < found["makespan"] - found["begin"]
        < found["makespan"]
        < found["begin"] + found["serial"]
    )
    assert "one after the other" in unlearnkit("plan", tiny, "--executor", "processes").succeeded().out
    assert json.loads(unlearnkit("plan", tiny, "--json").succeeded().out)["schedule"] is None
