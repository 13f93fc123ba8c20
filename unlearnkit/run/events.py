"""What happens in a run, and who is told."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from unlearnkit.disk import append, write_record
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.run.folder import EVENTS, TASKS
from unlearnkit.run.interrupts import Stop, Tell
from unlearnkit.seal import FORMAT


class Run:
    """A run folder that this process holds: where events, checkpoints and solutions go."""

    def __init__(self, folder: Path, plugins: Plugins, tell: Tell, stop: Stop) -> None:
        self.folder, self.tell, self.stop = folder, tell, stop
        self.manifest: dict[str, Any] = {}
        self._place = _place(folder)
        self._observers: list[Tell] = []
        self._observers = plugins.observers({"folder": str(folder)}, self.warn)
        plugins.witness = partial(self.event, "failed")

    def event(self, kind: str, **facts: object) -> None:
        """Record one event and tell the observers, each a copy; an observer that fails is dropped with a warning.

        Raise `UserError` where the folder has gone, or is another one by now.
        """
        if _place(self.folder) != self._place:
            gone = "the run folder has disappeared while the run was at work; nothing of it can be saved"
            raise UserError(f"{self.folder}: {gone}", Exit.FOLDER)
        record = json.loads(json.dumps(_finite({"time": round(time.time(), 3), "event": kind, **facts})))
        append(self.folder / EVENTS, f"{json.dumps(record)}\n".encode())
        self.tell(dict(record))
        for observer in self._observers:
            observer(json.loads(json.dumps(record)))

    def warn(self, message: str) -> None:
        """Give one warning line, in the events, the manifest and the report."""
        known = self.manifest.setdefault("warnings", [])
        known += [message] if message not in known else []
        self.event("warning", message=message)

    def retell(self, tasks: Iterable[str], told: Counter[Path]) -> None:
        """Tell what workers have written of tasks of these names behind the bytes that are `told` of each file."""
        for path in (self.folder / TASKS / name / EVENTS for name in tasks):
            if not path.exists():
                continue
            with path.open("rb") as stream:
                stream.seek(told[path])
                new = stream.read()
            whole = new[: new.rfind(b"\n") + 1]
            told[path] += len(whole)
            for line in map(json.loads, whole.splitlines()):
                self.warn(**line["facts"]) if line["kind"] == "warn" else self.event(line["kind"], **line["facts"])

    def save_manifest(self) -> None:
        """Write the manifest."""
        write_record(self.folder / "manifest.json", {"format": FORMAT, **self.manifest})

    def check_signal(self) -> None:
        """Raise `Stopped` if a signal has come; call it where all is saved."""
        self.stop.check()


def _place(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _finite(value: object) -> object:
    """Return plain data as JSON can hold it: a number that is not finite as its name."""
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
