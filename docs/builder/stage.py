"""Put committed and generated pages into one folder and run Sphinx on it, so that nothing is written beside sources."""

import re
import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import build_main

from . import gallery, reference
from .paths import DOCS, PACKAGES, RECIPES, ROOT

OWN = ("builder", "gallery", "handed-over", "extra")
"""Folders of docs/ that are not pages."""

SAID = {
    r'role="heading">': r'role="heading" aria-level="2">',
    r'<aside class="sidebar-drawer">': r'<aside class="sidebar-drawer" aria-label="Site">',
    r'<th class="([^"]*)"><p></p></th>': r'<td class="\1"></td>',
    r'<(pre|div class="(?:table-wrapper|front) [^"]*")>': r'<\1 tabindex="0">',
}
"""What Sphinx and its theme leave out for screen readers and keyboards: what scrolls has to take the focus."""

LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def build(out: Path) -> None:
    """Write the site to `out`/html; exit with Sphinx's code where it warns of anything."""
    source = out / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("__pycache__", *OWN))
    pages = reference.pages() | gallery.pages(out / "plans")
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text()
    pages["contributing.md"] = (ROOT / "CONTRIBUTING.md").read_text()
    for name in PACKAGES:
        pages[f"packages/{name}.md"] = (ROOT / "plugins" / name / "README.md").read_text()
    for name, text in pages.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    gallery.copy_files(source / "gallery", source / "extra" / "gallery")
    homes = {source / name: DOCS / name for name in pages}
    homes |= {source / f"packages/{name}.md": ROOT / "plugins" / name / "README.md" for name in PACKAGES}
    homes |= {source / "changelog.md": ROOT / "CHANGELOG.md", source / "contributing.md": ROOT / "CONTRIBUTING.md"}
    for page in source.rglob("*.md"):
        page.write_text(inside(page.read_text(), page, homes.get(page, DOCS / page.relative_to(source)), source))
    shutil.copytree(RECIPES, source / "recipes", ignore=shutil.ignore_patterns("weights", "data"))
    if code := build_main(["-W", "--keep-going", "-q", "-b", "html", str(source), str(out / "html")]):
        sys.exit(code)
    for page in (out / "html").rglob("*.html"):
        text = told = page.read_text()
        for left, said in SAID.items():
            told = re.sub(left, said, told)
        if told != text:
            page.write_text(told)
    print(out / "html" / "index.html")


def inside(text: str, page: Path, home: Path, source: Path) -> str:
    """Return a page whose links to other parts of the repository lead to their pages on the site."""

    def moved(match: re.Match[str]) -> str:
        target, fragment = match[1], match[2] or ""
        if "://" in target:
            return match[0]
        file = (home.parent / target).resolve()
        place = _on_site(file)
        if place is None:
            return match[0]
        up = "../" * len(page.relative_to(source).parent.parts)
        return f"]({up}{place}{fragment})"

    return LINK.sub(moved, text)


def _on_site(file: Path) -> str | None:
    """Return where on the site a file or folder of the repository stands; None where the link needs no change."""
    if not file.is_relative_to(ROOT):
        return None
    place = file.relative_to(ROOT)
    known = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
    if str(place) in known:
        return known[str(place)]
    match place.parts:
        case ("plugins", name) | ("plugins", name, "README.md"):
            return f"packages/{name}.md"
        case ("docs", "adr"):
            return "adr/index.md"
        case ("docs", *parts):
            return "/".join(parts)
        case ("recipes", *folders, name) if name.endswith(".yaml") and folders in ([], ["papers"]):
            return f"gallery/{Path(name).stem}.md"
        case ("recipes", "pretrain", _):
            return str(place)
    return None
