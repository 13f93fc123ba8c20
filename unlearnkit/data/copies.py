"""Copies of forget images, which are never retained, whatever they are called."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from unlearnkit.contracts import Images, Item


def copies(forget: Images, forgotten: Iterable[Item], source: Images) -> Callable[[Sequence[Item]], list[Item]]:
    """Return what finds the images of a source whose files are those of forgotten ones, byte for byte.

    A file is read only where one of the same length is on the other side. Sources without files, and images that were
    saved anew, are compared by their pixels where these are decoded.
    """
    sized: defaultdict[object, list[Item]] = defaultdict(list)
    for item in forgotten:
        sized[forget.fingerprint(item, whole=False)].append(item)
    sized.pop(None, None)

    @cache
    def hashes(size: object) -> set[object]:
        return {mark for item in sized[size] if (mark := forget.fingerprint(item, whole=True)) is not None}

    def found(items: Sequence[Item]) -> list[Item]:
        sizes = ((item, source.fingerprint(item, whole=False)) for item in items)
        near = ((item, size) for item, size in sizes if size in sized)
        return [item for item, size in near if source.fingerprint(item, whole=True) in hashes(size)]

    return found
