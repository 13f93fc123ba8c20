"""Laws of selections: what a set is depends on the criteria and the seed alone, and the two sets share no image."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnkit.contracts import Images, Item
from unlearnkit.data import choose, seeded, select, split
from unlearnkit.errors import UserError
from unlearnkit.plugins import discover
from unlearnkit.recipe.data import Data, PerClass, Selection
from unlearnkit.recipe.sections import DataSection
from unlearnkit.recipe.validate import load

LABELS = ("ant", "bee", "cow")


class Listed(Images):
    """Twenty images a class, of five people; the last five of each are validation images where the split is fixed."""

    def __init__(self, fixed: bool = False, backwards: bool = False) -> None:
        self.items = [
            Item(
                f"{label}/{row:02}",
                label,
                self.half(row) if fixed else None,
                {"who": f"n{row % 5}", "even": str(row % 2)},
            )
            for label in LABELS
            for row in range(20)
        ]
        if backwards:
            self.items.reverse()
        self.labels = frozenset((*LABELS, "empty"))

    @staticmethod
    def half(row: int) -> str:
        return "train" if row < 15 else "validation"

    def read(self, item, size):
        return torch.zeros(3, size, size, dtype=torch.uint8)

    def describe(self):
        return {"name": "listed"}


class Twenty(DataSection):
    """Sixty images."""

    kind: str = "twenty"
    """Sixty images."""
    fixed: bool = False
    """Whether the source fixes the split."""
    backwards: bool = False
    """Whether it lists its images the other way round."""

    def open(self, base: Path) -> Images:
        return Listed(self.fixed, self.backwards)


def sets(forget: Selection, retain: Selection, base: Path = Path(), seed: int = 0, per_class=None, **source: bool):
    data = Data(source=Twenty(**source), forget=forget, retain=retain, per_class=per_class or PerClass())
    return split(data, base, seed)


def keys(chosen) -> set[str]:
    return {item.key for item in (*chosen.train, *chosen.validation)}


def by_files(base: Path, *lines: str) -> Selection:
    (base / "list.txt").write_text("\n".join(lines))
    return Selection(files="list.txt")


criteria = st.builds(
    Selection,
    classes=st.none() | st.lists(st.sampled_from(LABELS), min_size=1, unique=True),
    where=st.none()
    | st.dictionaries(st.just("who"), st.lists(st.sampled_from(["n0", "n1", "n2"]), min_size=1), min_size=1),
    draw=st.none() | st.integers(1, 2),
    fraction=st.none() | st.floats(0.01, 0.9),
)


@settings(max_examples=60, deadline=None)
@given(criteria, criteria, st.integers(0, 3), st.booleans())
def test_the_sets_share_no_image_and_keep_their_criteria(forget, retain, seed, fixed):
    try:
        found = sets(forget, retain, seed=seed, fixed=fixed)
        again = sets(forget, retain, seed=seed, fixed=fixed, backwards=True)
    except UserError:  # such as a class that is forgotten as a whole and to be retained
        return
    assert not keys(found[0]) & keys(found[1])
    for one, other, wanted in zip(found, again, (forget, retain), strict=True):
        assert (one.train, one.validation) == (other.train, other.validation)
        assert not set(one.train) & set(one.validation)
        for item in (*one.train, *one.validation):
            assert wanted.classes is None or item.label in wanted.classes
            assert wanted.where is None or item.columns["who"] in wanted.where["who"]


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 1.0])
def test_a_fraction_counts_and_smaller_ones_lie_within(fraction):
    found = select("forget", Listed(), Selection(fraction=fraction), None, 0)
    assert len(found) == max(1, round(60 * fraction))
    less = select("forget", Listed(), Selection(fraction=fraction / 2), None, 0)
    assert set(less) <= set(found)
    cows = select("forget", Listed(), Selection(fraction=fraction, classes=["cow"]), None, 0)
    assert len(cows) == max(1, round(20 * fraction))


def test_the_seed_decides_a_fraction():
    draws = {frozenset(select("forget", Listed(), Selection(fraction=0.2), None, seed)) for seed in (0, 0, 1, 2)}
    assert len(draws) == 3


def test_the_rest_is_all_but_the_forget_set(tmp_path):
    forget, rest = sets(by_files(tmp_path, "ant/00", "", "bee/03", "ant/00"), Selection(), tmp_path)
    assert keys(forget) == {"ant/00", "bee/03"}
    assert len(keys(rest)) == 58
    assert forget.classes == ("ant", "bee")
    assert len(forget.train) == 2  # a quarter of one image is none
    assert not forget.validation


def test_the_rest_of_a_class_is_retained(tmp_path):
    forget, retain = sets(Selection(classes=["ant"], where={"who": "n3"}), Selection(classes=["ant"]))
    assert len(keys(forget)) == 4
    assert keys(retain) == {f"ant/{row:02}" for row in range(20) if row % 5 != 3}


def test_each_set_may_have_its_own_counts(tmp_path):
    forget = Selection(files="list.txt", per_class=PerClass(validation=0))
    by_files(tmp_path, *(f"ant/{row:02}" for row in range(8)))
    found = sets(forget, Selection(), tmp_path, per_class=PerClass(train=4, validation=3))
    assert [(len(one.train), len(one.validation)) for one in found] == [(8, 0), (12, 9)]


def test_a_fixed_split_stays_and_a_part_of_a_class_may_be_validation_alone(tmp_path):
    forget, rest = sets(by_files(tmp_path, "ant/19", "bee/03"), Selection(), tmp_path, fixed=True)
    assert [item.key for item in forget.train] == ["bee/03"]
    assert [item.key for item in forget.validation] == ["ant/19"]
    assert {item.split for item in rest.train} == {"train"}
    with pytest.raises(UserError, match="all images selected for the forget set are validation images"):
        sets(by_files(tmp_path, "ant/19"), Selection(), tmp_path, fixed=True)


def test_whole_classes_are_split_as_ever():
    """The order of a class is the permutation that its name and the seed draw, over images sorted by key."""
    retain = sets(Selection(classes=["ant"]), Selection(classes=["cow", "bee"]), seed=5)[1]
    order = torch.randperm(20, generator=seeded(5, "split", "cow")).tolist()
    assert [item.key for item in retain.validation[:5]] == [f"cow/{row:02}" for row in order[:5]]
    assert [item.key for item in retain.train[:15]] == [f"cow/{row:02}" for row in order[5:]]
    assert retain.train == choose("retain", Listed(backwards=True), ["cow", "bee"], PerClass(), 5).train


def test_a_proxy_source_has_keys_of_its_own(tmp_path):
    proxy = Selection(source=Twenty(backwards=True), classes=["ant"])
    forget, retain = sets(Selection(classes=["ant"]), proxy)
    assert keys(forget) == keys(retain)  # the same keys, of another source


class Many(Listed):
    """A thousand classes of three images."""

    def __init__(self) -> None:
        self.items = [Item(f"{label:04}/{row}", f"{label:04}") for label in range(1000) for row in range(3)]
        self.labels = frozenset(item.label for item in self.items)


class Thousand(DataSection):
    """A thousand classes."""

    kind: str = "thousand"
    """A thousand classes."""

    def open(self, base: Path) -> Images:
        return Many()


def drawn(seed: int, forget=Selection(draw=100), retain=Selection(draw=100)):  # noqa: B008
    return split(Data(source=Thousand(), forget=forget, retain=retain), Path(), seed)


@pytest.mark.parametrize("seed", range(4))
def test_classes_are_drawn_from_the_seed_and_the_retain_set_gets_others(seed):
    forget, retain = drawn(seed)
    assert len(set(forget.classes)) == len(set(retain.classes)) == 100
    assert not set(forget.classes) & set(retain.classes)
    assert [len(keys(one)) for one in (forget, retain)] == [300, 300]
    assert [one.classes for one in drawn(seed)] == [forget.classes, retain.classes]
    assert [one.classes for one in drawn(seed + 1)] != [forget.classes, retain.classes]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(0, 3))
def test_smaller_draws_lie_within_larger_ones(count, seed):
    less, more = (drawn(seed, Selection(draw=number))[0].classes for number in (count, count + 100))
    assert set(less) < set(more)


def test_the_list_that_was_drawn_says_the_same_as_the_draw():
    forget, retain = drawn(7)
    named = drawn(7, *(Selection(classes=list(one.classes)) for one in (forget, retain)))
    assert [(one.train, one.validation) for one in named] == [(one.train, one.validation) for one in (forget, retain)]


def test_a_draw_may_be_out_of_some_classes():
    forget, retain = drawn(0, Selection(classes=["0001"]), Selection(classes=["0001", "0002", "0003"], draw=2))
    assert (forget.classes, set(retain.classes)) == (("0001",), {"0002", "0003"})
    forget, retain = drawn(0, Selection(draw=1000), Selection(source=Twenty(), draw=3))
    assert retain.classes == LABELS  # another source has no class of the forget set


MISTAKES = [
    (Selection(where={"hwo": "n1"}), Selection(), "data.forget.where: unknown column 'hwo'; did you mean 'who'?"),
    (Selection(where={"who": ["n1", "n11"]}), Selection(), "data.forget.where.who: no image has the value 'n11'; did"),
    (Selection(classes=["bea"]), Selection(), "data.forget: unknown class 'bea'; did you mean 'bee'?"),
    (Selection(classes=["empty"]), Selection(), "data.forget: class 'empty' has no images"),
    (Selection(classes=["ant"]), Selection(classes=["bee", "ant"]), "data: ['ant'] is in the forget set and in the"),
    (Selection(classes=["ant"]), Selection(classes=["ant"], fraction=0.5), "data: ['ant'] is in the forget set and"),
    (Selection(fraction=1.0), Selection(), "data.retain: nothing is selected, for all of them are in the forget set"),
    (Selection(files="x.txt"), Selection(), "data.forget.files: there is no file"),
    (Selection(classes=["ant"]), Selection(files="both.txt"), "data.retain.files: 'ant/00', 'ant/01', 'ant/02' and 1"),
    (Selection(files="wrong.txt"), Selection(), "wrong.txt line 3: the source has no image '/data/ant/00'; did you"),
    (
        Selection(files="other.txt"),
        Selection(),
        "line 1: the source has no image '99'; a key of this source is 'ant/00'",
    ),
    (Selection(draw=4), Selection(), "data.forget.draw: 4 classes are asked for, but there are 3 to draw from"),
    (Selection(draw=2), Selection(draw=2), "data.retain.draw: 2 classes are asked for, but there are 1 without images"),
    (Selection(files="bees.txt", classes=["ant"]), Selection(), "data.forget: nothing is selected, for no image fits"),
    (Selection(files="blank.txt"), Selection(), "blank.txt lists no image; give one a line"),
]


@pytest.mark.parametrize(("forget", "retain", "message"), MISTAKES)
def test_a_mistake_says_where_and_what(tmp_path, forget, retain, message):
    (tmp_path / "both.txt").write_text("ant/00\nant/01\nant/02\nant/03\nbee/01\n")
    (tmp_path / "wrong.txt").write_text("ant/01\n\n/data/ant/00\n")
    (tmp_path / "other.txt").write_text("99\n")
    (tmp_path / "bees.txt").write_text("bee/01\n")
    (tmp_path / "blank.txt").write_text("\n\n")
    with pytest.raises(UserError) as caught:
        sets(forget, retain, tmp_path)
    assert message in str(caught.value)


def test_a_class_with_too_few_images_keeps_its_message():
    with pytest.raises(UserError, match="class 'ant' of the forget set has 2 training images, but 10 are asked for"):
        sets(Selection(classes=["ant"], where={"who": "n1"}), Selection(), per_class=PerClass(train=10, validation=2))


def test_a_source_without_columns_says_so():
    source = Listed()
    source.items = [Item(item.key, item.label) for item in source.items]
    with pytest.raises(UserError, match="this source has no columns; a manifest has"):
        select("forget", source, Selection(where={"who": "n1"}), None, 0)


RECIPE = """\
model: {{kind: vit-mae}}
data:
  source: {{kind: image-folder, root: pictures}}
  forget: {forget}
  retain: {retain}
