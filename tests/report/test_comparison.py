"""Laws of a comparison: means, spreads, hypervolumes and paired differences against closed forms; what is cautioned."""

import copy
import csv
import io
import json
import math
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from unlearnkit.errors import UserError
from unlearnkit.fronts import METHOD
from unlearnkit.report.comparison import compare, gather, grids, ours, write
from unlearnkit.report.comparison.compare import paired, verdict
from unlearnkit.report.comparison.grids import escaped, spread
from unlearnkit.report.comparison.points import Spread
from unlearnkit.report.controllability import controlled, followed, ranks
from unlearnkit.report.gap import gap
from unlearnkit.seal import Sealed

RECIPE: dict[str, Any] = {
    "name": "forget-faces", "seed": 0, "task": {"kind": "center-crop"}, "forget": {"kind": "noise-embedding"},
    "retain": {"kind": "reference-embedding"}, "model": {"kind": "mae"}, "data": {"seed": 7, "forget": {}},
}  # fmt: skip

Change = Callable[[dict[str, Any], int], None]


def put(run: Path, results: dict[str, Any], recipe: dict[str, Any], seed: int) -> Path:
    results["seed"] = seed
    (run / "results.json").write_text(json.dumps(results))
    (run / "recipe.resolved.json").write_text(json.dumps(recipe | {"seed": seed}))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["costs"] = {s["id"]: {"images": 320, "peak_mib": 100 + seed} for s in results["solutions"]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.fixture
def seeded(run: Path, results: dict[str, Any], tmp_path: Path) -> Callable[..., list[Path]]:
    """Return what makes run folders of one recipe, a seed each, whose results `change` alters."""

    def make(seeds: int = 3, change: Change = lambda found, seed: None, **recipe: Any) -> list[Path]:
        folders = []
        for seed in range(seeds):
            folder = tmp_path / f"{'-'.join(recipe) or 'all'}-{seed}"
            shutil.copytree(run, folder)
            found = copy.deepcopy(results)
            change(found, seed)
            folders.append(put(folder, found, RECIPE | recipe, seed))
        return folders

    return make


def worse(found: dict[str, Any], seed: int) -> None:
    """Move every solution right by a hundredth of the seed."""
    for solution in found["solutions"]:
        solution["f1"] += 0.01 * seed


def test_a_spread_is_mean_and_sample_deviation() -> None:
    found = Spread((1.0, None, 2.0, 6.0))
    assert (found.mean, found.std) == (3.0, math.sqrt((4 + 1 + 9) / 2))
    assert (Spread((2.0,)).mean, Spread((2.0,)).std) == (2.0, None)
    assert Spread((None,)).mean is None
    assert spread(Spread((1.0, 3.0))) == "2.000 ± 1.4"
    assert spread(Spread((1400.0, 1600.0))) == "1500 ± 141"
    assert spread(Spread((1e9, 3e9))) == "2.000e9 ± 1.414e9"
    assert spread(Spread((None, 1.0, 3.0))) == "2.000 ± 1.4 (2 of 3 seeds)"
    assert spread(Spread((None, None))) == "—"


def test_a_paired_difference_is_students_interval() -> None:
    found = paired(Spread((3.0, 5.0, None, 4.0)), Spread((1.0, 2.0, 9.0, 3.0)))
    assert found is not None
    assert found.mean == pytest.approx(2)
    reach = 4.302652729911275 / math.sqrt(3)  # t at 97.5 % with 2 degrees of freedom; the differences are 2, 3, 1
    assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach))
    assert not found.larger_than_noise
    sure = paired(Spread((3.0, 3.2)), Spread((1.0, 1.1)))
    assert sure is not None
    assert sure.larger_than_noise
    assert paired(Spread((3.0,)), Spread((1.0,))) is None


def test_seeds_that_do_not_differ_show_no_noise_for_a_difference_to_be_larger_than(
    seeded: Callable[..., list[Path]],
) -> None:
    for one, other in [((0.7, 0.7), (0.5, 0.5)), ((0.3, 0.1 + 0.2), (0.1, 0.1)), ((3.0, 3.1), (1.0, 1.1))]:
        found = paired(Spread(one), Spread(other))
        assert found is not None
        assert found.larger_than_noise is None
    comparison = compare(gather(map(Sealed.measured, seeded(2))))
    assert {row[-1] for row in grids(comparison)[0].rows} == {"—"}
    said = "The seeds do not differ in how far the ε front is from composite and max-loss, so that no noise is known."
    assert verdict(comparison) == said


