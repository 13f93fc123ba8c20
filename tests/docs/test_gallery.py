"""What the gallery takes of a finished run, and what its card and its page show of it."""

import json
import re
import shutil
from pathlib import Path

import pytest
import tiny_task
from PIL import Image

from docs.builder import gallery
from unlearnkit.errors import UserError
from unlearnkit.report import strips, tables
from unlearnkit.report.shape import load
from unlearnkit.seal import Sealed

SEEDS = """\
seeds: [0, 5]
compare: [{kind: composite}]
"""
AUDITS = """\
compare: [{kind: composite}]
"""


@pytest.fixture(scope="module")
def ran(shared_tiny, tmp_path_factory):
    """Return a folder of two recipes, one with seeds and one with audits, and of their finished runs."""
    root = tmp_path_factory.mktemp("gallery")
    (root / "recipes").mkdir()
    shutil.copytree(shared_tiny.parent / "pictures", root / "recipes" / "pictures")
    text = shared_tiny.read_text().replace("steps: 24", "steps: 12").replace("[0, 0.5, 1]", "[0.5]")
    recipes = {
        "several": text.replace("name: tiny\n", f"name: several\n{SEEDS}"),
        "audited": text.replace("name: tiny\n", f"name: audited\n{AUDITS}") + "  audits: [{kind: membership}]\n",
    }
    for name, said in recipes.items():
        recipe = root / "recipes" / f"{name}.yaml"
        recipe.write_text(said)
        tiny_task.ran(recipe, root / "runs" / name)
    return root


@pytest.fixture
def root(ran, tmp_path, monkeypatch) -> Path:
    """Return a copy whose recipes are the committed ones and whose gallery is empty."""
    root = Path(shutil.copytree(ran, tmp_path / "root"))
    (root / "gallery").mkdir()
    (root / "gallery" / "needs.yaml").write_text("{}\n")
    monkeypatch.setattr(gallery, "ROOT", root)
    monkeypatch.setattr(gallery, "GALLERY", root / "gallery")
    monkeypatch.setattr(gallery, "listed", lambda: sorted((root / "recipes").glob("*.yaml")))
    return root


def card(name: str) -> gallery.Card:
    return next(card for card in gallery.cards() if card.name == name)


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of every table."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_a_card_of_several_seeds_has_the_numbers_of_the_comparison(root):
    assert gallery.collect(root / "runs" / "several") == root / "gallery" / "several"
    page = gallery.page(card("several"), root / "plans")
    compared = (root / "runs/several/comparison.md").read_text()
    verdict = compared.split("\n\n")[1]
    assert "hypervolume" in verdict
    assert verdict in page
    shown = rows(page)
    for title in ("Trade-offs", "Solutions", "Cost"):
        table = compared.split(f"## {title}\n")[1].split("\n## ")[0]
        assert len(rows(table)) > 3
        assert [row for row in rows(table) if row not in shown] == [], title
    assert sum("±" in cell for row in shown for cell in row) >= 10
    assert "of 2 seeds on" in page
    assert "seeds 0, 5" in page


def test_a_card_of_several_seeds_has_strip_front_and_comparison(root):
    gallery.collect(root / "runs" / "several")
    gallery.copy_files(root / "pages", root / "extra")
    page = gallery.page(card("several"), root / "plans")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert pictures == ["several/strip.png", "several/comparison.png"]
    assert all((root / "pages" / path).is_file() for path in pictures)
    with Image.open(root / "pages/several/strip.png") as strip:
        pitch = gallery.SIDE + gallery.GAP
        assert strip.size == (3 * pitch - gallery.GAP, 2 * pitch - gallery.GAP)  # input, original, one ε; two sets
        assert len(strip.getcolors(10**6)) > 100
    assert re.findall(r'(?:href|src)="([^"]+)"', page) == ["several/comparison.html"] * 2
    source = root / "extra/several/comparison.html"
    assert source.read_text() == (root / "runs/several/comparison.html").read_text()
    for name in re.findall(r"Also as (tables/[\w-]+\.csv)", source.read_text()):
        assert (source.parent / name).is_file()
    assert "(several/strip.png)" in gallery.index(gallery.cards())


def test_seconds_of_a_card_are_those_of_all_seeds(root):
    gallery.collect(root / "runs" / "several")
    manifests = [json.loads(path.read_text()) for path in (root / "runs/several").glob("seed-*/manifest.json")]
    assert len(manifests) == 2
    assert card("several").seconds == pytest.approx(sum(sum(one["times"].values()) for one in manifests))


def test_what_is_collected_names_no_folder_of_this_machine(root):
    for name in ("several", "audited"):
        for path in gallery.collect(root / "runs" / name).rglob("*"):
            assert path.is_dir() or str(root).encode() not in path.read_bytes(), path
            assert path.suffix not in (".safetensors", ".jsonl")


def test_a_card_shows_what_its_audits_found(root):
    gallery.collect(root / "runs" / "audited")
    gallery.copy_files(root / "pages", root / "extra")
    page = gallery.page(card("audited"), root / "plans")
    results, _ = load(Sealed.of(root / "runs" / "audited"))
    (audit,) = tables.audits(results)
    found = rows(page.split("## Audits")[1].split("## Move along")[0])
    assert [row[0] for row in found[2:]] == [row[0] for row in audit.rows]
    measured = {"original": results["audits"][0]["original"], **results["audits"][0]["solutions"]}
    for row, id_ in zip(found[2:], audit.ids, strict=True):
        assert float(row[1]) == pytest.approx(measured[id_]["auc"], rel=1e-3)
    report = (root / "extra/audited/report.html").read_text()
    assert 'href="comparison.html"' in report
    assert (root / "extra/audited/comparison.html").is_file()


def test_a_run_that_misses_a_seed_is_refused_and_the_card_stays(root):
    folder = gallery.collect(root / "runs" / "several")
    shutil.rmtree(root / "runs/several/seed-5")
    with pytest.raises(UserError, match=r"no run of seed 5; try `unlearnkit resume"):
        gallery.collect(root / "runs" / "several")
    assert (folder / "seed-5/results.json").is_file()


def test_a_run_of_another_recipe_is_refused(root):
    recipe = root / "recipes/several.yaml"
    recipe.write_text(recipe.read_text().replace("steps: 12", "steps: 13"))
    with pytest.raises(UserError, match="ran another recipe"):
        gallery.collect(root / "runs" / "several")
    recipe.unlink()
    with pytest.raises(UserError, match="no committed recipe of the name 'several'"):
        gallery.collect(root / "runs" / "several")


def test_collecting_again_leaves_nothing_of_the_run_before(root):
    folder = gallery.collect(root / "runs" / "several")
    (folder / "old.png").write_bytes(b"")
    gallery.collect(root / "runs" / "several")
    assert not (folder / "old.png").exists()


def test_the_strip_goes_from_loose_to_tight(root):
    run = root / "runs" / "audited"
    results, _ = load(Sealed.of(run))
    pictures, _ = strips.read(Sealed.of(run), results)
    sheet = gallery.strip(pictures)
    wanted = [p for p in pictures if p.set == "forget" and p.of in ("input", "original", "epsilon-at-0.5")]
    for column, picture in enumerate(wanted):
        left = column * (gallery.SIDE + gallery.GAP)
        square = picture.squares[0].resize((gallery.SIDE, gallery.SIDE), Image.Resampling.BICUBIC)
        assert sheet.crop((left, 0, left + gallery.SIDE, gallery.SIDE)).tobytes() == square.tobytes()
