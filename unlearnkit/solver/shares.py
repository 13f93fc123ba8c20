"""Losses as sums of parts that are always added up in the same order, whether one process has them or several do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from unlearnkit.solver import ranks

if TYPE_CHECKING:
    from unlearnkit.contracts import Loss, ModelAdapter, Part, View
    from unlearnkit.solver.flat import Flat
    from unlearnkit.solver.problem import Problem
    from unlearnkit.solver.side import Side

Step = tuple[int | None, int]
"""A step's phase and number, which say what its batch is and seed what is random in it."""
Weigh = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor]]
"""From the losses h and f to their weights (w of f, λ of h), where no w stands for 1."""


@dataclass(eq=False)
class Sum:
    """A mean loss over the batch of a step, or without one over the whole set, in `training.shards` parts."""

    side: Side
    step: Step | None = None
    precise: bool = True
    """Whether it is fp32 whatever the recipe's precision."""
    sampled: bool = False
    """Whether it is over the images of looks in place of the whole set."""
    _batches: dict[int, tuple[View, Sequence[Tensor]]] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """How many parts it has."""
        return self.side.training.shards

    def value(self) -> Tensor:
        """Return it without a gradient; that of a whole set in fp64."""
        return self.values().sum()

    def values(self) -> Tensor:
        """Return it without a gradient; that of a whole set as terms in fp64, one a chunk."""
        found = _value(_asked("value", self), self)
        assert found is not None
        return found

    def gradient(self, flat: Flat, which: int) -> tuple[Tensor, Tensor]:
        """Return it and its gradient, in buffer `which`."""
        found = _gradient(_asked("gradient", self, flat=flat), self, flat=flat, which=which)
        assert found is not None
        return found

    def terms(self, shard: int) -> Iterable[Callable[[], Tensor]]:
        """Return what adds up to one of its parts, each differentiable."""
        whole = self.step is None
        return self.side.terms(shard, self.shards, self.sampled) if whole else [partial(self.part, shard)]

    @cached_property
    def _parts(self) -> Sequence[Tensor]:
        assert self.step is not None
        return self.side.parts(self.step)

    def part(self, shard: int) -> Tensor:
        """Return one of a batch's parts, differentiable; its images are degraded once for all looks at it."""
        assert self.step is not None
        if shard not in self._batches:
            purpose = self.step if self.shards == 1 else (*self.step, "shard", shard)
            self._batches[shard] = self.side.batch(self._parts[shard], *purpose)
        weight = len(self._parts[shard]) / sum(map(len, self._parts))
        return self.side.at(*self._batches[shard], precise=self.precise) * weight


def mixed(h: Sum, f: Sum, flat: Flat, weigh: Weigh) -> tuple[Tensor, Tensor, Tensor]:
    """Return two losses and the gradient of w f + λ h, by one backward pass of each part of a batch."""
    found = _mixed(_asked("mixed", h, f, flat=flat), h, f, flat=flat, weigh=weigh)
    assert found is not None
    return found


def _asked(job: str, *sums: Sum, flat: Flat | None = None) -> bool:
    """Tell whether the other processes of the run are at the same job by now."""
    crew = sums[0].side.crew
    return crew is not None and crew.ask(job, sums, flat)


# What several processes share is done by each of them; the first one alone gets something back.


def _value(spread: bool, loss: Sum) -> Tensor | None:
    with torch.no_grad():
        if loss.step is not None:
            return ranks.total(loss.shards, lambda shard: loss.part(shard).clone(), spread)
        mine = [term().double() for shard in ranks.mine(loss.shards, spread) for term in loss.terms(shard)]
        found = torch.stack(mine) if mine else torch.zeros(0, dtype=torch.float64)
        if spread:
            every = ranks.gathered(found.tolist())
            found = torch.tensor([*chain.from_iterable(every)], dtype=found.dtype, device=loss.side.images.device)
        return found


def _gradient(spread: bool, loss: Sum, *, flat: Flat, which: int = 0) -> tuple[Tensor, Tensor] | None:
    if loss.shards == 1:
        return flat.backward(which, loss.terms(0))

    def leaf(shard: int) -> Tensor:
        total, direction = flat.backward(which, loss.terms(shard))
        return torch.cat([direction, total[None]])

    found = ranks.total(loss.shards, leaf, spread)
    return None if found is None else (found[-1], flat.gradients[which].copy_(found[:-1]))


def _mixed(
    spread: bool, h: Sum, f: Sum, *, flat: Flat, weigh: Weigh | None = None
) -> tuple[Tensor, Tensor, Tensor] | None:
    parts = {shard: (h.part(shard), f.part(shard)) for shard in ranks.mine(h.shards, spread)}
    seen = ranks.total(h.shards, lambda shard: torch.stack([part.detach() for part in parts[shard]]), spread)
    weights = weigh(*seen) if weigh is not None and seen is not None else None
    weight, lam = ranks.shared(weights, flat.theta.device) if spread else weights or (None, torch.zeros(()))

    def leaf(shard: int) -> Tensor:
        across, along = parts.pop(shard)
        _, direction = flat.backward(0, [lambda: (along if weight is None else weight * along) + lam * across])
        return direction if h.shards == 1 else direction.clone()

    found = ranks.total(h.shards, leaf, spread)
    return None if found is None or seen is None else (seen[0], seen[1], found)


