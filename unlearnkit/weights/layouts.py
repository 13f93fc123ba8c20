"""From what files hold to the one table of tensors that a model wants, whatever stands before its names."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from unlearnkit.errors import UserError, first_line
from unlearnkit.weights.reading import held, there

FILE = re.compile(
    r"(?P<stem>[^.].*?)(?:\.(?P<variant>[^.]+))?\.(?P<suffix>safetensors|bin|pth|pt|ckpt)"
    r"(?P<index>\.index(?:\.(?P<other>[^.]+))?\.json)?"
)
"""A file of weights or an index of shards; a variant is told before the suffix, and of an index at its end too."""
SHARD = re.compile(r".+-\d{5}-of-\d{5}")
SUFFIXES = ("safetensors", "bin", "pth", "pt", "ckpt")
"""Files of weights in a folder, those to be preferred first."""
STEMS = ("model", "diffusion_pytorch_model", "pytorch_model")
"""How the weights of a folder are called where other tables stand beside them."""
AVERAGED = re.compile(r"(?:^|[._-])(?:ema|swa|averaged|shadow)(?:[._-]|$)", re.IGNORECASE)
"""Keys and prefixes of averages, which are taken where nothing else fits."""
WRAPPER = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What DDP, torch.compile, FSDP and activation checkpointing put into names, at any place."""
NESTED = 8
"""Levels of keys that tables are looked for under."""
SHOWN = 5
"""Tables named of many."""

_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


@contextmanager
def noted(notes: list[str] | None = None) -> Iterator[list[str]]:
    """Yield `notes`, or a new list, to which `read` adds a line wherever it took other names or tables than written.

    A block around this one has them too.
    """
    outer, notes = _NOTES.get(), [] if notes is None else notes
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)
        if outer is not None:
            outer += [line for line in notes if line not in outer]


