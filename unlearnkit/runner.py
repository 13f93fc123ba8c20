"""One run from folder to folder: lock, signals, checkpoints, events, results."""

import fcntl
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

import torch
from torch import Tensor

from unlearnkit import checkpoint, manifest, memory
from unlearnkit.builtin.multipliers import ClosedForm
from unlearnkit.cache import MIB, Store
from unlearnkit.cells import audited
from unlearnkit.errors import Exit, Stopped, UserError, first_line
from unlearnkit.phases import Descent, End, Leg, Problem, Solution, between, epsilon_steps
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Continuation, Independent, Recipe
from unlearnkit.recipe.sections import label
from unlearnkit.report import write as write_report
from unlearnkit.results import collect
from unlearnkit.workbench import Workbench, build

Tell = Callable[[Mapping[str, Any]], None]
HIGHEST, LOWEST = "boundary-highest", "boundary-lowest"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Run:
    """A run folder that this process holds: where events, checkpoints and solutions go."""

    def __init__(self, folder: Path, plugins: Plugins, tell: Tell) -> None:
        self.folder, self.tell = folder, tell
        self.stop_signal: int | None = None
        self.manifest: dict[str, Any] = {}
        described = {"folder": str(folder)}
        self._observers = [observer for observer in plugins.hook.observe_run(run=described) if observer]
        self._events: IO[str] | None = None

    def event(self, kind: str, **facts: object) -> None:
        """Record one event and tell the observers, each a copy; an observer that fails is dropped with a warning."""
        record = {"time": round(time.time(), 3), "event": kind, **facts}
        if self._events is None:
            self._events = (self.folder / "events.jsonl").open("a", encoding="utf-8")
        with checkpoint.disk_errors(self.folder / "events.jsonl"):
            self._events.write(json.dumps(record) + "\n")
            self._events.flush()
        self.tell(dict(record))
        for observer in list(self._observers):
            try:
                observer(json.loads(json.dumps(record)))
            except Exception as error:  # an observer is told, and cannot stop the run
                self._observers.remove(observer)
                self.warn(f"an observer failed and was dropped: {type(error).__name__}: {error}")

    def warn(self, message: str) -> None:
        """Give one warning line, in the events, the manifest and the report."""
        self.manifest.setdefault("warnings", []).append(message)
        self.event("warning", message=message)

    def save_manifest(self) -> None:
        """Write the manifest."""
        checkpoint.write_json(self.folder / "manifest.json", self.manifest)

    def check_signal(self) -> None:
        """Raise `Stopped` if a signal has come; call it where all is saved."""
        if self.stop_signal is not None:
            self.event("stopped", signal=self.stop_signal)
            raise Stopped(self.stop_signal)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the system frees even when the process is killed."""
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder}: another process is working in this run folder; wait for it", Exit.FOLDER
            ) from None
        yield


@contextmanager
def signals(run: Run) -> Iterator[None]:
    """Turn the first signal into a request to save and stop; the second one stops at once."""

    def request(number: int, frame: FrameType | None) -> None:
        run.stop_signal = number
        for found in SIGNALS:
            signal.signal(found, before[found])

    before = {found: signal.getsignal(found) for found in SIGNALS}
    try:
        for found in SIGNALS:
            signal.signal(found, request)
        yield
    finally:
        for found in SIGNALS:
            signal.signal(found, before[found])


def start(
    recipe: Recipe, text: str, resolved: Mapping[str, Any], base: Path, folder: Path, plugins: Plugins, tell: Tell
) -> Path:
    """Run a recipe in a new folder and return the folder; relative paths of the recipe start at `base`."""
    refuse_used(folder)
    bench = build(recipe, base)
    _room(bench, folder)
    with checkpoint.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with held(folder):
        run = Run(folder, plugins, tell)
        run.manifest = manifest.describe(bench, plugins, text, base)
        checkpoint.write_file(folder / "recipe.yaml", text.encode())
        checkpoint.write_json(folder / "recipe.resolved.json", resolved)
        run.save_manifest()
        _work(run, bench)
    return folder


def refuse_used(folder: Path) -> None:
    """Raise `UserError` where a new run would write over something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists already; continue it with `unlearnkit resume {folder}`, or give another with --to",
            Exit.FOLDER,
        )


def resume(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell
) -> Path:
    """Continue the run in `folder` from its last checkpoint, bit for bit unless `overrides` change the recipe."""
    with held(folder):
        run = Run(folder, plugins, tell)
        run.manifest = read_json(folder / "manifest.json")
        bench = build(recipe, Path(run.manifest["base"]))
        for what, found in bench.facts.items():
            if found != run.manifest.get(what):
                named = what.replace("_", " ")
                raise UserError(f"{folder}: the {named} changed since the run began; run the recipe again", Exit.FOLDER)
        if overrides:
            checkpoint.write_json(folder / "recipe.resolved.json", resolved)
        run.manifest["resumed"].append({"time": manifest.now(), "set": list(overrides)})
        run.save_manifest()
        for changed in (entry["set"] for entry in run.manifest["resumed"] if entry["set"]):
            run.warn(f"resumed with {', '.join(changed)}: solutions found before used the old value")
        _work(run, bench)
    return folder


