"""What happens in a run, and who is told."""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from unlearnkit.disk import disk_errors, write_json
from unlearnkit.errors import Stopped
from unlearnkit.plugins import Plugins

Tell = Callable[[Mapping[str, Any]], None]


class Run:
    """A run folder that this process holds: where events, checkpoints and solutions go."""

    def __init__(self, folder: Path, plugins: Plugins, tell: Tell) -> None:
        self.folder, self.tell = folder, tell
        self.stop_signal: int | None = None
        self.manifest: dict[str, Any] = {}
        self._observers: list[Tell] = []
        self._observers = plugins.observers({"folder": str(folder)}, self.warn)
        plugins.witness = partial(self.event, "failed")

    def event(self, kind: str, **facts: object) -> None:
        """Record one event and tell the observers, each a copy; an observer that fails is dropped with a warning."""
        record = {"time": round(time.time(), 3), "event": kind, **facts}
        path = self.folder / "events.jsonl"
        with disk_errors(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
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
        write_json(self.folder / "manifest.json", self.manifest)

    def check_signal(self) -> None:
        """Raise `Stopped` if a signal has come; call it where all is saved."""
        if self.stop_signal is not None:
            self.event("stopped", signal=self.stop_signal)
            raise Stopped(self.stop_signal)
