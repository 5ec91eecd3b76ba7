from collections import Counter

import numpy as np
import pytest

from synthrad.errors import InputError
from synthrad.fusion import AllOf, AreaRange, Cells, MaskQuality, NoNearDuplicates, RandomKeep


@pytest.fixture
def scored(manifest_of):
    """20 images; those with class a have the lower Dice."""
    n = 20
    return manifest_of(
        [[i % 2] for i in range(n)],
        "synthetic",
        attributes={"sex": ["F" if i < 10 else "M" for i in range(n)]},
        scores={
            "dice": [np.nan if i == 0 else 0.6 if i % 4 == 1 else 0.9 for i in range(n)],
            "area_inside": [0.5 if i == 2 else 1.0 for i in range(n)],
            "components_inside": [0.0 if i in (2, 3) else 1.0 for i in range(n)],
            "max_correlation": [i / n for i in range(n)],
        },
    )


def test_mask_quality_reports_whom_it_rejects(scored):
    judge = MaskQuality(min_dice=0.7)
    kept = judge.keep(scored)
    assert len(kept) == 15 and judge.report["kept"] == 15 and judge.report["rejected"] == 5
    assert judge.report["why"] == {"Dice below 0.7": 5}
    assert judge.report["per_class"] == {
        "a": {"kept": 5, "rejected": 5},
        "(none)": {"kept": 10, "rejected": 0},
    }
    assert judge.report["per_subgroup"]["sex=F"] == {"kept": 7, "rejected": 3}
    assert judge.report["similarity"]["kept"] == pytest.approx(
        np.median([i for i in range(20) if i % 4 != 1]) / 20
    )
    assert any("1 images kept unjudged" in line for line in judge.log)
    assert list(kept.column("digest")) == [f"synthetic{i}" for i in range(20) if i % 4 != 1]  # in order
    assert len(MaskQuality(min_dice=0.6).keep(scored)) == 20  # the threshold itself passes


def test_area_range_counts_areas_then_pieces(scored):
    judge = AreaRange()
    assert len(judge.keep(scored)) == 18
    assert judge.report["why"] == {
        "area outside the real range": 1,
        "number of pieces outside the real range": 1,
    }
    assert len(AreaRange(components=False).keep(scored)) == 19
    assert len(AreaRange(least=0.5, components=False).keep(scored)) == 20


def test_no_near_duplicates_warns_that_it_hides_memorisation(scored):
    judge = NoNearDuplicates(max_correlation=0.9)
    assert list(judge.keep(scored).column("score:max_correlation")) == [i / 20 for i in range(19)]
    assert any("audit the unfiltered set" in line for line in judge.log)


def test_all_of_gives_the_first_reason(scored):
    judge = AllOf([MaskQuality(), AreaRange()])
    assert len(judge.keep(scored)) == 13
    assert judge.report["why"]["Dice below 0.7"] == 5 and sum(judge.report["why"].values()) == 7
    assert len(judge.keep(scored)) == 13 and sum("unjudged" in line for line in judge.log) == 1


def test_random_keep_copies_the_numbers_of_each_cell_and_not_the_choice(scored):
    like = MaskQuality()
    kept = RandomKeep(like=like, seed=1).keep(scored)
    assert Counter(Cells().of(kept)) == Counter(Cells().of(like.keep(scored)))
    assert set(kept.column("digest")) != set(like.keep(scored).column("digest"))
    assert RandomKeep(like=like, seed=1).keep(scored).digest == kept.digest
    assert RandomKeep(like=like, seed=2).keep(scored).digest != kept.digest
    assert Counter(Cells().of(RandomKeep(fraction=0.3).keep(scored))) == {("a=0",): 3, ("a=1",): 3}


def test_a_filter_that_rejects_everything_is_an_error_that_says_how_far_off(scored):
    with pytest.raises(InputError, match=r"all 19 images rejected.*Dice below 0.95") as error:
        MaskQuality(min_dice=0.95).keep(scored.take(range(1, 20)))
    assert "best Dice of this set is 0.900" in error.value.repair


def test_a_set_that_was_not_scored_names_the_command(manifest_of):
    plain = manifest_of([[1]], "synthetic")
    for judge in (
        MaskQuality(),
        AreaRange(),
        NoNearDuplicates(),
        AllOf([MaskQuality()]),
        RandomKeep(like=MaskQuality()),
    ):
        with pytest.raises(InputError, match="(?s)score:.*synthrad score"):
            judge.keep(plain)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaskQuality(1.5),
        lambda: AreaRange(-1),
        lambda: NoNearDuplicates(float("nan")),
        RandomKeep,
        lambda: RandomKeep(MaskQuality(), 0.5),
        lambda: AllOf([]),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(InputError):
        make()