def read_json(path: Path) -> Any:
    """Return a JSON file of a run folder; raise `UserError` where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise UserError(
            f"{path.parent}: this is no run folder with a readable {path.name}; give one that `unlearnkit run` wrote",
            Exit.FOLDER,
        ) from None


def _room(bench: Workbench, folder: Path) -> None:
    """Refuse to start where the disk cannot hold the run."""
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    needed, free = disk_bytes(bench), shutil.disk_usage(parent).free
    if needed > free:
        raise UserError(
            f"{folder}: the run needs about {needed / 2**20:.0f} MiB and the disk has {free / 2**20:.0f} MiB; free "
            f"some space or give a folder on another disk with --to",
            Exit.FOLDER,
        )


def disk_bytes(bench: Workbench) -> int:
    """Return about how much the run folder grows to: one vector a solution, three a checkpoint, pictures."""
    recipe = bench.recipe
    solutions = problem_count(recipe)
    parts = [recipe.model.train] * (solutions - len(bench.methods))
    parts += [method.part or recipe.model.train for method, _ in bench.methods]
    sizes = [bench.flats[part].theta.numel() for part in parts]
    pictures = 2 * (solutions + 3) * recipe.evaluate.images * 3 * bench.student.image_size**2
    return 4 * (sum(sizes) + 3 * (checkpoint.KEPT + 1) * max(sizes)) + 4 * pictures + 2**20


def _work(run: Run, bench: Workbench) -> None:
    """Solve every problem that is not solved yet, evaluate, and write results and report."""
    recipe = bench.recipe
    with signals(run), device_errors():
        run.event(
            "start", name=recipe.name, problems=problem_count(recipe), steps=bench.steps, device=str(bench.device)
        )
        _prepare(run, bench)
        bounds = bound(run, bench)
        found, outside = sweep(run, bench, bounds)
        solutions = [bounds.highest, bounds.lowest, *found]
        for problem, (_, stages) in zip(method_problems(recipe), bench.methods, strict=True):
            legs = bench.legs(stages, problem.part, problem.id)
            solutions.append(solve(run, bench, problem, legs, partial(bench.original, problem.part)))
        _finish(run, bench, solutions, bounds.range, outside)


@dataclass(frozen=True)
class Bounds:
    """The boundary solutions."""

    highest: Solution
    lowest: Solution

    @property
    def range(self) -> tuple[float, float]:
        """The valid range of ε: f1 at the highest completeness and at the lowest. Raises `UserError` for none."""
        least, most = self.highest.last.f1, self.lowest.last.f1
        if not least < most:
            raise UserError(
                f"phase 1 found no range of ε: f1 is {least:.6g} at the highest completeness and {most:.6g} at the "
                f"lowest; give training more steps or a larger control.boundary.alpha",
                Exit.DIVERGED,
            )
        return least, most


def bound(run: Run, bench: Workbench) -> Bounds:
    """Return phase 1."""
    return Bounds(
        *(
            solve(run, bench, problem, [Leg(bench.sides, ClosedForm(), bench.steps)], lambda: bench.origin)
            for problem in boundaries(bench.recipe)
        )
    )


def sweep(run: Run, bench: Workbench, bounds: Bounds) -> tuple[list[Solution], list[dict[str, object]]]:
    """Return phase 2: the solution of each ε inside the valid range, and each ε outside of it with its reason.

    Raises `UserError` where no ε is inside.
    """
    recipe, (least, most) = bench.recipe, bounds.range
    inside, outside = epsilon_problems(recipe, least, most)
    for entry in outside:
        run.event("warning", message=f"ε = {entry['epsilon']} was not run: {entry['reason']}")
    if not inside:
        raise UserError(
            f"epsilons.values: none is inside the valid range {least:.6g} to {most:.6g}; give values in "
            f"it, or fractions. The boundary solutions are saved in {run.folder}",
            Exit.RECIPE,
        )
    ends = (bounds.highest.end, bounds.lowest.end) if recipe.control.landing == "line" else None
    found: dict[str, Solution] = {}
    for number, problem in enumerate(in_order(recipe.sweep, inside)):
        begin = partial(start_of, bench, problem, bounds, list(found.values()))
        leg = Leg(bench.sides, recipe.control.multiplier.build(), epsilon_steps(recipe.sweep, bench.steps, number))
        found[problem.id] = solve(run, bench, problem, [leg], begin, ends)
    return [found[problem.id] for problem in inside], outside


def _prepare(run: Run, bench: Workbench) -> None:
    """Compute once what is frozen, and say where it is kept."""
    room = bench.recipe.training.cache
    store = Store(
        run.folder / "cache", room.memory_mib * MIB, room.disk_mib * MIB, bench.identity, bench.device
    )  # fmt: skip
    for side in bench.sides.values():
        side.prepare(store)
    for name, facts in store.kept.items():
        run.event("cache", name=name, **facts)
        if facts["where"] == "nowhere":
            run.warn(
                f"{name} needs {facts['mib']} MiB, more than training.cache has: it is computed at every step again"
            )


def _finish(
    run: Run,
    bench: Workbench,
    solutions: list[Solution],
    bounds: tuple[float, float],
    outside: list[dict[str, object]],
) -> None:
    """Evaluate the solutions and write results and report."""

    def evaluated(solution: str) -> None:
        run.event("evaluated", id=solution)
        run.check_signal()

    def found(audit: str, model: str) -> None:
        run.event("audited", audit=audit, id=model)
        run.check_signal()

    run.event("evaluate", solutions=len(solutions))
    with checkpoint.disk_errors(run.folder):
        results = collect(run.folder, bench, solutions, bounds, outside, evaluated)
        if bench.audits:
            run.event("audit", audits=list(bench.audits), models=len(solutions) + 1)
        results["audits"] = audited(run.folder, bench, solutions, found, run.check_signal)
        checkpoint.write_json(run.folder / "results.json", results)
        run.manifest["finished"] = manifest.now()
        run.save_manifest()
        write_report(run.folder)
    for leftover in ("checkpoints", "cache"):
        shutil.rmtree(run.folder / leftover, ignore_errors=True)
    run.event("passes", **bench.sides["forget"].store.passes)
    run.event("done", report=str(run.folder / "report.html"))


@contextmanager
def device_errors() -> Iterator[None]:
    """Turn a lack of memory, and a step that cannot be compiled, into one message."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(
            f"out of memory ({str(error).partition('. ')[0] or 'on the host'}); lower training.batch_size and resume, "
            f"or use another device",
            Exit.DEVICE,
        ) from None
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        raise UserError(
            f"training.compile: a step cannot be compiled here ({first_line(error)}); resume with "
            f"--set training.compile=false",
            Exit.DEVICE,
        ) from None


