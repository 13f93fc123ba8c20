"""Where the numbers come from: recipe, software, device, data and metrics, as terms and facts."""

from typing import Any

from unlearnkit.report.results import Results
from unlearnkit.report.verdict import name

MISSING = "not recorded"
Facts = list[tuple[str, str]]


def provenance(results: Results, manifest: dict[str, Any]) -> list[tuple[str, Facts]]:
    """Return headed lists of facts; what the manifest lacks says so."""
    device = manifest.get("device") or {}
    weights = manifest.get("weights") or {}
    run = [
        ("recipe", results["name"]),
        ("recipe SHA-256", _text(manifest.get("recipe_sha256"))),
        ("seed", str(results["seed"])),
        *((f"mode: {key}", str(value)) for key, value in results["mode"].items()),
        ("started", _text(manifest.get("started"))),
        ("finished", _text(manifest.get("finished"))),
        ("resumed", _resumed(manifest.get("resumed"))),
    ]
    software = [(key, _text(manifest.get(key))) for key in ("unlearnkit", "python", "torch", "platform")]
    software += [(key, str(value)) for key, value in sorted((manifest.get("packages") or {}).items()) if key != "torch"]
    plugins = [(p.get("name", MISSING), _joined(p, "package", "version")) for p in manifest.get("plugins") or []]
    hardware = [("device", _joined(device, "kind", "name")), ("threads", _text(device.get("threads")))]
    sources = [("weights", _text(weights.get("ref"))), ("weights SHA-256", _text(weights.get("sha256")))]
    for of, facts in results["sets"].items():
        classes = ", ".join(map(str, facts.get("classes") or [])) or "all classes"
        counts = f"{facts.get('train', '—')} training and {facts.get('validation', '—')} validation images"
        sources.append((f"{of} set", f"{classes}; {counts}"))
    for source in manifest.get("data") or [{}]:
        of = f"{source.get('set', '')} data".strip()
        sources.append((of, _text(source.get("title") or source.get("name"))))
        sources += [(f"{of} {key}", _text(source.get(key))) for key in ("licence", "attribution", "digest")]
    metrics = [(name(results, metric), _facts(facts)) for metric, facts in results["metrics"].items()]
    sections = [("Run", run), ("Software", software), ("Device", hardware), ("Weights and data", sources)]
    return [*sections, ("Plugins", plugins or [("plugins", MISSING)]), ("Metrics", metrics or [("metrics", "none")])]


def _text(value: object) -> str:
    return MISSING if value in (None, "") else str(value)


def _joined(facts: dict[str, Any], *keys: str) -> str:
    return " ".join(str(facts[key]) for key in keys if facts.get(key)) or MISSING


def _resumed(times: list[dict[str, Any]] | None) -> str:
    if not times:
        return MISSING if times is None else "never"
    return "; ".join(one["time"] + (f" with {', '.join(one['set'])}" if one["set"] else "") for one in times)


def _facts(facts: dict[str, Any]) -> str:
    told = [f"{key.replace('_', ' ')}: {value}" for key, value in facts.items() if key != "name"]
    return "; ".join(told) or "no facts given"
