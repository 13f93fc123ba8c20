"""What each target puts in the place of a forget image."""

from pathlib import Path

import pytest
import torch
from two_numbers import A0, GREY, Nothing, Q, Two

from unlearnkit.builtin.losses import targets
from unlearnkit.builtin.methods import trade_offs
from unlearnkit.contracts import Setting, Sources, View, standard_normal, whole
from unlearnkit.data import seeded, view_of
from unlearnkit.errors import UserError
from unlearnkit.recipe.sections import MethodSection


def batch(count=3, size=16):
    images = torch.rand(count, 3, size, size, generator=seeded("batch"))
    return View(whole(images), images)


def setting(base):
    def drawn(label, count, generator):
        if label == "absent":
            raise UserError("no such class", 3)
        return torch.full((count, 3, 16, 16), Q)

    adapter = Two()
    adapter.image_size = 16
    sources = Sources(standard_normal(), lambda: seeded("toy"), drawn, lambda weights: adapter, base)
    return Setting(adapter, Nothing(), sources)


def substitute(section, base=Path()):
    return section.build(setting(base), *([None, None] if isinstance(section, MethodSection) else []))


@pytest.mark.parametrize("distribution", ["images", "identity", "batch", "uniform", "constant"])
def test_noise_targets_have_the_moments_they_name(distribution):
    made = substitute(targets.Noise(kind="noise", distribution=distribution)).images(batch(40), seeded("n"))
    mean, std = {
        "images": (0, 1), "identity": (0, 1), "uniform": (0.5, 12**-0.5), "constant": (GREY, 0),
        "batch": (0.5, 0.26),  # clamping takes a little of 12^−½
    }[distribution]  # fmt: skip
    assert float(made.mean()) == pytest.approx(mean, abs=0.02)
    assert float(made.std()) == pytest.approx(std, abs=0.02)


def test_a_blur_keeps_the_mean_and_a_wide_one_is_nearly_flat():
    view = batch()
    narrow, wide = (substitute(targets.Blurred(kind="blurred", sigma=s)).images(view, seeded()) for s in (0.5, 40.0))
    assert view.truth.std() > narrow.std() > 5 * wide.std()
    filled = substitute(targets.MeanFilled(kind="mean-filled")).images(view, seeded())
    torch.testing.assert_close(filled, view.truth.mean((2, 3), keepdim=True).expand_as(view.truth))


def test_surrogates_are_retain_images_or_a_file(tmp_path):
    from PIL import Image

    made = substitute(targets.SurrogateClass(kind="surrogate-class")).images(batch(), seeded())
    assert made.unique().tolist() == pytest.approx([Q])
    with pytest.raises(UserError, match="no such class"):
        substitute(targets.SurrogateClass(kind="surrogate-class", name="absent"))
    Image.new("RGB", (20, 20), (51, 102, 153)).save(tmp_path / "one.png")
    made = substitute(targets.SurrogateImage(kind="surrogate-image", path="one.png"), tmp_path).images(
        batch(), seeded()
    )
    assert made[1, :, 3, 3].tolist() == pytest.approx([0.2, 0.4, 0.6])
    with pytest.raises(UserError, match=r"none\.png: not a readable image"):
        substitute(targets.SurrogateImage(kind="surrogate-image", path="none.png"), tmp_path)


def test_held_out_images_are_drawn_to_in_the_mean_of_some(tmp_path):
    from PIL import Image

    for name, grey in (("dark", 0), ("light", 255)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20), (grey,) * 3).save(tmp_path / name / "one.png")
    section = targets.HeldOut(kind="held-out", root=".", count=4)
    made = substitute(section, tmp_path).images(batch(40), seeded())
    assert made.unique().tolist() == [0, 1]  # each image is one of the two
    view = view_of(Two(), Nothing(), batch(400).x, seeded())
    with torch.no_grad():
        target = section.distance("embedding", setting(tmp_path), None).target(view, seeded())[0]
    shares = target.mean((1, 2, 3)) / A0
    torch.testing.assert_close(4 * shares, (4 * shares).round())  # so many of four were the light one
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(shares.std()) == pytest.approx(0.25, abs=0.03)  # a quarter of the variance of one
    with pytest.raises(UserError, match="nowhere"):
        substitute(targets.HeldOut(kind="held-out", root="nowhere"), tmp_path)


def test_siss_is_for_diffusion_models():
    with pytest.raises(UserError, match="this model is none"):
        substitute(trade_offs.Siss(kind="siss"))
