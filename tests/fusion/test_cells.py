from collections import Counter

import numpy as np
import pytest

from synthrad.errors import InputError
from synthrad.fusion import Cells, conditions, count
from synthrad.fusion.cells import by_subject, nearest


def test_labels_are_the_default_and_unknown_is_its_own_value(manifest_of):
    real = manifest_of([[1, 0, np.nan], [0, np.nan, np.nan]])
    assert Cells().of(real) == [("a=1", "b=0"), ("a=0", "b=?")]  # c is never known


def test_structures_where_no_label_is_known_and_only_of_useful_prevalence(manifest_of):
    real = manifest_of(np.empty((100, 0)), areas={"l/x": [0.1] * 50 + [0] * 50, "l/y": [0.1] + [0] * 99})
    assert Counter(Cells().of(real)) == {("l/x=1",): 50, ("l/x=0",): 50}
    with pytest.raises(InputError, match="1.0% of the images"):
        Cells(structures=["y"]).resolve(real)


def test_size_bins_are_closed_below_and_keep_absent_and_unknown_apart(manifest_of):
    real = manifest_of(np.zeros((6, 1)), areas={"l/x": [0, 0.05, 0.1, 0.19, 0.2, np.nan], "l/y": [0] * 6})
    cells = Cells(classes=[], size_bins={"x": [0.1, 0.2]})
    values = [c[0].split("=")[1] for c in cells.of(real)]
    assert values == ["none", "..0.1", "0.1..0.2", "0.1..0.2", "0.2..", "?"]
    assert [len(cells.positives(c)) for c in cells.of(real)] == [0, 1, 1, 1, 1, 0]
    assert count(real, cells.of(real)) == Counter(cells.of(real))


def test_a_size_bin_is_a_condition_where_the_set_has_it_as_an_attribute(manifest_of):
    asked = {"attributes": {"size(l/x)": ["..0.1", "0.1.."]}, "areas": {"l/x": [0.3, 0.05]}}
    real, drawn = (manifest_of([[1], [1]], source, **asked) for source in ("real", "synthetic"))
    cells = Cells(classes=[], size_bins={"l/x": [0.1]})
    assert cells.of(real) == [("size(l/x)=0.1..",), ("size(l/x)=..0.1",)]
    assert cells.of(drawn) == [("size(l/x)=..0.1",), ("size(l/x)=0.1..",)]
    wanted = conditions({("size(l/x)=0.1..",): 2}, real, np.random.default_rng(0))
    assert list(wanted["attribute:size(l/x)"]) == ["0.1.."] * 2


def test_a_synthetic_rows_cell_is_its_condition_not_its_mask(manifest_of):
    areas = {"l/a": [0.0, 0.3]}
    cells = Cells(classes=[], structures=["l/a"])
    assert cells.of(manifest_of([[1], [np.nan]], "real", areas=areas)) == [("l/a=0",), ("l/a=1",)]
    assert cells.of(manifest_of([[1], [np.nan]], "synthetic", areas=areas)) == [("l/a=1",), ("l/a=1",)]


def test_resolved_on_real_rows_a_set_with_other_prevalence_gets_the_same_parts(manifest_of):
    real = manifest_of(np.empty((4, 0)), areas={"l/x": [0.1, 0.1, 0, 0], "l/y": [0.1, 0, 0, 0]})
    drawn = manifest_of(np.empty((3, 0)), "synthetic", areas={"l/x": [0.1] * 3, "l/y": [0] * 3})
    assert Cells().resolve(real).of(drawn) == [("l/x=1", "l/y=0")] * 3


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"classes": ["z"]}, "cells.classes"),
        ({"attributes": ["z"]}, "cells.attributes"),
        ({"structures": ["z"]}, "cells.structures"),
        ({"size_bins": {"x": [0.2, 0.1]}}, "cells.size_bins.x"),
        ({"structures": ["x"], "size_bins": {"x": [0.1]}}, "cells.size_bins"),
    ],
)
def test_bad_declarations_name_the_key(manifest_of, arguments, names):
    real = manifest_of([[1], [0]], areas={"l/x": [0.1, 0], "l/y": [0.1, 0]})
    with pytest.raises(InputError) as error:
        Cells(**arguments).resolve(real)
    assert error.value.where == names


def test_conditions_follow_the_cells_and_take_the_rest_from_real_rows(manifest_of):
    real = manifest_of([[1, 0], [1, 1], [0, 0]], attributes={"sex": ["F", "M", "M"]})
    wanted = Counter({("a=1",): 4, ("sex=M",): 2, ("a=0", "b=1"): 3})
    table = conditions(wanted, real, np.random.default_rng(0))
    assert list(table) == ["label:a", "label:b", "attribute:sex"] and len(table) == 9
    assert ((table["label:a"] == 0) & (table["label:b"] == 1)).sum() == 3  # no real row has it
    first = table[table["label:a"] == 1].iloc[:4]
    assert set(zip(first["label:b"], first["attribute:sex"], strict=True)) <= {(0.0, "F"), (1.0, "M")}
    assert conditions(wanted, real, np.random.default_rng(0)).equals(table)


def test_subjects_take_turns():
    subjects = np.array(["p"] * 10 + ["q"] + ["r"] * 3, dtype=object)
    chosen = by_subject(subjects, np.arange(14), 8, np.random.default_rng(0))
    numbers = Counter(subjects[chosen])
    assert max(numbers.values()) - min(numbers.values()) <= 1
    assert Counter(chosen)[10] == numbers["q"]  # q has one image only


def test_nearest_shares_most_parts_then_has_most_rows():
    present = {("a=1", "b=0"): 1, ("a=0", "b=1"): 5, ("a=0", "b=0"): 90}
    assert nearest(("a=1", "b=1"), present) == ("a=0", "b=1")
