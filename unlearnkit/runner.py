"""One run from folder to folder: lock, signals, checkpoints, events, results."""

import fcntl
import json
import shutil
import signal
import time
import warnings as python_warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

import torch
from torch import Tensor

from unlearnkit import checkpoint, manifest
from unlearnkit.builtin.multipliers import ClosedForm
from unlearnkit.control import Multiplier
from unlearnkit.errors import Exit, Stopped, UserError
from unlearnkit.phases import Descent, Problem, Solution, budget, line_start
from unlearnkit.plugins import Plugins
from unlearnkit.recipe.recipe import Recipe
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
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists already; continue it with `unlearnkit resume {folder}`, or give another with --to",
            Exit.FOLDER,
        )
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


def resume(
    recipe: Recipe, resolved: Mapping[str, Any], folder: Path, overrides: tuple[str, ...], plugins: Plugins, tell: Tell
) -> Path:
    """Continue the run in `folder` from its last checkpoint, bit for bit unless `overrides` change the recipe."""
    with held(folder):
        run = Run(folder, plugins, tell)
        run.manifest = read_json(folder / "manifest.json")
        bench = build(recipe, Path(run.manifest["base"]))
        for what, found in bench.facts.items():
            if found != run.manifest[what]:
                raise UserError(f"{folder}: the {what} changed since the run began; run the recipe again", Exit.FOLDER)
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
    epsilons = len(recipe.epsilons.fractions or recipe.epsilons.values or ())
    solutions = 2 + epsilons + len(recipe.compare)
    vectors = solutions + 3 * (checkpoint.KEPT + 1)
    pictures = 2 * (solutions + 3) * recipe.evaluate.images * 3 * bench.student.image_size**2
    return bench.flat.theta.numel() * 4 * vectors + 4 * pictures + 2**20


