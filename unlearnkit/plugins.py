"""Find plugins, load each one by itself, and say what each brought: the only PluginManager."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, distributions

import pluggy

from unlearnkit import __version__, hookspecs
from unlearnkit.recipe.sections import OPEN, Section

GROUP = "unlearnkit"
BUILTIN = ("models", "data", "tasks", "losses", "controls", "methods", "trade_offs", "extractors", "metrics", "audits")


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

    @property
    def broken(self) -> list[Plugin]:
        """The plugins that could not be loaded."""
        return [plugin for plugin in self.all if plugin.error]

    @property
    def sections(self) -> list[type[Section]]:
        """All registered sections."""
        return [cls for plugin in self.all for cls in plugin.sections]

    def classes(self, base: type[Section]) -> list[type[Section]]:
        """Return the registered sections of one sort, such as `ModelSection`."""
        return [cls for cls in self.sections if issubclass(cls, base)]

    def owner(self, cls: type[Section]) -> Plugin:
        """Return the plugin that registered `cls`."""
        return next(plugin for plugin in self.all if cls in plugin.sections)


def kind_of(cls: type[Section]) -> str:
    """Return the `kind` a concrete section answers to; raise `TypeError` where it declares none."""
    values: tuple[object, ...] = getattr(cls.model_fields["kind"].annotation, "__args__", ())
    if len(values) != 1 or not isinstance(values[0], str):
        raise TypeError(f'{cls.__module__}.{cls.__qualname__} must declare `kind: Literal["its-name"]`')
    return values[0]


def discover(extra: Sequence[object] = (), *, installed: bool = True) -> Plugins:
    """Load built-ins, `installed` entry points of the group `unlearnkit`, and modules named in UNLEARNKIT_PLUGINS.

    `extra` modules are loaded last. A plugin that fails is kept with its reason and stops nothing else.
    UNLEARNKIT_LOAD_PLUGINS, a comma-separated list of entry-point names, restricts which entry points are loaded;
    empty means none.
    """
    manager = pluggy.PluginManager("unlearnkit")
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    for name in BUILTIN:
        _load(manager, plugins, Plugin(name, "unlearnkit", __version__), import_module(f"unlearnkit.builtin.{name}"))
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
    found: Mapping[tuple[str, str], tuple[EntryPoint, str, str]] = {
        (entry.name, entry.value): (entry, str(dist.metadata["Name"]), dist.version)
        for dist in distributions()
        for entry in dist.entry_points
        if entry.group == GROUP and (chosen is None or entry.name in chosen)
    }
    return sorted(found.values(), key=lambda row: (row[1], row[0].name))


def _load(
    manager: pluggy.PluginManager, plugins: list[Plugin], plugin: Plugin, source: EntryPoint | str | object
) -> None:
    """Import and register one plugin; whatever it raises becomes its `error`."""
    plugins.append(plugin)
    module: object = None
    try:
        if isinstance(source, EntryPoint):
            module = source.load()
        elif isinstance(source, str):
            module = import_module(source)
        else:
            module = source
        manager.register(module, name=f"{plugin.package}:{plugin.name}")
        manager.check_pending()
        taken = {
            (base, kind_of(cls)): owner.name for owner in plugins for cls in owner.sections for base in _bases(cls)
        }
        sections: list[type[Section]] = []
        for hook, bases in OPEN.items():
            implementation = getattr(module, hook, None)
            for cls in implementation() if implementation else ():
                _check(cls, hook, bases, taken)
                sections.append(cls)
        plugin.sections = sections
    except (Exception, SystemExit) as error:  # a plugin may raise anything; it must not take the tool down
        plugin.error = f"{type(error).__name__}: {error}"
        if module is not None and manager.is_registered(module):
            manager.unregister(module)


def _bases(cls: type[Section]) -> list[type[Section]]:
    return [base for bases in OPEN.values() for base in bases if issubclass(cls, base)]


def _check(
    cls: type[Section], hook: str, bases: tuple[type[Section], ...], taken: dict[tuple[type[Section], str], str]
) -> None:
    if not (isinstance(cls, type) and issubclass(cls, bases)):
        names = " or ".join(base.__name__ for base in bases)
        raise TypeError(f"{hook} returned {cls!r}, which is not a subclass of {names}")
    if missing := sorted(cls.__abstractmethods__):
        raise TypeError(f"{cls.__module__}.{cls.__qualname__} lacks the method {', '.join(missing)}")
    kind = kind_of(cls)
    for base in _bases(cls):
        if (base, kind) in taken:
            raise ValueError(
                f"the kind '{kind}' of {cls.__name__} is already taken by the plugin '{taken[base, kind]}'"
            )
        taken[base, kind] = cls.__module__