def test_a_method_of_one_seed_is_not_called_within_the_noise(seeded: Callable[..., list[Path]]) -> None:
    def noisy(found: dict[str, Any], seed: int) -> None:
        found["solutions"] = [s for s in found["solutions"] if s["id"] != "max-loss"]
        for s in found["solutions"]:
            s["f2"] = 0.02 + 0.02 * ((s["id"] == "composite-0") == bool(seed))

    folders = [*seeded(2, noisy), *seeded(1, noisy, other=1)]
    open_ = "By hypervolume not told apart from the ε front ({}): composite ({})."
    said = [
        open_.format("within the noise", "forget-faces"),
        open_.format("with one seed no noise is known", "forget-faces 2"),
    ]
    assert verdict(compare(gather(map(Sealed.measured, folders)))) == " ".join(said)


def test_hypervolumes_are_shares_of_one_area(seeded: Callable[..., list[Path]]) -> None:
    def two_points(found: dict[str, Any], seed: int) -> None:
        kept = {s["id"]: s for s in found["solutions"]}
        found["original"] |= {"f1": 4.0, "f2": 0.0}
        for key, f1, f2 in (("boundary-highest", 1.0, 2.0), ("epsilon-1", 2.0, 1.0), ("composite-0", 3.0, 1.0)):
            kept[key] |= {"f1": f1, "f2": f2}
        found["solutions"] = [kept["boundary-highest"], kept["epsilon-1"], kept["composite-0"]]

    found = compare(gather(map(Sealed.measured, seeded(2, two_points))))
    assert found.area is not None
    assert found.area.reference == (4.0, 2.0)
    curves = {curve.method: curve for curve in found.curves}
    assert curves[METHOD].hypervolume.each == (0.25, 0.25)  # (4 − 2)(2 − 1) of 4 · 2
    assert curves["composite"].hypervolume.each == (0.125, 0.125)
    # The front of all is the ε front, (2, 1) and (1, 2) in units of (4, 2): from (3, 1) it is ¼ and √(½² + ½²) away.
    assert curves[METHOD].distance.each == (0.0, 0.0)
    assert curves["composite"].distance.each == pytest.approx([(0.25 + math.sqrt(0.5)) / 2] * 2)
    assert {p.label: found.dominated(p) for p in found.points if p.kind == "composite"} == {"composite α = 0.25": True}


def test_a_seed_is_held_against_the_same_seed_of_other_recipes(seeded: Callable[..., list[Path]]) -> None:
    def placed(found: dict[str, Any], seed: int) -> None:
        kept = {s["id"]: s for s in found["solutions"]}
        found["original"] |= {"f1": 4.0, "f2": 0.0}
        for key, f2 in (("boundary-highest", 2.0), ("epsilon-1", 1.0)):
            kept[key] |= {"f1": 1.0 + seed, "f2": f2}
        found["solutions"] = [kept["boundary-highest"], kept["epsilon-1"]]

    both, [_, alone] = seeded(2, placed), seeded(2, placed, other=1)
    first, second = compare(gather(map(Sealed.measured, [*both, alone]))).curves
    assert (first.hypervolume.each, second.hypervolume.each) == ((0.375, 0.25), (0.25,))
    assert (first.distance.each, second.distance.each) == ((0.0, 0.0), (0.0,))  # seed 0 of the first lies 0.25 away


def test_every_axis_is_turned_to_less_is_better(seeded: Callable[..., list[Path]]) -> None:
    runs = gather(map(Sealed.measured, seeded(1)))
    found = compare(runs, "forget/validation/truth/psnr", "retain/validation/truth/psnr")
    assert (found.x.sign, found.y.sign) == (1, -1)  # low PSNR on the forget set is more forgotten
    kid = next(axis for axis in found.axes if axis.id == "forget/validation/truth/kid")
    assert kid.sign == -1
    with pytest.raises(UserError, match="'psnr' is no axis of these runs; there are: f1, f2, epsilon, forget/"):
        compare(gather(map(Sealed.measured, seeded(1, a=1))), "psnr")


