"""Find plugins, load each one by itself, and say what each brought: the only PluginManager."""

import os
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import EntryPoint, distributions
from inspect import isgenerator
from itertools import islice
from typing import Annotated, Any, Literal, Union

import pluggy
import typer
from pydantic import Discriminator, TypeAdapter

from unlearnkit import __version__
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import hookspecs
from unlearnkit.plugins.faults import SHOWN, Plugin, fault, interrupted, raised, watched
from unlearnkit.recipe.assemble import Lacking
from unlearnkit.recipe.problem import shown
from unlearnkit.recipe.sections import OPEN, Section, kind_of

GROUP = "unlearnkit"
BUILTIN = "unlearnkit.builtin"
"""What unlearnkit brings itself: a folder a sort."""
KIND = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
"""How a kind is written: it names files of a run folder, and stands in tables."""
MOST = 1000
"""Sections that one hook may return: a generator need not end."""
SHARED = frozenset({"unlearnkit", "pydantic", "builtins", "types"})
"""Packages that no plugin's section is at home in, whatever its class says."""

Observer = Callable[[Mapping[str, Any]], None]


class _Other(Section):
    """What stands beside a section in a union, as others do in a recipe."""

    kind: Literal["-"]


class Plugins:
    """All plugins of this process."""

    def __init__(self, plugins: list[Plugin], manager: pluggy.PluginManager) -> None:
        self.all = plugins
        self._hooks = manager.hook
        self.sections: Sequence[type[Section]] = [cls for plugin in plugins for cls in plugin.sections]
        self.broken: Sequence[Lacking] = [plugin for plugin in plugins if plugin.error]
        self.witness: Callable[..., None] | None = None
        """Who keeps the traceback of what a plugin raised, as `what`, `reason` and `traceback`: the run under way."""

    def classes(self, base: type[Section]) -> list[type[Section]]:
        """Return the registered sections of one sort, such as `ModelSection`."""
        return [cls for cls in self.sections if issubclass(cls, base)]

    def owner(self, cls: type[Section]) -> Plugin:
        """Return the plugin that registered `cls`."""
        return next(plugin for plugin in self.all if cls in plugin.sections)

    def commands(self, app: typer.Typer, warn: Callable[[str], None]) -> None:
        """Add each plugin's commands to `app`, all of a plugin's or none; `warn` of those that cannot be had."""
        for plugin, register in self._implementations("register_commands"):

            def add(register: Callable[..., object] = register) -> None:
                own = typer.Typer()
                if (returned := register(app=own)) is not None:
                    raise TypeError(f"expected it to return None, got {_said(returned)}")
                groups = [typer.main.get_group(one) for one in (own, app)]
                if taken := sorted(groups[0].commands.keys() & groups[1].commands.keys()):
                    raise ValueError(f"the command '{taken[0]}' is there already")
                app.registered_commands += own.registered_commands
                app.registered_groups += own.registered_groups

            self._contained(plugin, "register_commands", add, warn)

    def observers(self, run: Mapping[str, Any], warn: Callable[[str], None]) -> list[Observer]:
        """Return each plugin's observer of a run; one that fails is dropped, and `warn` is told once."""
        found: list[Observer] = []
        for plugin, observe_run in self._implementations("observe_run"):

            def add(plugin: Plugin = plugin, observe_run: Callable[..., Any] = observe_run) -> None:
                if (observer := observe_run(run=run)) is None:
                    return
                if not callable(observer):
                    raise TypeError(f"expected a function or None, got {_said(observer)}")
                found.append(self._dropping(plugin, observer, warn))

            self._contained(plugin, "observe_run", add, warn)
        return found

    def _dropping(self, plugin: Plugin, observer: Observer, warn: Callable[[str], None]) -> Observer:
        told = [observer]

        def tell(event: Mapping[str, Any]) -> None:
            for one in tuple(told):
                try:
                    one(event)
                except BaseException as error:  # an observer is told, and cannot stop the run
                    if interrupted(error):
                        raise
                    told.clear()
                    warn(f"an observer failed and was dropped: {self._where(plugin, error)}, of {plugin}")

        return tell

    def _implementations(self, hook: str) -> Iterator[tuple[Plugin, Callable[..., Any]]]:
        """Yield each plugin that implements a hook, with what calls it."""
        for found in reversed(getattr(self._hooks, hook).get_hookimpls()):
            plugin = next(plugin for plugin in self.all if _id(plugin) == found.plugin_name)

            def call(found: Any = found, **given: object) -> object:
                return found.function(*(given[name] for name in found.argnames))

            yield plugin, call

    def _contained(self, plugin: Plugin, hook: str, what: Callable[[], None], warn: Callable[[str], None]) -> None:
        """Do something with a plugin's hook; whatever it raises becomes the plugin's `error` and a warning."""
        try:
            what()
        except BaseException as error:
            if interrupted(error):
                raise
            plugin.error = f"{hook}: {self._where(plugin, error)}"
            warn(f"{plugin} failed in {plugin.error}")

    def _where(self, plugin: Plugin, error: BaseException) -> str:
        return found.said if (found := fault(error, [plugin])) else raised(error)

    def failure(self, error: BaseException) -> UserError | None:
        """Return what to tell the user of an exception that a plugin's code raised; None where it is none's.

        The traceback is kept by the `witness`; without one its end, from the plugin's code on, ends the message.
        """
        if (found := fault(error, self.all)) is None:
            return None
        message = f"{found.plugin}, {found.plugin.version}, failed: {found.said}; tell its author, or do without it"
        if self.witness is not None:
            whole = "".join(traceback.format_exception(error))
            self.witness(what=str(found.plugin), reason=found.said, traceback=whole)
            return UserError(f"{message}. The event `failed` of the run has the traceback", Exit.PLUGIN)
        return UserError("\n".join([f"error: {message}", *found.lines[-SHOWN:]]), Exit.PLUGIN)


