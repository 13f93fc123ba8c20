"""The bill of materials of an exported model: CycloneDX 1.7 for machine learning, all of it from its statement.

The shape is that of https://cyclonedx.org/docs/1.7/json/, whose model cards cyclonedx-python-lib 11 does not write yet.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from unlearnkit.report import reading
from unlearnkit.report.numbers import known
from unlearnkit.report.statement import Source, Statement, Weights, files, solution

LIMITATION = "Figures measure outputs; they do not prove that nothing of the forget set can be recovered."


def bill(its: Statement) -> dict[str, Any]:
    """Return the bill of a statement."""
    claims = its["predicate"]
    results, manifest = claims["results"], claims["manifest"]
    identity = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(its, sort_keys=True))
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": results["name"],
        "version": claims["solution"],
        "pedigree": {"ancestors": [_original(manifest["weights"])]},
        "modelCard": {
            "modelParameters": {
                "task": "image-to-image",
                "datasets": [{"ref": f"data-{source['set']}"} for source in manifest["data"]],
                "inputs": [{"format": "image"}],
                "outputs": [{"format": "image"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_figures(its))},
            "considerations": {"technicalLimitations": [LIMITATION]},
        },
    }
    tool = {"type": "application", "name": "unlearnkit", "version": claims["unlearnkit"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{identity}",
        "version": 1,
        "metadata": {
            "timestamp": manifest["finished"], "tools": {"components": [tool]}, "component": model,
        },
        "components": [
            *map(_file, files(its).items()),
            *map(_data, manifest["data"]),
            {"type": "library", "name": "torch", "version": manifest["torch"]},
        ],
    }  # fmt: skip


def _original(weights: Weights) -> dict[str, Any]:
    hashes = {"hashes": _hashes(weights["sha256"])} if weights["sha256"] else {}
    return {"type": "machine-learning-model", "name": weights["ref"] or "untrained weights", **hashes}


def _file(item: tuple[str, str]) -> dict[str, Any]:
    name, digest = item
    return {"type": "file", "bom-ref": name, "name": name, "hashes": _hashes(digest)}


def _data(source: Source) -> dict[str, Any]:
    """Return a set as data that was trained on, or was to be forgotten, told by hashes and never by its images."""
    facts = {"files": source["files"], "files.sha256": source["files_sha256"], "pixels.sha256": source["digest"]}
    return {
        "type": "data",
        "bom-ref": f"data-{source['set']}",
        "name": f"{source['set']} set of {source['name']}",
        "properties": [{"name": f"unlearnkit:{name}", "value": str(value)} for name, value in facts.items()],
    }


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _figures(its: Statement) -> Iterator[dict[str, str]]:
    results, model = its["predicate"]["results"], solution(its["predicate"])
    for loss in ("f1", "f2"):
        yield {"type": loss, "value": repr(model[loss]), "slice": "whole training set"}
    for of, split, against, metric, value in reading.scores(model):
        if known(value):
            where = f"{of}, {split}, against the {against}"
            yield {"type": reading.name(results, metric), "value": repr(value), "slice": where}