"""

WRITTEN = [
    ("{}", "{}", "data.forget: give at least one of classes, files, where, draw and fraction"),
    ("{source: {kind: sample}}", "{}", "data.forget: give at least one of classes, files, where, draw and fraction"),
    ("{fraction: 0}", "{}", "data.forget.fraction: expected a number above 0"),
    ("{fraction: 1.5}", "{}", "data.forget.fraction: expected a number of at most 1"),
    ("{where: {year: 2019}}", "{}", "put it in quotes"),
    ("{where: {}}", "{}", "data.forget.where: expected at least 1 entries"),
    ("{draw: 0}", "{}", "data.forget.draw: expected a number above 0"),
    ("{classes: [ant], draw: 2}", "{}", "data.forget.draw: there are 1 classes to draw from; lower the number"),
    ("{clases: [ant]}", "{}", "did you mean 'classes'?"),
    ("{classes: [ant]}", "{classes: [ant]}", "'ant' is also in data.forget.classes"),
    ("{classes: [ant]}", "null", "data.retain"),
]


@pytest.mark.parametrize(("forget", "retain", "message"), WRITTEN)
def test_a_mistake_in_a_recipe_is_found_without_the_data(tmp_path, unlearnkit, forget, retain, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(forget=forget, retain=retain))
    outcome = unlearnkit("validate", path)
    assert outcome.code == 3
    assert message in outcome.err
    assert "1 problem" in outcome.err


@pytest.mark.parametrize(
    ("forget", "retain"),
    [
        ("{classes: [ant], fraction: 0.1}", "{classes: [ant, bee]}"),
        ("{files: forget.txt, per_class: {validation: 0}}", "{}"),
        ("{where: {who: [n1, n2], even: '1'}}", "{fraction: 0.5}"),
        ("{fraction: 0.01}", "{source: {kind: sample}}"),
        ("{draw: 100}", "{draw: 100}"),
        ("{classes: [ant]}", "{classes: [ant, bee], draw: 1}"),
    ],
)
def test_a_recipe_may_say(tmp_path, forget, retain):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(forget=forget, retain=retain))
    load(path, discover())
