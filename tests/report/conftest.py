"""A synthetic run folder, as the runner writes it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unlearnkit.report import write
from unlearnkit.seal import Sealed

FRACTIONS = [0.0, 0.25, 0.5, 0.75, 1.0]
LOWEST, HIGHEST = 0.412, 0.951


@pytest.fixture
def results() -> dict[str, Any]:
    """Return the results of a run with five ε, both boundaries and two other methods."""
    return synthetic_results()


@pytest.fixture
def run(tmp_path: Path, results: dict[str, Any]) -> Path:
    """Return the folder of that run, with its manifest and pictures."""
    write_run(tmp_path / "run", results)
    return tmp_path / "run"


@pytest.fixture
def found() -> dict[str, Any]:
    """Return the results of that run with a dial and three targets."""
    return dial_results()


@pytest.fixture
def dialled(tmp_path: Path, found: dict[str, Any]) -> Path:
    """Return the folder of a run with a dial and three targets."""
    write_run(tmp_path / "dialled", found)
    return tmp_path / "dialled"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return such a folder with its report, for tests that only read."""
    folder = tmp_path_factory.mktemp("written") / "run"
    write_run(folder, synthetic_results())
    write(Sealed.measured(folder))
    return folder


@pytest.fixture
def write_results() -> Callable[[Path, dict[str, Any]], None]:
    """Return what writes results.json into a folder."""

    def rewrite(run: Path, results: dict[str, Any]) -> None:
        (run / "results.json").write_text(json.dumps(results), encoding="utf-8")

    return rewrite


def synthetic_results() -> dict[str, Any]:
    """Make up results with the shape of a real front."""
    solutions = [_boundary("highest", LOWEST, 0.0525), _boundary("lowest", HIGHEST, 3.1e-6)]
    for i, fraction in enumerate(FRACTIONS):
        epsilon = LOWEST + fraction * (HIGHEST - LOWEST)
        f1 = epsilon * (0.9985 if i else 1.0081)
        solutions.append(
            _solution(f"epsilon-{i}", f"ε at {fraction:.0%}".replace("%", " %"), f1, _cost(f1))
            | {"method": "epsilon-constraint", "phase": 2, "epsilon": epsilon, "fraction": fraction}
            | {"gap": (f1 - epsilon) / epsilon, "satisfied": True, "ended": "budget" if i else "satisfied"}
            | ({"landing": {"f1": 1.04 * epsilon, "gap": 0.04, "moved": True}} if i else {})
        )
    for i, (alpha, f1, f2) in enumerate([(0.25, 0.62, 0.041), (0.75, 0.44, 0.058)]):
        solutions.append(
            _solution(f"composite-{i}", f"composite α = {alpha}", f1, f2)
            | {"method": "composite", "gap": None, "satisfied": None, "dominated_by": ["epsilon-1"]}
        )
    solutions.append(
        _solution("max-loss", "max-loss", 1.42, 5.07)
        | {"method": "max-loss", "history": None, "dominated_by": ["original"]}
    )
    ids = [s["id"] for s in solutions]
    strips = {
        of: {key: f"images/{of}-{key}.png" for key in ("truth", "input", "original")}
        | {"solutions": {key: f"images/{of}-{key}.png" for key in ids}}
        for of in ("forget", "retain")
    }
    return {
        "format": 1,
        "name": "forget-faces",
        "seed": 0,
        "mode": {"multiplier": "averaged", "boundary": "gradient-norm", "epsilon": "constraint-gap",
                 "forget": "noise-embedding", "retain": "reference-embedding", "target": "mean"},
        "sets": {"forget": {"classes": ["faces"], "train": 100, "validation": 50},
                 "retain": {"classes": ["airplanes", "motorbikes", "watch"], "train": 300, "validation": 150}},
        "range": {"lowest": LOWEST, "highest": HIGHEST},
        "original": {"f1": 0.97, "f2": 0.0, "metrics": _metrics(0.0)},
        "solutions": solutions,
        "outside": [{"epsilon": 2.0, "reason": "above 1.2, f1 of the original model"}],
        "metrics": {"psnr": {"name": "PSNR", "unit": "dB", "better": "higher"},
                    "ssim": {"name": "SSIM", "better": "higher"},
                    "kid": {"name": "KID", "better": "lower", "extractor": "MobileNetV2, ImageNet", "features": 96,
                            "weights_sha256": "b0353104" * 8, "resize": "bilinear, antialias, 224"}},
        "warnings": ["image retain-17 was truncated and skipped"],
        "images": {"count": 8, "size": 64, **strips},
    }  # fmt: skip


def dial_results(stops: int = 16) -> dict[str, Any]:
    """Make up results with a dial and three targets: not met, met, and met beyond the valid range."""
    results = synthetic_results()
    end = results["original"]["f1"]
    results["dial"] = {
        "kind": "curve",
        "stops": [
            {"id": f"dial-{i:02}", "label": f"between solutions, f1 {f1:.4g}", "t": t, "f1": f1, "f2": 0.6 * _cost(f1),
             "fraction": (f1 - LOWEST) / (HIGHEST - LOWEST)}
            for i, t in enumerate((i + 0.5) / stops for i in range(stops))
            for f1 in [LOWEST + t * (end - LOWEST)]
        ],
    }  # fmt: skip
    aims = [
        ("score", "forget set psnr at most 7 (validation images, against the truth)", 0.413, 7.0, 8.3, None, False,
         "it cannot be met between the highest completeness and the original model; this is the nearest to it"),
        ("unseen", "forget training images score as unseen ones (psnr)", 0.66, 14.2, 14.19, 0.087, True, ""),
        ("retrained", "nearest to the retrained model (psnr of both sets)", 0.96, None, 0.31, None, True, ""),
    ]  # fmt: skip
    for kind, label, f1, wanted, value, error, met, note in aims:
        results["solutions"].append(
            _solution(f"target-{kind}", label, f1, 0.7 * _cost(f1))
            | {"method": "epsilon-constraint", "phase": 2, "epsilon": f1, "gap": 0.0, "satisfied": True}
            | {"fraction": (f1 - LOWEST) / (HIGHEST - LOWEST), "ended": "found", "steps": 0, "lam": None}
            | {"history": {"step": [], "f1": [], "f2": [], "lam": []}, "served": {"dial": "curve", "polish": 0}}
            | {"target": {"kind": kind, "label": label, "wanted": wanted, "value": value, "error": error,
                          "unit": "dB" * (kind != "score"), "met": met, "note": note, "place": 0}}
        )  # fmt: skip
    for of in ("forget", "retain"):
        strips = results["images"][of]
        strips["solutions"] = {s["id"]: f"images/{of}-{s['id']}.png" for s in results["solutions"]}
        strips["dial"] = {s["id"]: f"images/{of}-{s['id']}.png" for s in results["dial"]["stops"]}
    return results


