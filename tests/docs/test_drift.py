"""What the documents show is true: recipes validate, commands run, help and links are those of the code."""

import ast
import inspect
import pkgutil
import re
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
import yaml
from blocks import COMMAND, ROOT, blocks, name, pages

from docs.builder import gallery, reference
from unlearnkit.cli import commands as cli
from unlearnkit.errors import Exit
from unlearnkit.fronts import CURVE
from unlearnkit.plugins import discover, hookspecs
from unlearnkit.recipe.validate import load

SMALLEST = {
    "model": {"kind": "vit-mae"},
    "data": {"source": {"kind": "sample"}, "forget": {"classes": ["faces"]}, "retain": {"classes": ["watch"]}},
}
TUTORIAL = ROOT / "docs" / "tutorial.md"
DELETION = ROOT / "docs" / "how-to" / "deletion-request.md"
"""Run by a test of its own, on photographs."""
SMALL = {
    "train: 60, validation: 20": "train: 6, validation: 3",
    "steps: 80": "steps: 8",
    "batch_size: 16": "batch_size: 4",
}
"""What the test of the tutorial makes smaller in its recipe."""
WHOLE = [(page, block) for page in pages() for block in blocks(page) if block.language == "yaml"]
RUN = [page for page in pages() if any(b.language == "shell" and not b.said for b in blocks(page))]
PUBLIC = ROOT / "tests" / "docs" / "public_names.txt"


@pytest.mark.parametrize(("page", "block"), WHOLE, ids=[f"{name(page)}-{i}" for i, (page, _) in enumerate(WHOLE)])
def test_every_recipe_in_the_documents_is_valid(page, block, tmp_path):
    text = block.text
    assert block.said in ("", "fragment") or block.said.endswith(".yaml"), block.said
    if block.said == "fragment":
        text = yaml.safe_dump(SMALLEST | yaml.safe_load(text))
    (tmp_path / "recipe.yaml").write_text(text)
    load(tmp_path / "recipe.yaml", discover())


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_shell_block_runs_or_says_why_not(page):
    said = [block.said for block in blocks(page) if block.language in ("shell", "bash", "sh", "console")]
    assert all(not words or re.fullmatch(r"not run: \S.+", words) for words in said), said
    assert not COMMAND.findall(page.read_text()), "a command stands in no fenced block"


@pytest.mark.parametrize("page", [page for page in RUN if page not in (TUTORIAL, DELETION)], ids=name)
def test_the_commands_of_a_page_run_in_order(page, shell, workplace):
    found = blocks(page)
    if any("--attest" in block.text for block in found if block.language == "shell"):
        pytest.importorskip("model_signing", reason="the extra `attest` is not installed")
    for block in found:
        if re.search(r"\.(py|yaml)$", block.said):
            (workplace / block.said).write_text(block.text)
    for block in found:
        if block.language == "shell" and not block.said:
            shell(block.text, workplace)