def discover(extra: Sequence[object] = (), *, installed: bool = True) -> Plugins:
    """Load built-ins, `installed` entry points of the group `unlearnkit`, and modules named in UNLEARNKIT_PLUGINS.

    `extra` modules are loaded last. A plugin that fails is kept with its reason and stops nothing else.
    UNLEARNKIT_LOAD_PLUGINS, a comma-separated list of entry-point names, restricts which entry points are loaded;
    empty means none.
    """
    manager = pluggy.PluginManager("unlearnkit")
    manager.add_hookspecs(hookspecs)
    plugins: list[Plugin] = []
    with watched():
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
    found: dict[tuple[str, str], tuple[EntryPoint, str, str]] = {}
    for dist in distributions():
        with suppress(Exception):  # of a package whose files are not whole, whoever's it is
            for entry in dist.entry_points:
                if entry.group == GROUP and (chosen is None or entry.name in chosen):
                    found[entry.name, entry.value] = (entry, str(dist.metadata["Name"]), str(dist.version))
    return sorted(found.values(), key=lambda row: (row[1], row[0].name))


def _load(manager: pluggy.PluginManager, plugins: list[Plugin], plugin: Plugin, source: object) -> None:
    """Register one plugin, of an entry point, a module or its name; whatever it raises becomes its `error`."""
    plugins.append(plugin)
    module: object = None
    doing = "import"
    ours = plugin.package == "unlearnkit"
    try:
        if isinstance(source, EntryPoint):
            plugin.modules = {source.module}
        elif not ours:
            plugin.modules = {plugin.name}
        module = source.load() if isinstance(source, EntryPoint) else source
        if isinstance(source, str):
            module = import_module(source)
        doing = "its hooks"
        manager.register(module, name=_id(plugin))
        manager.check_pending()
        taken = {(base, kind_of(cls)): one.name for one in plugins for cls in one.sections for base in _bases(cls)}
        sections: list[type[Section]] = []
        for hook in OPEN:
            doing = hook
            for cls in islice((getattr(module, hook, None) or list)(), MOST):
                _check(cls, hook, taken, ours)
                sections.append(cls)
        if interrupted():
            raise KeyboardInterrupt  # which the plugin kept to itself
        plugin.sections = sections
        if not ours:
            homes = {cls.__module__ for cls in sections}
            plugin.modules |= {home for home in homes if home.partition(".")[0] not in SHARED}
    except BaseException as error:  # a plugin may raise anything; it must not take the tool down
        if interrupted(error):
            raise
        found = fault(error, [plugin])
        plugin.error = f"{doing}: {found.said if found else raised(error)}"
        if module is not None and manager.is_registered(module):
            manager.unregister(module)


def _id(plugin: Plugin) -> str:
    """Return the name that a plugin is registered by."""
    return f"{plugin.package}:{plugin.name}"


def _said(value: object) -> str:
    """Say what a hook returned instead of what it should."""
    return f"a {type(value).__name__}" + " (it has a `yield` in it)" * isgenerator(value)


def _bases(cls: type[Section]) -> list[type[Section]]:
    return [base for bases in OPEN.values() for base in bases if issubclass(cls, base)]


def _check(cls: type[Section], hook: str, taken: dict[tuple[type[Section], str], str], ours: bool) -> None:
    if not (isinstance(cls, type) and issubclass(cls, OPEN[hook])):
        names = " or ".join(base.__name__ for base in OPEN[hook])
        raise TypeError(f"it returned {_shown(cls)}, which is not a subclass of {names}")
    name = f"{cls.__module__}.{cls.__qualname__}"
    if missing := sorted(cls.__abstractmethods__):
        raise TypeError(f"{name} lacks the method {', '.join(missing)}")
    kind = kind_of(cls)
    if not KIND.fullmatch(kind):
        raise ValueError(f"the kind {shown(kind)} of {name}: use up to 64 letters, digits, hyphens, dots and _")
    if not isinstance(cls.__doc__, str | None):
        raise TypeError(f"the docstring of {name} is no text")
    for base in _bases(cls):
        if owner := taken.get((base, kind)):
            raise ValueError(f"the kind '{kind}' of {cls.__name__} is already taken by the plugin '{owner}'")
        taken[base, kind] = cls.__module__
    if not ours:  # what a recipe, `schema` and `show` make of it; ours are tested
        try:
            either: Any = Annotated[Union[cls, _Other], Discriminator("kind")]  # noqa: UP007
            TypeAdapter(either).json_schema()
            cls.model_json_schema()
        except Exception as error:
            raise TypeError(f"{name} has no schema: {raised(error)}") from error


def _shown(value: object) -> str:
    """Return a value in a few words, whatever its own `repr` does."""
    try:
        return shown(value)
    except Exception:
        return f"a {type(value).__name__}"
