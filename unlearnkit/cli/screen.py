"""Show a run's events: bars on a terminal, plain lines elsewhere."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Speed(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Return the speed of a task."""
        return Text(f"{task.speed:.1f} steps/s" if task.speed else "", style="dim")


class Screen:
    """Tell a person how a run goes; use as a context manager, and hand `tell` to the runner."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), _Speed(),
            TimeRemainingColumn(compact=True), TextColumn("{task.fields[facts]}"), console=self.console,
        )  # fmt: skip
        self.steps = 0
        self.solved: set[str] = set()
        self.current: dict[str, Any] = {}
        """The bar of each problem that is at work, by its id."""
        self.total: Any = None
        self.epsilons: dict[str, float | None] = {}
        self.budgets: dict[str, int] = {}

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop() if self.console.is_terminal else None

    def tell(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        if show := getattr(self, f"_{event['event']}", None):
            show(event)

    def line(self, text: str) -> None:
        """Print one line above the bars."""
        if self.console.is_terminal:
            self.console.print(escape(text), highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _start(self, event: Mapping[str, Any]) -> None:
        problems, self.steps = event["problems"], event["steps"]
        self.line(f"{event['name']}: {problems} problems on a budget of {self.steps} steps on {event['device']}")
        self.total = self.bars.add_task("all problems", total=event["whole"], facts="")

    def _problem(self, event: Mapping[str, Any]) -> None:
        self.epsilons[event["id"]], self.budgets[event["id"]] = event["epsilon"], event["steps"]
        self._gone(event["id"])  # of a worker that died
        bar = self.bars.add_task(event["label"], total=event["steps"], completed=event["step"], facts="")
        self.current[event["id"]] = bar
        if not self.console.is_terminal:
            self.line(f"{event['label']}: from step {event['step']} of {event['steps']}")

    def _step(self, event: Mapping[str, Any]) -> None:
        seen = {"f1": event["f1"], "f2": event["f2"], "λ": event["lam"]}
        facts = "  ".join(f"{name} {value:.4g}" for name, value in seen.items() if value is not None)
        if (epsilon := self.epsilons[event["id"]]) is not None:
            facts += f"  gap {(event['f1'] - epsilon) / abs(epsilon):+.1%}"
        self.bars.update(self.current[event["id"]], completed=event["step"], facts=facts)
        self._count()

    def _check(self, event: Mapping[str, Any]) -> None:
        if not self.console.is_terminal:
            sets = "some images" if {"f1_within", "f2_within"} & event.keys() else "the whole sets"
            self.line(f"  step {event['step']}: {_losses(event)} on {sets}")

    def _count(self) -> None:
        done = sum(task.completed for task in self.bars.tasks if task.id in self.current.values())
        solved = sum(self.budgets.get(problem, self.steps) for problem in self.solved)
        self.bars.update(self.total, completed=solved + done)

    def _gone(self, problem: str) -> None:
        if (bar := self.current.pop(problem, None)) is not None:
            self.bars.remove_task(bar)

    def _solution(self, event: Mapping[str, Any]) -> None:
        self.solved.add(event["id"])
        self._gone(event["id"])
        self._count()
        self.line(f"{event['id']}: {_losses(event)}, {event['step']} steps ({event['ended']})")

    def _curve(self, event: Mapping[str, Any]) -> None:
        self.solved.add(event["id"])
        self._gone(event["id"])
        ends = f"f1 {event['f1'][0]:.5g} to {event['f1'][-1]:.5g}"
        self.line(f"{event['id']}: {ends} at {len(event['f1'])} places, {event['steps']} steps")

    def _kept(self, event: Mapping[str, Any]) -> None:
        if event["id"] not in self.solved:  # by a worker, just before
            self.solved.add(event["id"])
            self.line(f"{event['id']}: kept from before")

    def _taken(self, event: Mapping[str, Any]) -> None:
        if event["name"].startswith("solutions/"):
            self.solved.add(event["name"].partition("/")[2])
            self.line(f"{event['name'].partition('/')[2]}: as in {event['of']}")

    def _again(self, event: Mapping[str, Any]) -> None:
        self.line(f"{event['id']}: solved again, for this changed: {event['why']}")

    def _target(self, event: Mapping[str, Any]) -> None:
        self.line(f"{event['id']}: looking for it on the dial: {event['label']}")

    def _aimed(self, event: Mapping[str, Any]) -> None:
        wanted = "" if event["wanted"] is None else f", wanted {event['wanted']:.5g}"
        self.line(f"{event['id']}: {'met' if event['met'] else 'NOT MET'}, {event['value']:.5g}{wanted}")

    def _evaluate(self, event: Mapping[str, Any]) -> None:
        self.line(f"evaluating {event['solutions']} solutions and the original model")

    def _shadow(self, event: Mapping[str, Any]) -> None:
        self.line(f"{event['audit']}: shadow model {event['number'] + 1} of {event['of']}, trained and unlearned")

    def _audit(self, event: Mapping[str, Any]) -> None:
        self.line(f"auditing {event['models']} models: {', '.join(event['audits'])}")

    def _warning(self, event: Mapping[str, Any]) -> None:
        self.line(f"warning: {event['message']}")

    def _stopping(self, event: Mapping[str, Any]) -> None:
        with suppress(OSError):  # amid whatever else is printed, which nothing but the system call allows
            os.write(2, f"signal {event['signal']}: stopping; a second one stops at once\n".encode())

    def _finished(self, event: Mapping[str, Any]) -> None:
        self.line("the run has finished, and nothing in it has changed; change it with `--set KEY=VALUE`")
        self._done(event)

    def _done(self, event: Mapping[str, Any]) -> None:
        self.line(f"report: {event['report']}")


def _losses(event: Mapping[str, Any]) -> str:
    gap = "" if event["gap"] is None else f", gap {event['gap']:+.2%}"
    f1, f2 = (f"{name} {event[name]:.5g}{_within(event.get(f'{name}_within'))}" for name in ("f1", "f2"))
    return f"{f1}, {f2}{gap}"


def _within(half: float | None) -> str:
    """Return the half-width of an interval, where there is one."""
    return "" if half is None else f" ± {half:.2g}"
