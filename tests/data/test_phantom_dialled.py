"""Dialled sets beyond test_phantom: which rows are asked for, what is refused and how, what a set says of itself."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthrad.data import phantom_dialled
from synthrad.data.phantom import draw_dialled, draw_phantom, write_phantoms
from synthrad.data.phantom_anatomy import FINDINGS
from synthrad.data.phantom_dialled import EFFECTS, _asked
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest

SIZE = (32, 64)


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Manifest:
    return write_phantoms(tmp_path_factory.mktemp("real"), 16, SIZE, seed=3, tooth_classes="fdi")


def shallow(manifest, labels) -> Manifest:
    """A manifest of rows without files."""
    columns = {f"label:{c}": np.array(labels, float)[:, k] for k, c in enumerate(FINDINGS)}
    return manifest.take([0] * len(labels)).with_columns(columns)


def test_a_prefix_of_what_is_asked_for_is_fair(real):
    train = real.where(split="train")
    rows = _asked(train, 3 * len(train) + 2, 5, "real")
    for turn in range(3):
        assert sorted(rows[turn * len(train) : (turn + 1) * len(train)]) == list(range(len(train)))
    assert len(set(rows[-2:])) == 2 and np.array_equal(_asked(train, 7, 5, "real"), rows[:7])
    assert not np.array_equal(_asked(train, len(train), 6, "real"), rows[: len(train)])


def test_uniform_takes_turns_among_combinations_and_each_gives_all_its_rows(real):
    labels = [(0, 0, 0, 0)] * 40 + [(1, 0, 0, 0)] * 3 + [(1, 1, 0, 0)]
    rows = _asked(shallow(real, labels), 300, 1, "uniform")
    kinds = [labels[i] for i in rows]
    assert Counter(kinds) == dict.fromkeys(set(labels), 100) and all(len(set(kinds[k : k + 3])) == 3 for k in range(0, 300, 3))
    assert set(rows[np.array([k == (1, 0, 0, 0) for k in kinds])]) == {40, 41, 42} and len(set(rows)) > 30


def test_unknown_labels_are_a_combination_of_their_own(real):
    rows = _asked(shallow(real, [(np.nan, 0, 0, 0), (0, 0, 0, 0), (np.nan, 0, 0, 0)]), 10, 1, "uniform")
    assert (rows == 1).sum() == 5


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_set_is_a_function_of_its_seed_and_says_how_it_was_made(real, tmp_path, effect):
    made, again, other = (draw_dialled(real, tmp_path / str(k), 2, effect, seed) for k, seed in enumerate((3, 3, 4)))
    assert made.digest == again.digest and not set(made.column("digest")) & set(other.column("digest"))
    rate = {"rate": 0.4} if effect == "label_noise" else {}
    assert made.info.lineage.settings == {"effect": effect, "seed": 3, "conditions": "real"} | rate
    assert made.info.id == f"{real.info.id}-{effect}-3" and made.info.name == f"phantom: {effect}"
    assert made.info.layers == real.info.layers and np.asarray(Image.open(made[0].channels[0])).shape == SIZE
    train = {r.digest: r for r in real.where(split="train")}
    for row in made:
        source = train[row.origin["row"]]
        assert row.labels == source.labels and row.attributes == source.attributes
        assert row.origin["mask_source"] == ("copied" if effect == "copies" else "drawn") and row.origin["seed"] == "3"
        asked = ",".join(f"{c}={v}" for c, v in zip(FINDINGS, row.labels, strict=True))
        shown = ",".join(f"{c}=0" for c in FINDINGS)
        assert row.origin["condition"] == asked
        assert effect == "label_noise" or row.origin["content"] == (shown if effect == "useless" else asked)


def test_no_seed_of_a_real_set_is_drawn_from(real, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr(phantom_dialled, "draw_phantom", lambda *a, **k: seeds.append(a[0]) or draw_phantom(*a, **k))
    draw_dialled(real, tmp_path / "noise", 2, "label_noise", seed=3, rate=1.0)  # the seed of the real set
    assert len(seeds) == 6 and set(seeds) == {2**32 + 3}


def test_a_full_rate_spoils_every_image_even_where_all_patients_are_alike(real, tmp_path):
    alike = real.with_columns({f"label:{c}": np.zeros(len(real)) for c in FINDINGS})
    made = draw_dialled(alike, tmp_path / "noise", 4, "label_noise", seed=1, rate=1.0)
    assert set(made.column("origin:condition")) == {"caries=0,deep_caries=0,periapical_lesion=0,impacted=0"}
    assert set(made.column("origin:content")) == {"caries=1,deep_caries=1,periapical_lesion=1,impacted=1"}
    assert not any(np.asarray(Image.open(r.masks[1])).any() for r in made)


def test_copies_of_any_set_keep_channels_bits_and_unknown_masks(tmp_path):
    info = DatasetInfo("two", "two", ("a",), {"l": ("x",)}, channels=("t1", "t2"), roots={HERE: str(tmp_path)})
    columns = empty_columns(info, 1)
    for channel, pixels in (("t1", np.full((8, 8), 40_000, np.uint16)), ("t2", np.full((8, 8), 254, np.uint8))):
        Image.fromarray(pixels).save(tmp_path / f"{channel}.png")
        columns[f"channel:{channel}"][0] = f"{channel}.png"
    columns["digest"][0], columns["subject"][0], columns["split"][0] = file_digest(tmp_path / "t1.png"), "p", "train"
    made = draw_dialled(Manifest(pd.DataFrame(columns), info), tmp_path / "copies", 3, "copies", seed=0)
    for row in made:
        deep, flat = (np.asarray(Image.open(p)) for p in row.channels)
        assert deep.dtype == np.uint16 and flat.dtype == np.uint8 and abs(deep.mean() - 40_000) < 500 and flat.min() >= 250
        assert row.masks == (None,) and row.labels == (None,) and row.origin["condition"] == "a="


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"effect": "great"}, "--synthetic: found 'great'; expected one of good, biased, label_noise, useless, copies"),
        ({"conditions": "even"}, "--conditions: found 'even'; expected one of real, uniform"),
        ({"number": 0}, "--number: found 0; expected at least 1 image"),
        ({"seed": -1}, "--seed: found -1"),
        ({"seed": 2**32}, "--seed: found 4294967296; expected a number from 0 to 2^32 - 1"),
        ({"rate": 1.1}, "--noise-rate: found 1.1; expected a share from 0 to 1"),
        ({"rate": float("nan")}, "--noise-rate: found nan"),
    ],
)
def test_values_out_of_range_are_named_before_anything_is_written(real, tmp_path, how, said):
    with pytest.raises(InputError) as e:
        draw_dialled(**{"real": real, "out": tmp_path / "x", "number": 2, "effect": "good", "seed": 0} | how)
    assert str(e.value).startswith(said) and not (tmp_path / "x").exists()


def test_phantoms_without_age_cannot_be_drawn_after_and_can_be_copied(real, tmp_path):
    info = type(real.info)(**{**vars(real.info), "attributes": ("sex",)})
    other = Manifest(real.table.drop(columns=["attribute:age", "attribute:age_band"]), info)
    with pytest.raises(InputError, match="synthrad prepare phantom OUT.*or use --synthetic copies"):
        draw_dialled(other, tmp_path / "x", 2, "good", seed=0)
    assert len(draw_dialled(other, tmp_path / "x", 2, "copies", seed=0)) == 2
