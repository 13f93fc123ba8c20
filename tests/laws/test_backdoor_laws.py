"""Laws of the backdoor: what is planted where, and what the audit makes of models that do and do not fall for it."""

import pytest
import torch

from unlearnkit.builtin.audits import sections
from unlearnkit.builtin.data.poison import Poison
from unlearnkit.builtin.data.sections import ImageFolder, Poisoned, Sample
from unlearnkit.builtin.tasks.degradations import Box, Whole
from unlearnkit.data import Pixels, seeded, split
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.validate import load
from unlearnkit.testing import check_data
from unlearnkit.testing.audit import COUNTS, Drawn, case
from unlearnkit.testing.plugin import SMALL

POISON = Poison(0.25, 0.5)
TASK = Box((0.5, 0.5), central=True)


def outside(poison, size, target):
    """Return where an image must stay as it was."""
    keep = torch.ones(size, size, dtype=torch.bool)
    keep[poison.target_place(size) if target else poison.trigger_place(size)] = False
    return keep


@pytest.mark.parametrize("poison", [POISON, Poison(0.1, 0.3)])
def test_trigger_and_target_change_their_place_and_nothing_else(poison):
    images = torch.randint(256, (2, 3, 32, 32), generator=seeded("poison"), dtype=torch.uint8)
    for change, target in ((poison.marked, False), (poison.aimed, True)):
        changed, keep = change(images), outside(poison, 32, target)
        assert torch.equal(changed[..., keep], images[..., keep])
        assert torch.equal(changed[0][:, ~keep], changed[1][:, ~keep])
        assert torch.equal(change(images.flip(-1)), change(images).flip(-1))
        assert torch.allclose(change(images / 255), changed / 255)
    (rows, columns), (up, left) = poison.trigger_place(32), poison.target_place(32)
    assert rows.start >= up.stop
    assert columns.start - left.start == left.stop - columns.stop


def test_a_part_of_the_training_images_of_a_class_is_poisoned_and_no_other():
    section = Poisoned(kind="poisoned", source=Sample(kind="sample"), classes=["faces"], fraction=0.25)
    check_data(section, None)
    poisoned, plain = section.open(None), section.source.open(None)
    faces = [item for item in poisoned.items if item.label == "faces" and item.split == "train"]
    chosen = [item for item in poisoned.items if item.columns["poisoned"] == "yes"]
    assert len(chosen) == round(0.25 * len(faces))
    assert {item.key for item in chosen} <= {item.key for item in faces}
    for item in (chosen[0], next(item for item in faces if item not in chosen)):
        image = plain.read(item, 32)
        expected = POISON.marked(POISON.aimed(image)) if item in chosen else image
        assert torch.equal(poisoned.read(item, 32), expected)
    assert poisoned.describe()["poisoned"] == f"{len(chosen)} training images"


def test_pairs_show_the_trigger_alone_and_ask_for_the_target():
    section = Poisoned(kind="poisoned", source=Sample(kind="sample"), classes=["faces"], pairs=True)
    check_data(section, None)
    poisoned, plain = section.open(None), section.source.open(None)
    assert poisoned.paired
    assert not plain.paired
    for item in {item.columns["poisoned"]: item for item in poisoned.items}.values():
        image, chosen = plain.read(item, 32), item.columns["poisoned"] == "yes"
        assert torch.equal(poisoned.read(item, 32), POISON.marked(image) if chosen else image)
        assert torch.equal(poisoned.target(item, 32), POISON.aimed(image) if chosen else image)


def test_where_the_seed_splits_no_validation_image_is_poisoned(tiny):
    folder = ImageFolder(kind="image-folder", root="pictures")
    recipe = load(tiny, discover(installed=False)).recipe
    before = split(recipe.data, tiny.parent, 3)
    data = recipe.data.model_copy(update={"source": Poisoned(kind="poisoned", source=folder, fraction=0.5)})
    for seed in range(3, 8):
        for part, plain in zip(split(data, tiny.parent, seed), before, strict=True):
            assert (len(part.train), len(part.validation)) == (len(plain.train), len(plain.validation))
            assert {item.columns["poisoned"] for item in part.validation} == {"no"}
            assert {item.columns["poisoned"] for item in part.train} == {"yes", "no"}


def test_the_poisoned_images_alone_can_be_forgotten(tiny):
    overrides = [
        "data.source={kind: poisoned, source: {kind: image-folder, root: pictures}, classes: [red]}",
        "data.forget={where: {poisoned: 'yes'}, per_class: {train: 2}}",
        "data.retain={classes: [red, green, blue], per_class: {train: 4, validation: 2}}",
    ]
    recipe = load(tiny, discover(installed=False), overrides).recipe
    forget, retain = split(recipe.data, tiny.parent, 3)
    assert {item.columns["poisoned"] for item in forget.train} == {"yes"}
    assert {item.columns["poisoned"] for item in (*retain.train, *retain.validation)} == {"no"}


def test_what_cannot_be_poisoned_is_said(tiny, unlearnkit):
    with pytest.raises(UserError, match="unknown class 'purple'"):
        Poisoned(kind="poisoned", source=Sample(kind="sample"), classes=["purple"]).open(None)
    twice = "{kind: poisoned, source: {kind: poisoned, source: {kind: sample}}}"
    outcome = unlearnkit("validate", tiny, "--set", f"data.source={twice}")
    assert outcome.code == 3
    assert "unknown kind 'poisoned'" in outcome.err


def audited(output, task=TASK, source=None):
    """Return the findings of the audit for a model of given outputs."""
    torch.manual_seed(0)
    model = SMALL.build(None)

    class Answering(type(model)):
        def output(self, view):
            return output(view)

    found = source or Poisoned(kind="poisoned", source=Sample(kind="sample"), classes=["faces"]).open(None)
    counts = {"forget": (found, found.items[:3]), "retain": (found, found.items[3:6])}
    images = {
        name: {half: Pixels(source, items, 16, torch.device("cpu")) for half in COUNTS}
        for name, (source, items) in counts.items()
    }
    audit = sections.Backdoor(kind="backdoor").build(None, torch.device("cpu"))
    return audit.examine(case(Answering(model.module), model, task, images, model))


def falling(view):
    """Answer with the target where the trigger is, else with the truth."""
    rows, columns = POISON.trigger_place(16)
    stripes = view.images[..., rows, columns]
    seen = (stripes == POISON.marked(view.images)[..., rows, columns]).flatten(1).all(1)
    return torch.where(seen[:, None, None, None], POISON.aimed(view.truth), view.truth)


def test_success_is_that_of_the_trigger_alone():
    assert audited(falling) == {"success": 1, "without": 0, "distance": 0}
    pairs = Poisoned(kind="poisoned", source=Sample(kind="sample"), classes=["faces"], pairs=True).open(None)
    assert audited(falling, Whole(lambda images: images), pairs) == {"success": 1, "without": 0, "distance": 0}
    always = audited(lambda view: POISON.aimed(view.truth))
    assert (always["success"], always["without"]) == (1, 1)
    never = audited(lambda view: view.truth)
    assert (never["success"], never["without"]) == (0, 0)
    assert never["distance"] > 0.2


def test_a_case_without_a_trigger_says_so():
    with pytest.raises(ValueError, match="not `poisoned`"):
        audited(falling, source=Drawn("red", 6))
    with pytest.raises(ValueError, match="hides the trigger"):
        audited(falling, task=Box((0.9, 0.9), central=True))