def test_the_tutorials_commands_run_in_order_in_an_empty_folder(shell, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    for block in blocks(TUTORIAL):
        if block.said == "faces.yaml":
            text = block.text
            for long, short in SMALL.items():
                assert long in text
                text = text.replace(long, short)
            (folder / "faces.yaml").write_text(text)
        elif block.language == "shell" and not block.said:
            shell(block.text, folder)
    assert (folder / "runs/first/report.html").is_file()
    assert (folder / "faces-forgotten/README.md").is_file()
    assert "composite" in (folder / "runs/second/report.md").read_text()


def test_help_in_the_reference_is_what_the_commands_print(monkeypatch, unlearnkit):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("UNLEARNKIT_LOAD_PLUGINS", "timm")  # which brings no command
    page = reference.cli_page()
    for words in ([], *([command] for command in typer.main.get_command(cli.app).commands)):
        printed = unlearnkit(*words, "--help").succeeded().out
        printed = re.sub(r"^Usage: \S.*?unlearnkit", "Usage: unlearnkit", printed)  # how this process was started
        assert printed.rstrip() in page, printed


def test_the_reference_has_every_hook_with_its_arguments_and_every_exit_code():
    hooks = set(re.findall(r"^## (\w+)\(", reference.hooks_page(), re.M))
    assert hooks == {hook for hook in vars(hookspecs) if hook.startswith(("register_", "observe_"))}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", reference.exit_page(), re.M)} == set(Exit)
    readme = (ROOT / "README.md").read_text()
    assert all(f"| {code.value} | {code.meaning} |" in readme for code in Exit)


def test_every_hook_has_a_test():
    source = (ROOT / "tests/plugins/test_hooks.py").read_text()
    hooks = [hook for hook in vars(hookspecs) if hook.startswith(("register_", "observe_"))]
    assert [hook for hook in hooks if f"def test_hook_{hook}(" not in source] == []


def public(module: str) -> list[str]:
    """Return the names that a module defines, or those that it lists."""
    found = import_module(module)
    if hasattr(found, "__all__"):
        return list(found.__all__)
    names = []
    for node in ast.parse(inspect.getsource(found)).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return [name for name in names if not name.startswith("_")]


def test_public_names_are_frozen():
    """Plugin packages rely on these: a name that goes needs a line under Changed in the changelog."""
    listed, found = PUBLIC.read_text().partition("#")[0].splitlines(), []
    for line in listed:
        if line.startswith("["):
            found += [line, *sorted(public(line.strip("[]")))]
    assert found == listed


def frozen() -> set[str]:
    """Return the frozen names, each with its module."""
    names, module = set(), ""
    for line in PUBLIC.read_text().splitlines():
        if line.startswith(("[", "#")):
            module = "" if line.startswith("#") else line.strip("[]") + "."
        else:
            names.add(module + line)
    return names


def imported(source: str) -> set[str]:
    """Return the names of unlearnkit that a source imports, each with its module."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module), names=aliases):
                names |= {f"{module}.{alias.name}" for alias in aliases}
    return {name for name in names if name.startswith("unlearnkit.")}


def test_what_plugin_packages_import_is_frozen(tmp_path, unlearnkit):
    """Also what the template and the documents import. The failure prints the lines that public_names.txt lacks."""
    unlearnkit("init", "--plugin", "acme-unlearning").succeeded()
    paths = [*ROOT.glob("plugins/*/unlearnkit_*/**/*.py"), *ROOT.glob("plugins/*/tests/*.py"), *tmp_path.rglob("*.py")]
    sources = [path.read_text() for path in paths]
    sources += [block.text for page in pages() for block in blocks(page) if block.language == "python"]
    missing = sorted(set().union(*map(imported, sources)) - frozen())
    assert not missing, "\n".join(["tests/docs/public_names.txt lacks:", *missing])


def test_frozen_names_can_be_imported():
    assert [name for name in sorted(frozen()) if pkgutil.resolve_name(name) is None] == []


def test_every_recipe_has_a_page_and_a_card(site):
    recipes = [*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "recipes/papers").glob("*.yaml")]
    assert len(recipes) >= 6
    cards = (site / "gallery/index.html").read_text()
    for recipe in recipes:
        page = (site / f"gallery/{recipe.stem}.html").read_text()
        text = re.sub(r"<[^>]+>", "", page)  # highlighted, word by word
        assert f"unlearnkit run {recipe.relative_to(ROOT)}" in text
        assert f'href="{recipe.stem}.html"' in cards
    for recipe in (ROOT / "recipes/pretrain").glob("*.yaml"):
        assert recipe.name in cards


def test_a_collected_run_is_of_the_recipe_as_it_is_now():
    collected = [card for card in gallery.cards() if card.results is not None]
    assert collected
    for card in collected:
        folder = gallery.GALLERY / card.name
        assert yaml.safe_load((folder / "recipe.yaml").read_text()) == yaml.safe_load(card.path.read_text()), card.name
        assert sorted({results["seed"] for results, _ in card.runs}) == (card.recipe.seeds or [card.recipe.seed])
        for results, manifest in card.runs:
            assert {row["id"] for row in results["solutions"]} == manifest["times"].keys() - {CURVE}
            assert "base" not in manifest


def test_what_does_not_travel_with_the_project_has_its_terms_on_the_card(site):
    papers = [card for card in gallery.cards() if card.path.parent.name == "papers"]
    assert len(papers) >= 3
    for card in papers:
        assert set(card.needs) == {"weights", "data", "hardware"}, card.name
        page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", (site / f"gallery/{card.name}.html").read_text()))
        assert ("non-commercial research" in page) == card.name.startswith("imagenet"), card.name
        assert re.search("terms of access|terms are not known", page), card.name


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for key, value in attributes:
            if key in ("href", "src") and value:
                self.links.append(value)
            if key == "id" and value:
                self.anchors.add(value)


def test_links_of_the_site_resolve_and_what_pages_load_is_local(site):
    page = cache(Page)
    files = sorted(site.rglob("*.html"))
    assert len(files) > 40
    for path in files:
        collected = path.name in ("report.html", "comparison.html")  # a script makes some of their anchors
        for link in page(path).links:
            if re.match(r"(https?|mailto|data):", link):
                continue
            target, _, fragment = unquote(link).partition("#")
            file = (path.parent / target.partition("?")[0]).resolve() if target else path
            assert file.exists(), f"{path}: {link}"
            if fragment and file.suffix == ".html" and not collected:
                assert fragment in page(file).anchors, f"{path}: {link}"
        loaded = re.findall(r'<(?:script|img|iframe|link)[^>]+(?:src|href)="(https?:[^"]+)"', path.read_text())
        assert not loaded, f"{path}: {loaded}"


def test_words_that_the_glossary_rules_out_are_not_used():
    rows = re.findall(r"^\|([^|]+)\|[^|]+\|([^|]*)\|$", (ROOT / "docs/glossary.md").read_text(), re.M)[2:]
    out = [word.strip() for _, words in rows for word in words.split(",") if word.strip()]
    assert len(out) > 10
    texts = [page for page in pages() if page.name != "glossary.md"]
    texts += [
        *(ROOT / "unlearnkit").rglob("*.py"),
        *(ROOT / "unlearnkit").rglob("*.j2"),
        *(ROOT / "recipes").rglob("*.yaml"),
    ]
    for path in texts:
        used = [word for word in out if re.search(rf"\b{re.escape(word)}s?\b", path.read_text(), re.I)]
        assert not used, f"{path}: {used}"
    everything = "\n".join(page.read_text() for page in texts)
    for words, _ in rows:
        for word in words.split(","):
            assert word.strip() in everything, f"nothing else says '{word.strip()}'"