def in_order(sweep: Independent | Continuation, problems: list[Problem]) -> list[Problem]:
    """Return the problems of phase 2, given by ascending ε, in the order in which a sweep solves them."""
    tightens = isinstance(sweep, Continuation) and sweep.direction == "tighten"
    return problems[::-1] if tightens else problems


def start_of(bench: Workbench, problem: Problem, bounds: Bounds, before: Sequence[Solution]) -> Tensor:
    """Return the weights that an ε starts from, where `before` are the solutions that its sweep has found so far."""
    sweep, highest = bench.recipe.sweep, bounds.highest
    if isinstance(sweep, Continuation):
        last = before[-1] if before else None
        if sweep.direction == "relax":
            return (last or highest).theta
        loose = last or bounds.lowest
    elif sweep.start == "line":
        loose = bounds.lowest
    else:
        return bench.origin if sweep.start == "original" else highest.theta
    return between(bench.flat, bench.sides["forget"], highest.end, loose.end, problem.epsilon or 0.0)


def problem_count(recipe: Recipe) -> int:
    """Return how many problems a recipe has: two boundaries, each ε, each method."""
    return 2 + len(recipe.epsilons.fractions or recipe.epsilons.values or ()) + len(method_problems(recipe))


def boundaries(recipe: Recipe) -> list[Problem]:
    """Return the two problems of phase 1."""
    control, method, part = recipe.control, "epsilon-constraint", recipe.model.train
    highest, lowest = control.boundary.build(), (control.lowest or control.boundary).build()
    return [
        Problem(HIGHEST, method, 1, "highest completeness", "retain", highest, part=part),
        Problem(LOWEST, method, 1, "lowest completeness", "forget", lowest, part=part),
    ]


def method_problems(recipe: Recipe) -> list[Problem]:
    """Return the neighbouring methods of a recipe, one for each value of what they sweep, as problems without ε."""
    psi = recipe.control.epsilon.build()
    return [
        Problem(f"method-{number}", one.kind, None, label(one), "retain", psi, part=one.part or recipe.model.train)
        for number, one in enumerate(one for method in recipe.compare for one in method.each())
    ]