def test_points_of_one_recipe_are_joined_over_its_seeds(seeded: Callable[..., list[Path]]) -> None:
    found = compare(gather(map(Sealed.measured, seeded(3, worse))))
    point = next(p for p in found.points if p.kind == "epsilon")
    values = point.on(next(axis for axis in found.axes if axis.id == "f1"))
    assert values.std == pytest.approx(0.01)
    assert point.label.startswith("ε at ")
    assert point.cost("peak_mib").each == (100, 101, 102)
    assert found.cautions == []


def test_what_makes_runs_incomparable_is_said(seeded: Callable[..., list[Path]], tmp_path: Path) -> None:
    other = seeded(1, task={"kind": "outpainting"})
    found = compare(gather(map(Sealed.measured, [*seeded(1), *other])))
    assert found.names == ["forget-faces", "forget-faces 2"]
    assert any("differ in task: f1 and f2 are not the same losses" in caution for caution in found.cautions)
    twice = seeded(1, b=1)
    assert "two runs have the same seed" in compare(gather(map(Sealed.measured, [*twice, *twice]))).cautions[0]
    with pytest.raises(UserError, match="this is no run folder"):
        gather(map(Sealed.of, [tmp_path / "nothing"]))


def test_every_recipe_has_a_name_of_its_own(seeded: Callable[..., list[Path]]) -> None:
    def called(name: str) -> Change:
        return lambda found, seed: found.update(name=name)

    given = ["a", "ab", "a", "a 2", "a"]
    runs = [run for i, name in enumerate(given) for run in seeded(1, called(name), **{f"of-{i}": i})]
    assert compare(gather(map(Sealed.measured, runs))).names == ["a", "ab", "a 2", "a 2 2", "a 3"]


def test_warnings_of_the_runs_are_cautions(seeded: Callable[..., list[Path]]) -> None:
    several, alone = seeded(2), seeded(1, lambda found, seed: found.update(name="other"), a=1)
    for run, warnings in zip([*several, *alone], (["x.", "x."], ["x."], ["y."]), strict=True):
        manifest = json.loads((run / "manifest.json").read_text())
        (run / "manifest.json").write_text(json.dumps(manifest | {"warnings": warnings}))
    cautions = compare(gather(map(Sealed.measured, [*several, *alone]))).cautions
    assert cautions == ["forget-faces, seed 0: x.", "forget-faces, seed 1: x.", "other: y."]


def test_the_gap_to_the_retrained_model_is_a_difference(seeded: Callable[..., list[Path]]) -> None:
    def retrained(found: dict[str, Any], seed: int) -> None:
        next(s for s in found["solutions"] if s["id"] == "max-loss")["retrained"] = True

    compared = compare(gather(map(Sealed.measured, seeded(2, retrained))))
    tables = {grid.id: grid for grid in grids(compared)}
    gap = tables["gap-to-retrained"]
    assert "max-loss" not in [row[0] for row in gap.rows]
    assert "max-loss" not in verdict(compared)
    first = tables["gap-to-retrained"].rows[0][1]
    assert isinstance(first, Spread)
    assert first.mean == pytest.approx(19.13 - (19.13 - (19.13 - 8.2) * min(1.0, abs(0.97 - 1.42) / 0.56)))
    assert "gap-to-retrained" not in {grid.id for grid in grids(compare(gather(map(Sealed.measured, seeded(2, c=1)))))}


def test_the_gap_is_to_the_mean_of_several_retrained_models_and_is_that_of_the_report(
    seeded: Callable[..., list[Path]],
) -> None:
    scores = {"max-loss": 11.0, "composite-0": 12.0, "composite-1": 16.0, "epsilon-0": 15.0}

    def retrained(found: dict[str, Any], seed: int) -> None:
        for s in (s for s in found["solutions"] if s["id"] in scores):
            s["metrics"]["forget"]["validation"]["truth"]["psnr"] = scores[s["id"]] + seed * (s["id"] == "max-loss")
            s["retrained"] = s["id"] != "epsilon-0"

    runs = gather(map(Sealed.measured, seeded(2, retrained)))
    table = next(grid for grid in grids(compare(runs)) if grid.id == "gap-to-retrained")
    column = next(i for i, h in enumerate(table.heads) if h.whole == "PSNR, forget set, unseen images")
    found = {str(row[0]): row[column] for row in table.rows}
    assert found["ε at 0 %"] == Spread((2.0, 15 - 40 / 3))
    assert found["max-loss"] == Spread((-3.0, -2.0))  # the other two have 14
    for place, run in enumerate(runs):
        told = gap(run.results)
        assert told is not None
        labels = {s["id"]: s["label"] for s in run.results["solutions"]}
        for key, apart in told["solutions"].items():
            cell = found[labels[key]]
            assert isinstance(cell, Spread)
            assert cell.each[place] == pytest.approx(apart["forget"]["validation"]["psnr"])