def _work(run: Run, bench: Workbench) -> None:
    """Solve every problem that is not solved yet, evaluate, and write results and report."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    with signals(run), python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        recipe = bench.recipe
        steps = budget(recipe.training, bench.sides["forget"].count, bench.sides["retain"].count)
        count = 2 + len(recipe.epsilons.fractions or recipe.epsilons.values or ()) + len(recipe.compare)
        run.event("start", name=recipe.name, problems=count, steps=steps, device=str(bench.device))
        solutions = {
            problem.id: solve(run, bench, problem, ClosedForm(), bench.origin, steps) for problem in boundaries(recipe)
        }
        lowest, highest = solutions[HIGHEST].last.f1, solutions[LOWEST].last.f1
        if not lowest < highest:
            raise UserError(
                f"phase 1 found no range of ε: f1 is {lowest:.6g} at the highest completeness and {highest:.6g} at the "
                f"lowest; give training more steps or a larger control.boundary.alpha",
                Exit.DIVERGED,
            )
        inside, outside = epsilon_problems(recipe, lowest, highest)
        for entry in outside:
            run.event("warning", message=f"ε = {entry['epsilon']} was not run: {entry['reason']}")
        if not inside:
            raise UserError(
                f"epsilons.values: none is inside the valid range {lowest:.6g} to {highest:.6g}; give values in it, or "
                f"fractions. The boundary solutions are saved in {run.folder}",
                Exit.RECIPE,
            )
        ends = solutions[HIGHEST].theta, solutions[LOWEST].theta
        for problem in inside:
            assert problem.epsilon is not None
            begin = line_start(bench.flat, bench.sides["forget"], *ends, problem.epsilon)
            rule = recipe.control.multiplier.build()
            solutions[problem.id] = solve(run, bench, problem, rule, begin, steps)
        for number, method in enumerate(recipe.compare):
            knobs = ", ".join(f"{name} = {value}" for name, value in method if name != "kind")
            problem = Problem(
                f"method-{number}", method.kind, None, f"{method.kind} {knobs}".strip(), "retain",
                recipe.control.epsilon.build(),
            )  # fmt: skip
            solutions[problem.id] = solve(run, bench, problem, method.build(), bench.origin, steps)
        run.event("evaluate", solutions=len(solutions))

        def evaluated(solution: str) -> None:
            run.event("evaluated", id=solution)
            run.check_signal()

        results = collect(run.folder, bench, list(solutions.values()), (lowest, highest), outside, evaluated)
        checkpoint.write_json(run.folder / "results.json", results)
        run.manifest["finished"] = manifest.now()
        run.save_manifest()
        from unlearnkit.report import write

        with checkpoint.disk_errors(run.folder / "report.html"):
            write(run.folder)
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
        run.event("done", report=str(run.folder / "report.html"))


def boundaries(recipe: Recipe) -> list[Problem]:
    """Return the two problems of phase 1."""
    control, method = recipe.control, "epsilon-constraint"
    highest, lowest = control.boundary.build(), (control.lowest or control.boundary).build()
    return [
        Problem(HIGHEST, method, 1, "highest completeness", "retain", highest),
        Problem(LOWEST, method, 1, "lowest completeness", "forget", lowest),
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
            label = f"ε = {epsilon:.4g} ({fraction:.0%})"
            psi = recipe.control.epsilon.build()
            inside.append(
                Problem(
                    f"epsilon-{len(inside)}", "epsilon-constraint", 2, label, "retain", psi, epsilon, round(fraction, 6)
                )
            )
        else:
            where = "below" if epsilon < lowest else "above"
            reason = f"{where} the valid range {lowest:.6g} to {highest:.6g}"
            outside.append({"epsilon": epsilon, "reason": reason})
    return inside, outside


def solve(run: Run, bench: Workbench, problem: Problem, rule: Multiplier, begin: Tensor, steps: int) -> Solution:
    """Return the solution of a problem: from its folder, or by descending from `begin` or the last checkpoint."""
    folder = run.folder / "solutions" / problem.id
    if folder.exists():
        tensors, facts = checkpoint.read(folder)
        return Solution(problem, tensors["theta"].to(bench.device), facts)
    began = time.monotonic()
    bench.flat.set(begin)
    frozen = bench.frozen_digest()
    descent = Descent(
        problem, rule, bench.flat, bench.sides["forget"], bench.sides["retain"], bench.recipe.training, steps
    )
    checkpoints = run.folder / "checkpoints" / problem.id
    found = checkpoint.newest(checkpoints, run.warn)
    if found is not None:
        descent.load(*found)
    elif rule.joint:
        descent.warm(descent.check())
    run.event("problem", id=problem.id, label=problem.label, epsilon=problem.epsilon, step=descent.done, steps=steps)
    _descend(run, bench, descent, checkpoints)
    facts = {
        "steps": descent.done,
        "ended": "satisfied" if descent.converged() else "budget",
        "frozen_unchanged": bench.frozen_digest() == frozen,
        **descent.state()[1],
    }
    theta = bench.flat.theta.detach().clone()
    checkpoint.write(folder, {"theta": theta}, facts)
    spent = run.manifest["times"].get(problem.id, 0.0) + time.monotonic() - began
    run.manifest["times"][problem.id] = round(spent, 2)
    run.save_manifest()
    shutil.rmtree(checkpoints, ignore_errors=True)
    solution = Solution(problem, theta, facts)
    run.event("solution", id=problem.id, ended=facts["ended"], **facts["checks"][-1])
    if (shortfall := solution.shortfall()) is not None:
        run.event("warning", message=shortfall)
    run.check_signal()
    return solution


def _descend(run: Run, bench: Workbench, descent: Descent, checkpoints: Path) -> None:
    """Step until the problem is done, checking, telling and saving on the way."""
    every = bench.recipe.training.checkpoint_every
    while descent.done < descent.steps and not descent.converged():
        descent.step()
        if descent.due():
            check = descent.check()
            run.event("check", id=descent.problem.id, **vars(check))
        if (point := descent.latest()) is not None:
            run.event("step", id=descent.problem.id, **point)
        if run.stop_signal is not None or descent.done % every == 0:
            checkpoint.write(checkpoints / f"step-{descent.done:09d}", *descent.state())
            checkpoint.rotate(checkpoints)
        run.check_signal()