def epsilon_problems(recipe: Recipe, lowest: float, highest: float) -> tuple[list[Problem], list[dict[str, object]]]:
    """Return the problems of phase 2 by ascending ε, and each ε outside the valid range with its reason."""
    fractions, values = recipe.epsilons.fractions, recipe.epsilons.values
    wanted = (
        [(fraction, lowest + fraction * (highest - lowest)) for fraction in sorted(fractions)]
        if fractions
        else [((value - lowest) / (highest - lowest), value) for value in sorted(values or ())]
    )
    inside: list[Problem] = []
    outside: list[dict[str, object]] = []
    for fraction, epsilon in wanted:
        if lowest <= epsilon <= highest:
            title, number, place = f"ε = {epsilon:.4g} ({fraction:.0%})", f"epsilon-{len(inside)}", round(fraction, 6)
            psi, part = recipe.control.epsilon.build(), recipe.model.train
            inside.append(
                Problem(number, "epsilon-constraint", 2, title, "retain", psi, epsilon, place, part),
            )
        else:
            where = "below" if epsilon < lowest else "above"
            reason = f"{where} the valid range {lowest:.6g} to {highest:.6g}"
            outside.append({"epsilon": epsilon, "reason": reason})
    return inside, outside


def solve(
    run: Run,
    bench: Workbench,
    problem: Problem,
    legs: Sequence[Leg],
    begin: Callable[[], Tensor],
    ends: tuple[End, End] | None = None,
) -> Solution:
    """Return the solution of a problem: from its folder, or by descending from `begin()` or the last checkpoint.

    With the `ends` of the highest and the lowest completeness it lands on its ε (`Descent.land`).
    """
    folder = run.folder / "solutions" / problem.id
    if folder.exists():
        tensors, facts = checkpoint.read(folder)
        run.event("kept", id=problem.id)
        return Solution(problem, tensors["theta"].to(bench.device), facts)
    began = time.monotonic()
    memory.reset_peak(bench.device)
    origin = bench.original(problem.part)
    bench.put(problem.part, origin)
    flat, sides = bench.flats[problem.part].alone(), bench.sides
    descent = Descent(problem, legs, flat, sides["forget"], sides["retain"], bench.recipe.training, origin)
    checkpoints = run.folder / "checkpoints" / problem.id
    found = checkpoint.newest(checkpoints, run.warn)
    if found is not None:
        descent.load(*found)
    else:
        descent.begin(begin())
        if (rule := descent.leg.rule) is not None and rule.joint:
            descent.warm(descent.check())
    run.event(
        "problem", id=problem.id, label=problem.label, epsilon=problem.epsilon, step=descent.done, steps=descent.steps
    )
    _descend(run, bench, descent, checkpoints, ends)
    facts = {
        "steps": descent.done,
        "ended": _ended(descent),
        "landing": descent.landing,
        "own_losses": any(side is not bench.sides[name] for leg in legs for name, side in leg.sides.items()),
        "frozen_unchanged": bench.frozen_digest(problem.part) == bench.frozen[problem.part],
        **descent.state()[1],
    }
    theta = flat.theta.detach().clone()
    checkpoint.write(folder, {"theta": theta}, facts)
    spent = run.manifest["times"].get(problem.id, 0.0) + time.monotonic() - began
    run.manifest["times"][problem.id] = round(spent, 2)
    run.manifest["costs"][problem.id] = {"images": descent.images_read(), "peak_mib": memory.peak(bench.device)}
    run.save_manifest()
    shutil.rmtree(checkpoints, ignore_errors=True)
    solution = Solution(problem, theta, facts)
    run.event("solution", id=problem.id, ended=facts["ended"], **facts["checks"][-1])
    if (shortfall := solution.shortfall()) is not None:
        run.event("warning", message=shortfall)
    run.check_signal()
    return solution


def _descend(run: Run, bench: Workbench, descent: Descent, checkpoints: Path, ends: tuple[End, End] | None) -> None:
    """Step until the problem is done, checking, telling and saving on the way, and land on ε."""
    every = bench.recipe.training.checkpoint_every

    def check() -> None:
        run.event("check", id=descent.problem.id, **vars(descent.check()))

    while not descent.converged() and descent.advance():
        with descent.decoding():
            place = descent.place
            while not descent.converged() and descent.advance() and descent.place == place:
                descent.step()
                # The check at the end comes after landing.
                if descent.due() and descent.done < descent.steps:
                    check()
                if (point := descent.latest()) is not None:
                    run.event("step", id=descent.problem.id, **point)
                if run.stop_signal is not None or descent.done % every == 0:
                    checkpoint.write(checkpoints / f"step-{descent.done:09d}", *descent.state())
                    checkpoint.rotate(checkpoints)
                run.check_signal()
    moved = ends is not None and descent.land(*ends)
    if moved or not descent.checks or descent.checks[-1].step != descent.done:
        check()


def _ended(descent: Descent) -> str:
    if descent.converged():
        return "satisfied"
    return "stopped" if descent.ends and descent.ends[-1]["stopped"] else "budget"
