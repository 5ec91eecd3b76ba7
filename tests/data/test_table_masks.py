import argparse
from dataclasses import replace

import pytest

from synthrad.data.table_masks import add_mask_arguments, mask_layers, size_edges
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError

INFO = DatasetInfo("x", "x", layers={"tooth": ("crown", "root"), "lung": ("lung",)})


def flags(*words):
    parser = argparse.ArgumentParser()
    add_mask_arguments(parser)
    return parser.parse_args(words)


def test_each_mask_column_is_a_layer():
    made = mask_layers(flags("--mask", "a", "b", "--mask-classes", "tooth:1=root,7-8=crown", "lung:255=lung"), None)
    assert [(m.name, m.column, m.structures) for m in made] == [("tooth", "a", ("root", "crown")), ("lung", "b", ("lung",))]
    assert made[0].lookup[[0, 1, 7, 8, 9]].tolist() == [0, 1, 2, 2, -1]


def test_another_set_gives_structures_their_numbers():
    made = mask_layers(flags("--mask", "a", "--mask-classes", "tooth:1=root"), INFO)
    assert made[0].structures == ("crown", "root") and made[0].lookup[1] == 2
    bare = mask_layers(flags("--mask", "a", "b"), INFO)  # pixels are its structure numbers
    assert [m.name for m in bare] == ["tooth", "lung"] and bare[0].lookup[[1, 2]].tolist() == [1, 2]


@pytest.mark.parametrize(("words", "like", "said"), [
    ("--mask a", None, "without the meaning of its pixel values"),
    ("--mask a --mask-classes x:1=a x:2=b", None, "a layer twice"),
    ("--mask a --mask-classes x:1=a y:2=b", None, "1 column.* for 2 layer"),
    ("--mask a --mask-classes tooth:1=gum", INFO, "names among .*crown"),
    ("--mask a --mask-classes bone:1=jaw", INFO, "layers of other"),
])  # fmt: skip
def test_masks_that_nobody_can_read(words, like, said):
    args = flags(*words.split())
    args.like = "other"
    with pytest.raises(InputError, match=said):
        mask_layers(args, like)


def test_sizes_are_of_a_structure_and_increase():
    assert size_edges(["tooth/root:0.1,0.2", "lung/lung:0.5"], INFO) == {"tooth/root": [0.1, 0.2], "lung/lung": [0.5]}
    named = replace(INFO, layers={"a:b": ("c",)})  # the edges stand behind the last colon
    assert size_edges(["a:b/c:0.1"], named) == {"a:b/c": [0.1]}
    for spec in ("tooth/gum:0.1", "tooth/root:0.2,0.1", "tooth/root:0.1,0.1", "tooth/root:0,0.5", "tooth/root:1", "tooth/root:x", "0.1"):
        with pytest.raises(InputError, match="--size-bins"):
            size_edges([spec], INFO)