def read(path: Path, *wanted: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors of a file or folder under the names that a model wants, floats in fp32 or wider.

    `wanted` are names that the model cannot do without, in alternatives. The first alternative counts that is there as
    a whole, under any key and behind any prefix, and then one that is there for the most part; all tensors beside it
    are returned, without key and prefix. Without `wanted`, or where nothing fits, the only table is returned as it is,
    or that under `model` or `state_dict`. A folder has one file of weights, or an index and its shards; a variant is
    read where it is alone. Raise `UserError` for what `held` refuses, for a folder without weights, and where several
    tables fit or none of several.
    """
    content = _in_folder(path) if path.is_dir() else held(path)
    tables = dict(_tables(content, (), set()))
    if not tables:
        keyed = content if isinstance(content, dict) else {}
        named = [key for key in keyed if isinstance(key, str) and key.isprintable()]
        keys = f"; it holds {listed(named)}" if named else ""
        raise UserError(f"{path}: this holds no table of tensors{keys}; give a file of a model's weights")
    flat = {".".join((*place, name)): value for place, table in tables.items() for name, value in table.items()}
    bare = {WRAPPER.sub("", name): value for name, value in flat.items()}
    spellings = [flat, bare] if len(bare) == len(flat) else [flat]
    for part, names in product((1.0, 0.5), map(frozenset, wanted)):
        found = []
        for spelt in spellings:
            heads = [head for head, count in _heads(spelt, names).items() if count >= part * len(names)]
            found.append((spelt, [f"{head}." if head else "" for head in heads]))
        # Weights in wrappers go before an average without.
        for spelt, heads in sorted(found, key=lambda one: all(map(AVERAGED.search, one[1]))):
            if heads:
                head = _only(heads, path)
                if spelt is bare or (head and tuple(head[:-1].split(".")) not in tables) or AVERAGED.search(head):
                    where = f"behind {head}" if head else "with wrappers in their names"
                    _note(f"{path.name}: the weights taken are those {where}, which is left out of the names")
                aside = tuple(other for other in heads if other != head and other.startswith(head))  # averages within
                taken = (name for name in spelt if name.startswith(head) and not name.startswith(aside))
                return {name[len(head) :]: _wide(spelt[name]) for name in taken}
    chosen = next((place for place in (("model",), ("state_dict",)) if place in tables), None)
    own = [place for place in tables if not AVERAGED.search(".".join(place))] or list(tables)
    if chosen is None and len(own) > 1:
        said = [f"{_at('.'.join(place))} ({len(tables[place])}, such as {next(iter(tables[place]))})" for place in own]
        none = "none of its tables has the names that the model wants" if wanted else "it has several tables"
        raise UserError(f"{path}: {none}: {listed(said)}; save the one that is meant alone")
    return {name: _wide(value) for name, value in tables[chosen or own[0]].items()}


def _tables(
    found: object, place: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Yield the tensors that stand together, each table with the keys that lead to it."""
    if not isinstance(found, dict) or len(place) > NESTED or id(found) in seen:
        return
    seen.add(id(found))
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    # A figure such as the best accuracy is no table, but a table may hold single numbers.
    if any(value.ndim for value in tensors.values()) and all(map(_plain, tensors, tensors.values())):
        yield place, tensors
    for key, value in found.items():
        if isinstance(key, str) and key.isprintable():
            yield from _tables(value, (*place, key), seen)


def _plain(name: object, value: Tensor) -> bool:
    """Tell whether this is a tensor whose values are there, under a name that can be shown."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and value.layout == torch.strided
        and there(value)
        and not (value.is_quantized or value.is_nested)
    )


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() and value.itemsize < 4 else value


def _heads(found: Iterable[str], wanted: Collection[str]) -> Counter[str]:
    """Count by what stands before them, without the dot, how many of the wanted names are there."""
    heads: Counter[str] = Counter()
    for name in found:
        head, rest = "", name
        while rest:
            heads[head] += rest in wanted
            part, _, rest = rest.partition(".")
            head = f"{head}.{part}" if head else part
    return +heads


def _only(heads: list[str], path: Path) -> str:
    """Return the one head there is, an average's only where nothing else fits."""
    own = [head for head in heads if not AVERAGED.search(head)] or heads
    if len(own) > 1:
        said = listed([_at(head[:-1]) for head in own])
        raise UserError(f"{path}: several tables fit the model: {said}; save the one that is meant alone")
    return own[0]


def _at(place: str) -> str:
    return f"`{place}`" if place else "the top"


def listed(names: Sequence[str]) -> str:
    """Return some names of many, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name[:80] for name in names[:SHOWN]) + more


def _note(line: str) -> None:
    notes = _NOTES.get()
    if notes is not None and line not in notes:
        notes.append(line)


def _in_folder(folder: Path) -> object:
    """Return what a folder's one file of weights holds, or its shards together."""
    matches = [match for file in sorted(folder.iterdir()) if file.is_file() and (match := FILE.fullmatch(file.name))]
    whole = [match for match in matches if not any(SHARD.fullmatch(match[part] or "") for part in ("variant", "stem"))]
    for suffix in SUFFIXES:
        some = [match for match in whole if match["suffix"] == suffix]
        some = [match for match in some if not (match["variant"] or match["other"])] or some
        some = [match for match in some if match["stem"] in STEMS] or some
        if len(some) > 1:
            said = listed([match[0] for match in some])
            raise UserError(f"{folder}: which are the weights, {said}? Name the file, or keep one")
        if some:
            file = folder / some[0][0]
            return _sharded(file) if some[0]["index"] else held(file)
    seen = f"; the parts {matches[0][0]} ... come without their index (*.index.json)" if matches else ""
    wanted = "a file of weights, or a folder with one (such as model.safetensors)"
    raise UserError(f"{folder}: there are no weights in this folder{seen}; give {wanted}")


def _sharded(index: Path) -> dict[str, object]:
    """Return the tensors that an index names, from the shards beside it."""
    try:
        places = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        shards = sorted(set(places.values()))
        if any(not isinstance(shard, str) or shard != Path(shard).name for shard in shards):
            raise ValueError("a part that is not a file beside it")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{index}: this is no index of weights ({first_line(error)}); download it again") from None
    parts = {shard: held(index.parent / shard) for shard in shards}
    found = {}
    for name, shard in places.items():
        part = parts[shard]
        if not isinstance(part, dict) or name not in part:
            raise UserError(f"{index}: {shard} has no {name}, which the index says it has; download both again")
        found[name] = part[name]
    return found
