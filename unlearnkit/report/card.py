"""The card of an exported model: Markdown in which nothing from outside is markup, headed by what the hub reads."""

import re
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from unlearnkit.report import limits, reading
from unlearnkit.report.markdown import plain
from unlearnkit.report.numbers import known
from unlearnkit.report.statement import Statement, files, solution
from unlearnkit.report.tables import VERDICTS


def card(its: Statement) -> str:
    """Return the card of a statement."""
    environment = Environment(
        loader=PackageLoader("unlearnkit"), undefined=StrictUndefined, finalize=lambda value: plain(str(value)),
        autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,  # noqa: S701 - Markdown
    )  # fmt: skip
    claims = its["predicate"]
    row = solution(claims)
    held = [
        (limit["label"], VERDICTS[kept["kept"]], limits.text(kept))
        for limit in claims["results"]["limits"]
        for kept in [limit["solutions"][row["id"]]]
    ]
    text = environment.get_template("card.md.j2").render(
        results=claims["results"], manifest=claims["manifest"], row=row, digests=files(its), verdict=claims["verdict"],
        held=held, judged=limits.said(claims["results"]["limits"], row["id"]),
    )  # fmt: skip
    return f"---\n{yaml.safe_dump(head(its), sort_keys=False, allow_unicode=True)}---\n\n{text}"


def head(its: Statement) -> dict[str, Any]:
    """Return the card's metadata: https://huggingface.co/docs/hub/model-cards with its evaluation results."""
    claims = its["predicate"]
    results, row = claims["results"], solution(claims)
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for of, split, against, metric, value in reading.scores(row):
        if known(value):
            said = {"type": metric, "name": reading.name(results, metric), "value": value}
            found.setdefault((of, split, against), []).append(said)
    entries = [
        {
            "task": {"type": "image-to-image"},
            "dataset": {"type": f"{of}-{split}-{against}", "name": f"{of} set, {split} images, against the {against}"},
            "metrics": metrics,
        }
        for (of, split, against), metrics in found.items()
    ]
    hub = re.match(r"hub:([\w.-]+/[\w.-]+)", claims["manifest"]["weights"]["ref"] or "")
    return {
        "library_name": "unlearnkit",
        "pipeline_tag": "image-to-image",
        "tags": ["machine-unlearning"],
        **({"base_model": hub[1]} if hub else {}),
        "model-index": [{"name": f"{results['name']}: {row['label']}", "results": entries}],
    }