def test_files_hold_the_same_numbers(seeded: Callable[..., list[Path]], tmp_path: Path) -> None:
    folders = seeded(2, worse)
    write(map(Sealed.measured, folders), tmp_path / "out")
    with (tmp_path / "out" / "tables" / "solutions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    expected = [0.62 + 0.005, math.sqrt(2) * 0.005]
    row = next(row for row in rows if row["solution"] == "composite α = 0.25")
    assert [float(row[f"forget loss f1{end}"]) for end in ("", ": std")] == pytest.approx(expected)
    latex = (tmp_path / "out" / "tables" / "solutions.tex").read_text()
    assert r"composite $\alpha$ = 0.25 & composite & 0.6250 $\pm$ 0.0071" in latex
    assert latex.count(r"\\") == len(rows) + 1
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "0.6250 ± 0.0071" in text
    assert "KID needs 100 images" in text
    assert escaped("a_b & 50 % ± ε") == r"a\_b \& 50 \% $\pm$ $\varepsilon$"
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    write(map(Sealed.measured, folders), tmp_path / "out")
    assert {path: path.read_bytes() for path in before} == before


def test_what_an_earlier_comparison_left_is_removed_and_nothing_else(
    seeded: Callable[..., list[Path]], tmp_path: Path
) -> None:
    def retrained(found: dict[str, Any], seed: int) -> None:
        next(s for s in found["solutions"] if s["id"] == "max-loss")["retrained"] = True
        audit = {"id": "u-lira", "label": "U-LiRA", "about": "", "samples": "", "seeds": [0], "facts": {}}
        figures = {"auc": {"name": "AUC", "meaning": "", "forgotten": 0.5, "unit": ""}}
        cells = {s["id"]: {"auc": 0.5} for s in found["solutions"]}
        found["audits"] = [audit | {"figures": figures, "original": {"auc": 0.7}, "solutions": cells}]

    def files(folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    one, other = seeded(1), seeded(1, retrained, other=1)
    fresh, again, out = tmp_path / "fresh", tmp_path / "again", tmp_path / "out"
    write(map(Sealed.measured, one), fresh)
    write(map(Sealed.measured, [*one, *other]), out)
    assert {"plots/montage-1.png", "tables/control-1.csv", "tables/gap-to-retrained-1.tex"} < files(out)
    assert all(map(ours, files(out)))
    own = {"notes.md", "plots/mine.png", "tables/audits.csv", "tables/solutions.csv.bak", "seed/tables/cost.csv"}
    for name in own:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("of a person")
    shutil.copytree(out, again)
    write(map(Sealed.measured, one), out)
    assert files(out) == files(fresh) | own
    write(map(Sealed.measured, other), again)
    assert {"tables/audit-u-lira.csv", "tables/gap-to-retrained.csv"} < files(again)
    assert all(map(ours, files(again) - own))
    assert not any("-1." in name for name in files(again))


def test_means_are_spoken_of_where_there_are_several_seeds(seeded: Callable[..., list[Path]], tmp_path: Path) -> None:
    folders = seeded(2)
    for count in (1, 2):
        write(map(Sealed.measured, folders[:count]), tmp_path / f"out-{count}")
        for name in ("comparison.html", "comparison.md"):
            text = (tmp_path / f"out-{count}" / name).read_text(encoding="utf-8")
            assert ("over the seeds" in text or "deviations over them" in text) == (count > 1)


def test_audits_are_tabulated_over_seeds(seeded: Callable[..., list[Path]]) -> None:
    def audited(found: dict[str, Any], seed: int) -> None:
        figure = {"name": "AUC", "meaning": "x", "forgotten": 0.5, "unit": ""}
        cells = {s["id"]: {"auc": 0.5 + 0.1 * seed} for s in found["solutions"]}
        cells["epsilon-1"]["auc"] = {"over": 40} if seed else 30
        cells["epsilon-2"]["auc"] = {"failed": "too few images"}
        entry = {"id": "membership", "label": "Membership", "about": "A.", "samples": "9 images.", "seeds": [seed]}
        entry |= {"facts": {}, "figures": {"auc": figure}, "original": {"auc": 0.7}, "solutions": cells}
        found["audits"] = [entry]

    tables = grids(compare(gather(map(Sealed.measured, seeded(2, audited)))))
    table = next(grid for grid in tables if grid.id == "audit-membership")
    found = {str(row[0]): row[1] for row in table.rows}
    assert found["original model"] == Spread((0.7, 0.7))
    assert found["max-loss"] == Spread((0.5, 0.6))
    assert found["ε at 25 %"] == "30, >40"
    assert found["ε at 50 %"] == "failed [1]"
    assert table.notes == ["[1] AUC: too few images"]


def test_a_number_that_lacks_in_some_seeds_says_of_how_many_it_is(seeded: Callable[..., list[Path]]) -> None:
    def failing(found: dict[str, Any], seed: int) -> None:
        s = next(s for s in found["solutions"] if s["id"] == "max-loss")
        if seed:
            s["metrics"]["forget"]["validation"]["truth"]["psnr"] = {"failed": "no images"}
            s["f2"] = None

    tables = {grid.id: grid for grid in grids(compare(gather(map(Sealed.measured, seeded(3, failing)))))}
    table = tables["scores-truth"]
    lines = list(csv.DictReader(io.StringIO(table.csv())))
    for name, seeds in (("max-loss", "1"), ("ε at 25 %", "3")):
        row = next(row for row in table.text().rows if row[0] == name)
        assert [column.whole for column in table.heads[2:4]] == ["f2 ↓, training loss", "forget ↓, PSNR"]
        assert [cell.endswith(" (1 of 3 seeds)") for cell in row[1:4]] == [False, seeds == "1", seeds == "1"]
        line = next(line for line in lines if line["solution"] == name)
        assert line["forget ↓, PSNR: seeds"] == line["f2 ↓, training loss: seeds"] == seeds
    assert "f1 ↓, training loss: seeds" not in lines[0]
    assert "5.070 (1 of 3 seeds)" in next(row for row in tables["solutions"].text().rows if row[0] == "max-loss")


def test_an_empty_cell_is_explained(seeded: Callable[..., list[Path]]) -> None:
    for grid in grids(compare(gather(map(Sealed.measured, seeded(2))))):
        shown = grid.text()
        if any("—" in cell for row in shown.rows for cell in row):
            assert shown.notes


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_choosing_axes_moves_the_points(seeded: Callable[..., list[Path]], tmp_path: Path) -> None:
    write(map(Sealed.measured, seeded(2, worse)), tmp_path / "out")
    page = tmp_path / "out" / "comparison.html"
    choose = """<script>addEventListener("load", () => {
      const x = document.getElementById("x");
      x.value = "forget/validation/truth/psnr";
      x.dispatchEvent(new Event("change"));
    });</script></body>"""
    moved = tmp_path / "moved.html"
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    moved.write_text(source.replace("</body>", choose))
    found = []
    for path in (page, moved):
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
                   f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]  # fmt: skip
        dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert "data-error" not in dom.partition("<head>")[0]
        found.append(re.findall(r'<path d="[^"]*"[^>]*class="mark[^>]*transform="([^"]*)"', dom))
    assert len(found[0]) == len(found[1]) == 11
    assert found[0] != found[1]


def test_what_targets_found_is_compared_like_an_epsilon(dialled: Path, found: dict[str, Any], tmp_path: Path) -> None:
    other = shutil.copytree(dialled, tmp_path / "other")
    folders = [put(dialled, found, RECIPE, 0), put(other, copy.deepcopy(found), RECIPE, 1)]
    runs = list(map(Sealed.measured, folders))
    comparison = compare(gather(runs))
    kinds = {p.key: p.kind for p in comparison.points}
    targets = [s["id"] for s in found["solutions"] if "target" in s]
    assert {kinds[key] for key in targets} == {"epsilon"}
    ours = next(curve for curve in comparison.curves if curve.method == METHOD)
    assert set(targets) < {p.key for p in ours.points}
    write(runs, tmp_path / "compared")
    for name in ("comparison.html", "comparison.md"):
        assert found["solutions"][-1]["label"] in (tmp_path / "compared" / name).read_text(encoding="utf-8")


@pytest.fixture
def varied(seeded: Callable[..., list[Path]]) -> list[Path]:
    """Return the runs of two seeds of a recipe that is varied over a number and over words."""
    folders: list[Path] = []
    for delta, task in [(0.5, "half"), (2, "half"), (0.5, "crop"), (2, "crop")]:

        def shift(found: dict[str, Any], seed: int, delta: float = delta) -> None:
            worse(found, seed)
            for solution in found["solutions"]:
                solution["f2"] += 0.1 * delta

        for folder in seeded(2, shift, **{f"of-{delta}-{task}": 1}):
            manifest = json.loads((folder / "manifest.json").read_text())
            (folder / "manifest.json").write_text(json.dumps(manifest | {"varied": {"x.delta": delta, "task": task}}))
            folders.append(folder)
    return folders[::-1]


def test_what_is_varied_is_name_axis_and_column(varied: list[Path], tmp_path: Path) -> None:
    found = compare(gather(map(Sealed.measured, varied)), "x.delta", "f2")
    assert found.names == [f"x.delta = {delta}, task = {task}" for delta in (0.5, 2) for task in ("crop", "half")]
    assert found.title == "forget-faces over x.delta, task"
    delta, task = found.varied
    assert (delta.words, task.words, delta.sign, task.sign) == ((), ("crop", "half"), 0, 0)
    assert {p.on(delta).each for p in found.points} == {(0.5, 0.5), (2, 2)}
    assert {p.on(task).each for p in found.points} == {(0, 0), (1, 1)}
    assert not any(map(found.dominated, found.points))  # no end of a key is the better one
    assert found.area is None
    write(map(Sealed.measured, varied), tmp_path / "out", "f1", "f2")
    plots = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    assert all(ours(f"plots/{name}") for name in plots)
    assert {"over-epsilon.png", "over-x.delta.png", "over-task.png"} <= plots
    with (tmp_path / "out" / "tables" / "solutions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["x.delta"], row["task"]) for row in rows} == {(d, t) for d in ("0.5", "2") for t in ("crop", "half")}


def test_ranks_and_their_correlation_are_those_of_scipy() -> None:
    draw = random.Random(0)
    for _ in range(50):
        pairs = [(float(draw.randrange(5)), float(draw.randrange(4))) for _ in range(8)]
        epsilons, values = zip(*pairs, strict=True)
        assert ranks(values) == stats.rankdata(values).tolist()
        found = followed(pairs)
        if found is not None:
            assert found["rank"] == pytest.approx(stats.spearmanr(epsilons, values).statistic)
        assert (found is None) == (len({*epsilons}) == 1 or len({*values}) == 1)
    assert followed([(3.0, 9.0), (1.0, 1.0), (2.0, 4.0)]) == {"rank": 1.0, "monotone": True}
    assert followed([(1.0, 3.0), (2.0, 3.0), (3.0, -2.0)]) == {
        "rank": pytest.approx(-math.sqrt(3) / 2),
        "monotone": True,
    }
    assert followed([(1.0, 1.0), (2.0, 5.0), (3.0, 2.0)]) == {"rank": pytest.approx(0.5), "monotone": False}


def test_control_by_epsilon_is_told_of_every_figure_over_the_seeds(seeded: Callable[..., list[Path]]) -> None:
    def rising(found: dict[str, Any], seed: int) -> None:
        for place, solution in enumerate(s for s in found["solutions"] if s["phase"] == 2):
            solution |= {"epsilon": 1.0 + place, "f2": 5.0 - place if seed else float(place)}

    runs = gather(map(Sealed.measured, seeded(2, rising)))
    [table] = [grid for grid in grids(compare(runs)) if grid.id == "control"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["retain loss f2"] == [Spread((1.0, -1.0)), "2 of 2"]
    named = {
        "PSNR, forget set, validation images, against the truth",
        "SSIM, retain set, training images, against the original",
    }
    assert named <= rows.keys()
    assert not any("/" in name for name in map(str, rows))
    assert controlled(runs[0].results)["f2"] == {"rank": 1.0, "monotone": True}


def test_the_papers_table_has_a_block_a_setting_and_marks_the_best_of_each(varied: list[Path]) -> None:
    found = compare(gather(map(Sealed.measured, varied)))
    table = next(grid for grid in grids(found) if grid.id == "scores-truth")
    assert [column.head for column in table.heads[:4]] == ["solution", "setting", "f1 ↓", "f2 ↓"]
    each = len(table.rows) // 4
    assert [row[1] for row in table.rows] == [name for name in found.names for _ in range(each)]
    assert {"original model", "ε at 25 %", "max-loss"} < {row[0] for row in table.rows}
    psnr = [column.head for column in table.heads if column.group == "PSNR"]
    assert psnr == ["forget ↓", "retain ↑"]
    for column, head in enumerate(table.heads[2:], 2):
        sign = 1 if "↓" in head.head else -1
        for first in range(0, len(table.rows), each):
            cells = {row: table.rows[row][column] for row in range(first + 1, first + each)}  # the original is left out
            means = {row: sign * cell.mean for row, cell in cells.items() if isinstance(cell, Spread) and cell.known}
            marked = {row for row, at in table.best if at == column and first <= row < first + each}
            assert marked == {row for row, mean in means.items() if mean == min(means.values()) < max(means.values())}
    assert "On 50 validation images of the forget set and 150 validation images of the retain set. " in table.said


def test_further_tasks_are_blocks_without_losses(seeded: Callable[..., list[Path]]) -> None:
    def measured(found: dict[str, Any], seed: int) -> None:
        scored = {of: {"truth": {"psnr": 10.0 + seed}} for of in ("forget", "retain")}
        ids = [s["id"] for s in found["solutions"]]
        entry = {"task": {}, "label": "outpainting, border 0.5", "original": scored}
        found["tasks"] = [entry | {"solutions": dict.fromkeys(ids, scored)}]

    table = next(
        grid for grid in grids(compare(gather(map(Sealed.measured, seeded(2, measured))))) if "truth" in grid.id
    )
    rows = {tuple(row[:2]): row[2:] for row in table.rows}
    assert len(rows) == 2 * 11
    f1, f2, forget, retain = rows["max-loss", "outpainting, border 0.5"][:4]
    assert f1 == f2 == Spread((None, None))
    assert forget == retain == Spread((10.0, 11.0))
    assert isinstance(rows["max-loss", "training task"][0], Spread)
    assert "—: the losses are those of the training task." in table.text().notes


def test_latex_is_balanced_with_as_many_cells_in_every_row(varied: list[Path]) -> None:
    for folder in varied:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["varied"]["task"] += r" 50 % of a_b & #1 {x} ~^\ <|> $5 „ü“"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    tables = grids(compare(gather(map(Sealed.measured, varied))))
    assert any("‖" in grid.said or "ε" in grid.said for grid in tables)
    for grid in tables:
        text = grid.latex()
        bare = re.sub(r"\\[{}$&%#_|]", "", text.replace("\\\\", ""))  # without what is escaped or ends a row
        assert (bare.count("{") - bare.count("}"), bare.count("$") % 2, bare.count("%")) == (0, 0, 2)  # comments
        assert not re.search(r"(?<!\\end\{table\})[~#^_]", re.sub(r"\$[^$]*\$|\\text\w+\{\}", "", bare))
        assert re.findall(r"\\(begin|end)\{tab", text) == ["begin", "begin", "end", "end"]
        assert all(ord(sign) < 0x180 or sign in "„“" for sign in text)  # letters that pdfLaTeX has
        spec = re.search(r"begin\{tabular\}\{(\w+)\}", text)
        assert spec is not None
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        for line in lines:
            cells = re.split(r"(?<!\\)&", line)
            spans = (re.match(r"\s*\\multicolumn\{(\d+)\}", cell) for cell in cells)
            assert sum(int(span[1]) if span else 1 for span in spans) == len(spec[1]), line
