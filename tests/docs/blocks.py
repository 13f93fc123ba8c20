"""The fenced blocks of the project's documents, with what their first line says of them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
OWN = {ROOT / "docs" / name for name in ("builder", "gallery", "handed-over")}
FENCE = re.compile(r"^( *)(`{3,}|:{3,})(\w+)(?: +([^\n]*))?\n(.*?)^\1\2 *$", re.M | re.S)
COMMAND = re.compile(r"^(?: {4}|\t)(unlearnkit|make|pip|python3?) ", re.M)


class Block(NamedTuple):
    """A block: its page, its language, the rest of its first line, its text."""

    page: Path
    language: str
    said: str
    text: str


def pages() -> list[Path]:
    """Return every page that people read."""
    found = [path for path in (ROOT / "docs").rglob("*.md") if not OWN & set(path.parents)]
    return sorted([*found, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("plugins/*/README.md")])


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order, without the indentation of a list."""
    found = []
    for indent, _, language, said, text in FENCE.findall(page.read_text()):
        found.append(Block(page, language, said.strip(), re.sub(f"^{indent}", "", text, flags=re.M)))
    return found


def name(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))
