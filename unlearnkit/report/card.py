"""The card of an exported model: Markdown in which nothing from outside is markup."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.report.markdown import plain
from unlearnkit.report.verdict import verdict


def card(results: Any, manifest: Mapping[str, Any], row: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """Return the card of a solution, a row of the results; `digests` are the SHA-256 of its files."""
    environment = Environment(
        loader=PackageLoader("unlearnkit"), undefined=StrictUndefined, finalize=lambda value: plain(str(value)),
        autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,  # noqa: S701 - Markdown
    )  # fmt: skip
    template = environment.get_template("card.md.j2")
    return template.render(results=results, manifest=manifest, row=row, digests=digests, verdict=verdict(results))
