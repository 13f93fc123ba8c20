"""Where the numbers come from: recipe, software, device, data and metrics, as terms and facts."""

from typing import Any

from unlearnkit.report.numbers import listed
from unlearnkit.report.reading import name
from unlearnkit.report.shape import Results

MISSING = "not recorded"
Facts = list[tuple[str, str]]


def provenance(results: Results, manifest: dict[str, Any]) -> list[tuple[str, Facts]]:
    """Return headed lists of facts; what the manifest lacks says so."""
    device, weights = manifest.get("device") or {}, manifest.get("weights") or {}
    run = [("recipe", results["name"]), ("recipe SHA-256", _text(manifest, "recipe_sha256"))]
    run += [("seed", str(results["seed"])), *((f"mode: {key}", str(value)) for key, value in results["mode"].items())]
    run += [(key, _text(manifest, key)) for key in ("started", "finished")]
    times = [one["time"] + f" with {', '.join(one['set'])}" * bool(one["set"]) for one in manifest.get("resumed") or []]
    run.append(("resumed", "; ".join(times) or (MISSING if manifest.get("resumed") is None else "never")))
    if executors := manifest.get("executors"):
        run.append(("executors", "; ".join(f"{one['kind']}, {one['workers']} at a time" for one in executors)))
    software = [(key, _text(manifest, key)) for key in ("unlearnkit", "python", "torch", "platform")]
    software += [(key, str(value)) for key, value in sorted((manifest.get("packages") or {}).items()) if key != "torch"]
    plugins = [(p.get("name", MISSING), _text(p, "package", "version")) for p in manifest.get("plugins") or []]
    hardware = [("device", _text(device, "kind", "name")), ("threads", _text(device, "threads"))]
    sources = [("weights", _text(weights, "ref")), ("weights SHA-256", _text(weights, "sha256"))]
    for of, facts in results["sets"].items():
        classes = ", ".join(map(str, facts.get("classes") or [])) or "all classes"
        counts = f"{facts.get('train', '—')} training and {facts.get('validation', '—')} validation images"
        sources.append((f"{of} set", f"{classes}; {counts}"))
    for source in manifest.get("data") or [{}]:
        of = f"{source.get('set', '')} data".strip()
        sources.append((of, source.get("title") or _text(source, "name")))
        sources += [(f"{of} {key}", _text(source, key)) for key in ("licence", "attribution", "digest")]
    told = {m: listed({k: v for k, v in facts.items() if k != "name"}) for m, facts in results["metrics"].items()}
    metrics = [(name(results, metric), text or "no facts given") for metric, text in told.items()]
    sections = [("Run", run), ("Software", software), ("Device", hardware), ("Weights and data", sources)]
    return [*sections, ("Plugins", plugins or [("plugins", MISSING)]), ("Metrics", metrics or [("metrics", "none")])]


def _text(facts: dict[str, Any], *keys: str) -> str:
    return " ".join(str(facts[key]) for key in keys if facts.get(key) not in (None, "")) or MISSING