def write_run(run: Path, results: dict[str, Any]) -> None:
    """Write a run folder with gradients for pictures: they grow darker as more is forgotten."""
    (run / "images").mkdir(parents=True)
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (run / "manifest.json").write_text(json.dumps(_manifest(results)), encoding="utf-8")
    count, size = results["images"]["count"], results["images"]["size"]
    ramp = Image.linear_gradient("L").resize((count * size, size))
    for of in ("forget", "retain"):
        strips = results["images"][of]
        paths = [strips[key] for key in ("truth", "input", "original")] + list(strips["solutions"].values())
        paths += strips.get("dial", {}).values()
        for i, path in enumerate(paths):
            shade = ramp.point([v * (40 - i) // 40 for v in range(256)])
            Image.merge("RGB", [shade, ramp, shade]).save(run / path)


def _cost(f1: float) -> float:
    return 0.05 * ((HIGHEST - f1) / (HIGHEST - LOWEST)) ** 1.8 if f1 < HIGHEST else 0.0


def _boundary(end: str, f1: float, f2: float) -> dict[str, Any]:
    label = f"boundary: {end} completeness"
    return _solution(f"boundary-{end}", label, f1, f2) | {"method": "epsilon-constraint", "phase": 1}


def _solution(key: str, label: str, f1: float, f2: float) -> dict[str, Any]:
    steps = list(range(0, 121, 4))
    wave = [math.sin(1.7 * n + len(key)) for n in steps]
    fall = [math.exp(-n / 22) for n in steps]
    history = {
        "step": steps,
        "f1": [f1 + (0.97 - f1) * e + 0.012 * w for e, w in zip(fall, wave, strict=True)],
        "f2": [max(0.0, f2 * (1 - e) + 0.05 * f2 * w) for e, w in zip(fall, wave, strict=True)],
        "lam": [0.8 * e + 0.05 * abs(w) + 40 * (n == 60) for n, e, w in zip(steps, fall, wave, strict=True)],
    }
    checks = [
        {"step": n, "f1": f1 + (0.97 - f1) * math.exp(-n / 22), "f2": f2 * (1 - math.exp(-n / 22)),
         "gap": None, "residual": 0.003, "lam": None}
        for n in (30, 60, 90, 120)
    ]  # fmt: skip
    return {
        "id": key, "label": label, "phase": None, "epsilon": None, "fraction": None, "f1": f1, "f2": f2,
        "gap": None, "residual": 0.0031 * f1, "lam": 0.8 * f2, "steps": 120, "ended": "budget", "satisfied": None,
        "dominated_by": [], "history": history, "checks": checks, "frozen_unchanged": True,
        "metrics": _metrics(min(1.0, abs(0.97 - f1) / 0.56)),
    }  # fmt: skip


def _metrics(forgotten: float) -> dict[str, Any]:
    def scores(of: str, against: str) -> dict[str, Any]:
        lost = forgotten if of == "forget" else 0.06 * forgotten
        start = 19.13 if against == "truth" else 38.0
        kid: Any = 0.0102 + 0.2 * lost
        if of == "retain" and against == "original":
            kid = {"failed": "KID needs 100 images, the retain set has 50"}
        return {"psnr": start - (start - 8.2) * lost, "ssim": 0.71 - 0.5 * lost, "kid": kid}

    return {
        of: {split: {against: scores(of, against) for against in ("truth", "original")}
             for split in ("train", "validation")}
        for of in ("forget", "retain")
    }  # fmt: skip


def _manifest(results: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": 1, "unlearnkit": "0.1.0", "started": "2026-01-05T10:00:00Z", "finished": "2026-01-05T10:07:41Z",
        "python": "3.11.9", "torch": "2.9.0", "platform": "Linux-6.1-x86_64",
        "device": {"kind": "cpu", "name": "AMD EPYC 7B13", "threads": 2},
        "packages": {"torchvision": "0.24.0", "torchmetrics": "1.8.2", "numpy": "2.4.6"},
        "plugins": [{"name": "timm", "package": "unlearnkit-timm", "version": "0.1.0"}],
        "recipe_sha256": "4b1d" * 16, "weights": {"ref": "sample:mae-64", "sha256": "9f3c" * 16},
        "data": [{"set": of, "name": "objects-64", "title": "Twelve object classes", "licence": "CC BY 4.0",
                  "attribution": "Caltech 101, Li, Andreeto, Ranzato, Perona (2022)", "digest": "77aa" * 16}
                 for of in ("forget", "retain")],
        "times": {s["id"]: 31.2 + i for i, s in enumerate(results["solutions"])},
        "resumed": [],
    }  # fmt: skip
