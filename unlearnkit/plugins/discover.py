"""Find plugins, load each one by itself, and say what each brought: the only PluginManager."""

import os
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, distributions

import pluggy

from unlearnkit import __version__
from unlearnkit.plugins import hookspecs
from unlearnkit.recipe.assemble import Lacking
from unlearnkit.recipe.sections import OPEN, Section, kind_of

GROUP = "unlearnkit"
BUILTIN = "unlearnkit.builtin"
"""What unlearnkit brings itself: a folder a sort."""


@dataclass
class Plugin:
    """One plugin: where it comes from, what it registered, and why it failed if it did."""

    name: str
    package: str
    version: str
    sections: list[type[Section]] = field(default_factory=list)
    error: str | None = None


class Plugins:
    """All plugins of this process."""

    def __init__(self, plugins: list[Plugin], manager: pluggy.PluginManager) -> None:
        self.all = plugins
        self.hook = manager.hook
        self.sections: Sequence[type[Section]] = [cls for plugin in plugins for cls in plugin.sections]
        self.broken: Sequence[Lacking] = [plugin for plugin in plugins if plugin.error]

    def classes(self, base: type[Section]) -> list[type[Section]]:
        """Return the registered sections of one sort, such as `ModelSection`."""
        return [cls for cls in self.sections if issubclass(cls, base)]

    def owner(self, cls: type[Section]) -> Plugin:
        """Return the plugin that registered `cls`."""
        return next(plugin for plugin in self.all if cls in plugin.sections)


def discover(extra: Sequence[object] = (), *, installed: bool = True) -> Plugins:
    """Load built-ins, `installed` entry points of the group `unlearnkit`, and modules named in UNLEARNKIT_PLUGINS.

    `extra` modules are loaded last. A plugin that fails is kept with its reason and stops nothing else.
    UNLEARNKIT_LOAD_PLUGINS, a comma-separated list of entry-point names, restricts which entry points are loaded;
    empty means none.
    """
    manager = pluggy.PluginManager("unlearnkit")
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    for name in (sort.name for sort in pkgutil.iter_modules(import_module(BUILTIN).__path__) if sort.ispkg):
        _load(manager, plugins, Plugin(name, "unlearnkit", __version__), f"{BUILTIN}.{name}.sections")
    for entry, package, version in _entry_points() if installed else ():
        _load(manager, plugins, Plugin(entry.name, package, version), entry)
    for name in filter(None, os.environ.get("UNLEARNKIT_PLUGINS", "").split(",")):
        _load(manager, plugins, Plugin(name, "UNLEARNKIT_PLUGINS", "-"), name)
    for module in extra:
        name = getattr(module, "__name__", type(module).__name__)
        _load(manager, plugins, Plugin(name, "-", "-"), module)
    return Plugins(plugins, manager)


def _entry_points() -> list[tuple[EntryPoint, str, str]]:
    wanted = os.environ.get("UNLEARNKIT_LOAD_PLUGINS")
    chosen = None if wanted is None else set(filter(None, wanted.split(",")))
    found = {
        (entry.name, entry.value): (entry, str(dist.metadata["Name"]), dist.version)
        for dist in distributions()
        for entry in dist.entry_points
        if entry.group == GROUP and (chosen is None or entry.name in chosen)
    }
    return sorted(found.values(), key=lambda row: (row[1], row[0].name))


def _load(manager: pluggy.PluginManager, plugins: list[Plugin], plugin: Plugin, source: object) -> None:
    """Register one plugin, of an entry point, a module or its name; whatever it raises becomes its `error`."""
    plugins.append(plugin)
    module: object = None
    try:
        module = source.load() if isinstance(source, EntryPoint) else source
        if isinstance(source, str):
            module = import_module(source)
        manager.register(module, name=f"{plugin.package}:{plugin.name}")
        manager.check_pending()
        taken = {(base, kind_of(cls)): one.name for one in plugins for cls in one.sections for base in _bases(cls)}
        brought = [(hook, cls) for hook in OPEN for cls in (getattr(module, hook, None) or list)()]
        for hook, cls in brought:
            _check(cls, hook, taken)
        plugin.sections = [cls for _, cls in brought]
    except (Exception, SystemExit) as error:  # a plugin may raise anything; it must not take the tool down
        plugin.error = f"{type(error).__name__}: {error}"
        if module is not None and manager.is_registered(module):
            manager.unregister(module)


def _bases(cls: type[Section]) -> list[type[Section]]:
    return [base for bases in OPEN.values() for base in bases if issubclass(cls, base)]


def _check(cls: type[Section], hook: str, taken: dict[tuple[type[Section], str], str]) -> None:
    if not (isinstance(cls, type) and issubclass(cls, OPEN[hook])):
        names = " or ".join(base.__name__ for base in OPEN[hook])
        raise TypeError(f"{hook} returned {cls!r}, which is not a subclass of {names}")
    if missing := sorted(cls.__abstractmethods__):
        raise TypeError(f"{cls.__module__}.{cls.__qualname__} lacks the method {', '.join(missing)}")
    kind = kind_of(cls)
    for base in _bases(cls):
        if owner := taken.get((base, kind)):
            raise ValueError(f"the kind '{kind}' of {cls.__name__} is already taken by the plugin '{owner}'")
        taken[base, kind] = cls.__module__
