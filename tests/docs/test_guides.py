"""The pages for those who come with a request or have never heard of ε: what they say holds, to the letter."""

import json
import re
import shutil
from hashlib import sha256

import pytest
from blocks import ROOT, blocks

from unlearnkit.builtin.data.sections import Sample

GUIDE = ROOT / "docs" / "how-to" / "deletion-request.md"
PICTURES = ROOT / "docs" / "in-pictures.md"


def test_the_table_of_what_epsilon_means_is_the_quickstarts():
    results = json.loads((ROOT / "docs/gallery/quickstart/results.json").read_text())
    solved = {s["label"]: s for s in results["solutions"]} | {"original model": results["original"]}
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PICTURES.read_text().splitlines()
        if "dB |" in line
    ]
    assert len(rows) == 7
    for label, f1, f2, *scores in rows:
        its = results["fill"] if label == "mean-colour fill" else solved[label]
        found = [its["metrics"][of]["validation"]["truth"]["hidden-psnr"] for of in ("forget", "retain")]
        assert scores == [f"{value:.1f} dB" for value in found]
        assert (f1, f2) == ("", "") or (float(f1), float(f2)) == (round(its["f1"], 3), round(its["f2"], 4))


@pytest.fixture
def photographs(tmp_path):
    """Return a folder with 200 photographs of four classes in `photos`, and a request for ten of each."""
    source = Sample(kind="sample").open(tmp_path)
    listed = []
    for label in ("airplanes", "faces", "motorbikes", "watch"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, item in enumerate([item for item in source.items if item.label == label][:50]):
            name = f"{label}/{number:04}.jpg"
            (tmp_path / "photos" / name).write_bytes(source.bytes_of(item))
            listed += [name] * (number < 10)
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "2024-17.txt").write_text("\n".join(listed))  # with no line break at its end
    return tmp_path


def test_a_deletion_request_is_answered_by_the_guide(photographs, shell):
    """With fewer steps and two of its ε; every listed file is unlearned, shown, recorded, and gone at the end."""
    pytest.importorskip("model_signing", reason="the extra `attest` is not installed")
    listed = (photographs / "requests" / "2024-17.txt").read_text().split()
    hashes = {name: sha256((photographs / "photos" / name).read_bytes()).hexdigest() for name in listed}
    for block in blocks(GUIDE):
        if block.said == "request.yaml":
            short = block.text.replace("steps: 100", "steps: 6").replace("[0, 0.25, 0.5, 0.75]", "[0.25, 0.75]")
            short = short.replace("images: 40", "images: 40, stops: 1")
            assert short.count("steps: 6") == 1
            assert "[0.25, 0.75]" in short
            (photographs / "request.yaml").write_text(short)
        elif block.language == "shell" and not block.said:
            before = block.text.startswith("while")
            if before:
                shutil.copytree(photographs / "runs" / "request", photographs / "kept")
            shell(block.text, photographs)
    results = json.loads((photographs / "kept" / "results.json").read_text())
    assert (results["sets"]["forget"]["train"], results["sets"]["forget"]["validation"]) == (40, 0)
    shown = results["each"]["forget"]
    assert sorted(shown["images"][row] for row in shown["shown"]) == sorted(listed)
    page = (photographs / "kept" / "report.html").read_text()
    assert len(set(re.findall(r'data-set="forget" data-index="(\d+)"', page))) == 40
    assert "training images, airplanes" in page
    record = (photographs / "answered" / "forgotten.txt").read_text().splitlines()
    assert sorted(record) == sorted(f"{hashes[name]}  {name}" for name in listed)
    assert not [name for name in listed if (photographs / "photos" / name).exists()]
    assert "40 images" in (photographs / "certificate.html").read_text()