JOBS: Mapping[str, Callable[..., object]] = {"value": _value, "gradient": _gradient, "mixed": _mixed}


class Address(NamedTuple):
    """What names a sum to another process."""

    set: str
    loss: int
    """The place of its loss among those of the crew."""
    step: Step | None
    precise: bool
    sampled: bool


@dataclass(frozen=True)
class Ask:
    """What the first process asks of the others: a job on sums, with a gradient of a part of the model."""

    job: str
    sums: tuple[Address, ...]
    part: Part | None


class Coming(NamedTuple):
    """The steps of which batches of a set will be asked for."""

    set: str
    phase: int | None
    numbers: range


@dataclass(frozen=True)
class Crew:
    """What the processes of a run have in common: student, sets and losses, each its own and all alike."""

    student: ModelAdapter
    flats: Mapping[Part, Flat]
    sides: Mapping[str, Side]
    losses: Sequence[Loss]
    """All that the problems of the run look at."""

    def ask(self, job: str, sums: Sequence[Sum], flat: Flat | None) -> bool:
        """Ask the others to do their parts of a job; tell whether they have what it is about, and do."""
        part = next((part for part, one in self.flats.items() if one is flat), None)
        addresses = tuple(map(self._address, sums))
        if None in addresses or (part is None and flat is not None):
            return False
        ranks.say(Ask(job, addresses, part))  # type: ignore[arg-type]
        ranks.share(self.flats["all"].theta.data)
        return True

    def _address(self, one: Sum) -> Address | None:
        place = next((place for place, loss in enumerate(self.losses) if loss is one.side.loss), None)
        if place is None or one.side.student is not self.student:
            return None
        return Address(one.side.name, place, one.step, one.precise, one.sampled)

    def work(self, asked: Ask, kept: dict[Address, Sum]) -> None:
        """Do this process's parts of what the first one asks; `kept` are the sums that were asked for before."""
        ranks.share(self.flats["all"].theta.data)
        if any(address.step != asked.sums[0].step for address in kept):
            kept.clear()
        sums = [kept.setdefault(address, self._sum(address)) for address in asked.sums]
        JOBS[asked.job](True, *sums, **({} if asked.part is None else {"flat": self.flats[asked.part].alone()}))

    def _sum(self, address: Address) -> Sum:
        side = self.sides[address.set].under(self.losses[address.loss])
        return Sum(side, address.step, address.precise, address.sampled)

    def announce(self, side: Side, phase: int | None, numbers: range) -> bool:
        """Tell the others which batches will be asked for; tell whether they share this side."""
        if side.student is not self.student:
            return False
        if not ranks.rank():
            ranks.say(Coming(side.name, phase, numbers))
        return True


def looked_at(sides: Mapping[str, Side], methods: Iterable[Problem]) -> Iterator[tuple[str, Loss]]:
    """Return each loss that a run takes steps on or looks at, with its set."""
    for name, side in sides.items():
        yield name, side.loss
    for stage in (stage for problem in methods for stage in problem.stages):
        for name, loss in (("forget", stage.forget), ("retain", stage.retain)):
            if loss is not None:
                yield name, loss
        for condition in (stage.until, stage.salient):
            if condition is not None:
                yield "forget", condition.loss


def share(
    student: ModelAdapter, flats: Mapping[Part, Flat], sides: Mapping[str, Side], methods: Iterable[Problem]
) -> None:
    """Let the processes of a run share the sums of its sides, where there are several."""
    if ranks.count() == 1:
        return
    crew = Crew(student, flats, sides, [loss for _, loss in looked_at(sides, methods)])
    for side in sides.values():
        side.crew = crew


@contextmanager
def unshared(sides: Mapping[str, Side]) -> Iterator[None]:
    """Compute the sums of a run's sides in this process alone inside the block, in the same order."""
    crew = sides["forget"].crew
    for side in sides.values():
        side.crew = None
    try:
        yield
    finally:
        for side in sides.values():
            side.crew = crew


def serve(sides: Mapping[str, Side]) -> object:
    """Do what the first process asks for, until it says something else, and return that."""
    crew, kept = sides["forget"].crew, dict[Address, Sum]()
    assert crew is not None
    with ExitStack() as stack:
        coming = {name: stack.enter_context(ExitStack()) for name in sides}
        while True:
            match word := ranks.hear():
                case Ask():
                    crew.work(word, kept)
                case Coming(name, phase, numbers):
                    coming[name].close()
                    coming[name].enter_context(sides[name].expect(phase, numbers))
                case _:
                    return word
