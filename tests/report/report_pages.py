"""What tests read of a report."""

from html.parser import HTMLParser
from pathlib import Path

from unlearnkit.report import write
from unlearnkit.seal import Sealed


class Page(HTMLParser):
    """What a browser would find: elements, text, and the references that could leave the page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [attrs[attribute] for name, attrs in self.elements if name == tag and attribute in attrs]


def page_of(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def html(run: Path) -> str:
    write(Sealed.measured(run))
    return page_of(run)


def markdown_rows(text: str, heading: str) -> list[list[str]]:
    section = text.partition(heading)[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in [lines[0], *lines[2:]]]
