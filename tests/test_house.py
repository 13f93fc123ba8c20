"""The house keeps its order: no circle of imports, and modules that can be read at a sitting."""

import ast
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT / "unlearnkit", *(face.parent for face in sorted(ROOT.glob("plugins/*/*/__init__.py")))]
MOST, MIDDLE, WHOLE = 400, 110, 31_200
"""Lines of a module at most, of the middle one, and of all modules of these packages together."""


def dotted(path: Path, package: Path) -> str:
    """Return the name by which a module is imported."""
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path, package): path for package in PACKAGES for path in sorted(package.rglob("*.py"))}
LINES = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports, in functions too, but not what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                submodules = {f"{module}.{alias.name}" for alias in aliases} & MODULES.keys()
                yield from submodules
                if len(submodules) < len(aliases):  # a name is taken from the face of the package
                    yield module
            case ast.ImportFrom():
                raise AssertionError(f"line {node.lineno}: a relative import")
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                for other in node.orelse:
                    yield from imports(other)
            case _:
                yield from imports(node)


def lazily(face: str) -> Iterator[str]:
    """Yield what a face imports when a name is taken from it, which its stub says."""
    stub = MODULES[face].with_suffix(".pyi")
    for node in ast.parse(stub.read_text() if stub.exists() else "").body:
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        assert node.level == 1, ast.unparse(node)
        yield f"{face}.{node.module}"


@pytest.mark.parametrize("package", [package.name for package in PACKAGES])
def test_no_modules_import_each_other_in_a_circle(package):
    names = [name for name in MODULES if name.split(".")[0] == package]
    graph = {name: {*imports(ast.parse(MODULES[name].read_text())), *lazily(name)} & set(names) for name in names}
    assert sum(map(len, graph.values())) >= len(names) - 1, "imports are not seen"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])), pytrace=False)


def test_each_plugin_package_is_an_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for plugin in (path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")):
        assert extras[plugin.removeprefix("unlearnkit-")][0].partition("[")[0] == plugin


def test_modules_and_the_whole_stay_small():
    assert {name: count for name, count in LINES.items() if count > MOST} == {}
    middle, whole = median(LINES.values()), sum(LINES.values())
    assert middle <= MIDDLE
    assert whole <= WHOLE
