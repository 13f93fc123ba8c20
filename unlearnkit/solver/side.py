"""One of the two losses on its training set, with what is frozen in it kept."""

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearnkit.contracts import Loss, ModelAdapter, Task, View, draws
from unlearnkit.contracts.checks import rows as rowed
from unlearnkit.contracts.checks import scalar
from unlearnkit.data import Pixels, batch_index, batch_of, seeded
from unlearnkit.recipe.training import Training
from unlearnkit.solver.frozen import Rows, Store, joined
from unlearnkit.solver.looks import half_width, parted
from unlearnkit.solver.ranks import mine
from unlearnkit.solver.shares import Step, Sum

if TYPE_CHECKING:
    from unlearnkit.solver.shares import Crew

CHUNK = 128
"""Images of one pass where a whole set is looked at."""


class Side:
    """One of the two losses on its training set: f1 on the forget set or f2 on the retain set."""

    def __init__(
        self, name: str, loss: Loss, images: Pixels, task: Task, student: ModelAdapter, seed: int, training: Training,
        store: Store | None = None,
    ) -> None:  # fmt: skip
        """Keep what is frozen in `store`; without one it is computed at every step again."""
        self.name, self.loss, self.images, self.task, self.student = name, loss, images, task, student
        self.seed, self.training, self.store = seed, training, store
        self.passes: Counter[str] = Counter() if store is None else store.passes
        self.count = len(images)
        self.crew: Crew | None = None
        """Who shares its sums, where several processes do."""
        self.fixed = task.fixed and training.crop is None
        """Whether an image is degraded in the same way at every step, so that its first stage lasts the whole run."""
        self.lasting = self.fixed and not draws(student) and loss.fixed and loss.reads_reference
        """Whether an image has one target for the whole run."""

    @cached_property
    def stages(self) -> Rows | None:
        """The first stage's outputs of all images, each made at its first use, where they last and there is room."""
        return self._kept("first-stage", self._stage_of) if self.fixed and self.student.first is not None else None

    @cached_property
    def targets(self) -> Rows | None:
        """The targets of all images, each made at its first use, where they last and there is room."""
        return self._kept("reference", self._target_of) if self.lasting else None

    def _kept(self, what: str, compute: Callable[[int], Sequence[Tensor]]) -> Rows | None:
        def made(rows: Tensor) -> Iterator[Sequence[Tensor]]:
            self.images.hold(rows)
            with self.images.expect(rows.split(1)) if len(rows) > 1 else nullcontext():
                yield from map(compute, rows.tolist())

        return None if self.store is None else self.store.rows(f"{self.name}-{what}", self.count, made)

    @cached_property
    def distance(self) -> Callable[[ModelAdapter, View, Sequence[Tensor]], Tensor]:
        """The loss of a batch in a step."""
        if not self.training.compile:
            return self.loss.distance
        # That a step is compiled in parts is no news to the user.
        torch._logging.set_logs(all=logging.ERROR)  # type: ignore[attr-defined]
        return torch.compile(self.loss.distance)

    def under(self, loss: Loss, student: ModelAdapter | None = None) -> "Side":
        """Return the same set under another loss and for another student, or this side itself under its own.

        What is kept of the first stage serves both; targets of the other loss are not kept.
        """
        if loss is self.loss and student is None:
            return self
        side = copy.copy(self)
        side.loss, side.lasting, side.student = loss, False, student or self.student
        side.stages, side.targets = self.stages, None
        side.__dict__.pop("distance", None)
        return side

    def anew(self, seed: int | None, settings: Mapping[str, object]) -> "Side":
        """Return the same loss for steps of a seed and settings of their own, which one process takes alone."""
        side = copy.copy(self)
        side.training = self.training.model_copy(update=dict(settings))
        side.seed, side.crew = self.seed if seed is None else seed, None
        side.fixed = self.task.fixed and side.training.crop is None
        side.lasting, side.stages, side.targets = False, self.stages if side.fixed else None, None
        side.__dict__.pop("distance", None)
        return side

    def parts(self, step: Step) -> Sequence[Tensor]:
        """Return the rows of a step's batch in the parts that it is computed in."""
        phase, number = step
        rows = batch_index(number, self.count, self.training.batch_size, self.seed, phase, self.name)
        return rows.tensor_split(self.training.shards)

    @contextmanager
    def expect(self, phase: int | None, numbers: range) -> Iterator[None]:
        """Decode the batches of steps to come ahead of time inside the block, where memory does not hold them."""
        own = mine(self.training.shards, self.crew is not None and self.crew.announce(self, phase, numbers))
        steps = (self.parts((phase, number)) for number in numbers)
        with self.images.expect(parts[shard] for parts in steps for shard in own):
            yield

    def view(self, rows: Tensor, *purpose: object) -> View:
        """Return T(x) of `rows`, with the first stage's output; `purpose` seeds what is random in it."""
        bare = self._bare(rows, *purpose)
        if self.student.first is None:
            return bare
        if self.stages is not None:
            stage = self.stages[rows]
        elif self.fixed:
            stage = joined([self._stage_of(row) for row in rows.tolist()])
        else:
            stage = self._stage(bare)
        return replace(bare, stage=stage)

    def _bare(self, rows: Tensor, *purpose: object) -> View:
        generator = seeded(self.seed, self.name, *purpose)
        return batch_of(self.student, self.task, self.images, rows, self.training.crop, generator)

    def _stage(self, bare: View) -> tuple[Tensor, ...]:
        self.passes[f"{self.name} train: first stage"] += len(bare.images)
        with torch.no_grad():
            stage = self.student.first_stage(bare)
            return tuple(rowed(stage, len(bare.images), self.student, "first_stage", "model"))

    def _stage_of(self, row: int) -> tuple[Tensor, ...]:
        return self._stage(self._bare(torch.tensor([row]), "frozen"))

    def _target(self, view: View, generator: torch.Generator) -> Sequence[Tensor]:
        self.passes[f"{self.name} train: reference"] += len(view.images) if self.loss.reads_reference else 0
        with torch.no_grad():
            return rowed(self.loss.target(view, generator), len(view.images), self.loss, "target", self.name)

    def _target_of(self, row: int) -> Sequence[Tensor]:
        return self._target(self.view(torch.tensor([row]), "frozen"), seeded(self.seed, self.name, "frozen"))

    def target(self, view: View, rows: Tensor, *purpose: object) -> Sequence[Tensor]:
        """Return the targets of `rows` under the view of them."""
        if self.targets is not None:
            return self.targets[rows]
        if self.lasting:
            return joined([self._target_of(row) for row in rows.tolist()])
        return self._target(view, seeded(self.seed, self.name, "target", *purpose))

    def value(self, rows: Tensor, *purpose: object, precise: bool = False) -> Tensor:
        """Return the mean loss over `rows`, differentiable; `purpose` seeds what is random in it."""
        return self.at(*self.batch(rows, *purpose), precise=precise)

    def batch(self, rows: Tensor, *purpose: object) -> tuple[View, Sequence[Tensor]]:
        """Return T(x) and the targets of `rows`: all of the loss that the student's weights do not change."""
        view = self.view(rows, *purpose)
        return view, self.target(view, rows, *purpose)

    def at(self, view: View, target: Sequence[Tensor], precise: bool = False) -> Tensor:
        """Return the mean loss over a batch, differentiable; `precise` is fp32 whatever the recipe's precision."""
        with self._autocast(precise):
            return scalar(self.distance(self.student, view, target), self.loss, "distance", self.name)

    def _autocast(self, precise: bool) -> AbstractContextManager[object]:
        if precise or self.training.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.images.device.type, torch.bfloat16)

    def sum(self, phase: int | None, number: int, precise: bool = False) -> Sum:
        """Return the mean loss over the batch of a step; `precise` is as for `at`."""
        return Sum(self, (phase, number), precise)

    def whole(self) -> Sum:
        """Return the loss on the whole set, in fp32."""
        return Sum(self)

    def look(self) -> Sum:
        """Return the same on the images of `training.look`, or where it names no fewer on all."""
        return Sum(self, sampled=self.sampled)

    @property
    def sampled(self) -> bool:
        """Whether looks are at some of the images."""
        return self.training.look is not None and self.training.look.images < self.count

    def pieces(self, sampled: bool = False) -> Sequence[Tensor]:
        """Return the rows of a pass over the whole set, or over the images of looks, in chunks."""
        if not sampled:
            return torch.arange(self.count).split(CHUNK)
        assert self.training.look is not None
        drawn = torch.randperm(self.count, generator=seeded(self.seed, self.name, "look"))
        return parted(drawn[: self.training.look.images], CHUNK)

    def terms(self, shard: int = 0, shards: int = 1, sampled: bool = False) -> Iterator[Callable[[], Tensor]]:
        """Yield the loss on the whole set as a sum of terms in fp32, one a chunk: those of one of so many shards."""
        pieces = self.pieces(sampled)
        numbers, rows = torch.arange(len(pieces)).tensor_split(shards)[shard].tolist(), sum(map(len, pieces))
        with self.images.expect(pieces[number] for number in numbers):
            for number in numbers:
                yield partial(self._term, pieces[number], "look" if sampled else "check", number, rows)

    def _term(self, rows: Tensor, purpose: str, number: int, count: int) -> Tensor:
        loss = self.loss.distance(self.student, *self.batch(rows, purpose, number))
        return scalar(loss, self.loss, "distance", self.name) * (len(rows) / count)

    def exact(self) -> float:
        """Return the loss on the whole set, in fp32."""
        return float(self.whole().value())

    def seen(self) -> tuple[float, float | None]:
        """Return the loss on the images of looks, and the half-width of its interval; None where these are all."""
        if not self.sampled:
            return self.exact(), None
        terms, sizes = self.look().values().cpu(), torch.tensor([*map(len, self.pieces(True))]).double()
        return float(terms.sum()), half_width(terms * sizes.sum() / sizes, sizes, self.count)
