import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_set import make

from synthrad.data.cache import ImageCache
from synthrad.data.mask_conditions import mask_conditions
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.lineage import hash_subjects, project_key
from synthrad.records import Manifest

LAYERS = {"tooth": ("crown", "root")}
CARIES = pd.DataFrame({"label:caries": [1.0, 0.0] * 10})


@pytest.fixture
def real(tmp_path):
    return make(tmp_path / "real")


def of(conditions, real, seed=0, transform="none", size=(16, 16), layers=LAYERS):
    return mask_conditions(conditions, real, layers, size, seed, transform)


def train_rows(real, made):
    """The training row of each chosen mask."""
    train = real.where(split="train", source="real")
    files = {str(r.masks[0]): i for i, r in enumerate(train)}
    return train, [files[p[0]] for p in made.paths]


def test_a_mask_is_of_a_training_row_of_the_condition(real):
    train, rows = train_rows(real, of(CARIES, real))
    assert train.column("label:caries")[rows].tolist() == [1.0, 0.0] * 10


def test_rows_of_a_condition_take_turns_in_an_order_of_the_seed(real):
    train, rows = train_rows(real, of(CARIES, real))
    having = {i for i, r in enumerate(train) if r.masks[0] is not None}
    for value in (0, 1):
        mine = [i for i in rows[1 - value :: 2]]
        all_rows = {i for i in having if train.column("label:caries")[i] == value}
        assert 2 <= len(all_rows) < 10
        assert set(mine[: len(all_rows)]) == all_rows and set(mine[len(all_rows) : 2 * len(all_rows)]) <= all_rows
    assert train_rows(real, of(CARIES, real, seed=1))[1] != rows
    assert train_rows(real, of(CARIES[:7], real))[1] == rows[:7]  # a longer set begins as a shorter one


def test_an_attribute_narrows_the_choice(real):
    made = of(pd.DataFrame({"attribute:sex": ["f"] * 6}), real)
    train, rows = train_rows(real, made)
    assert set(train.column("attribute:sex")[rows]) == {"f"}


def test_a_cell_without_a_row_is_named(real):
    with pytest.raises(InputError, match="cell caries=1 sex=m: found no real training row"):  # caries is f alone
        of(pd.DataFrame({"label:caries": [1.0], "attribute:sex": ["m"]}), real)
    with pytest.raises(InputError, match="add --manifest"):
        of(CARIES, None)
    with pytest.raises(InputError, match="no mask layer 'bone'"):
        of(CARIES, real, layers={"bone": ("x",)})


def test_masks_are_resized_as_the_cache_resizes_them(tmp_path):
    real = make(tmp_path / "real")
    for record in real:  # pictures twice as wide as high
        for path in [record.channels[0], *[m for m in record.masks if m]]:
            picture = Image.open(path)
            picture.resize((50, 21), Image.Resampling.NEAREST).save(path)
    real = real.with_columns({"digest": [""] * len(real), "mask_digest": [""] * len(real)})
    named = real.table.loc[real.table["mask:tooth"] != "", ["mask:tooth"]][:6]
    made = of(named, real)
    cache = ImageCache(real, (16, 16), tmp_path / "cache")
    expected = np.stack([cache.masks(i) for i in named.index])
    assert expected.max() == 2 and not expected[:, :, :4].any()  # letterboxed
    assert np.array_equal(made.batch(range(6)), expected) and made.batch([3]).dtype == np.int64


def test_a_digest_names_the_file_and_the_lineage_its_patients(real):
    named = pd.DataFrame({"mask:tooth": ["masks/0.png", "masks/1.png", "masks/3.png"]})
    made = of(named, real)
    assert list(made.digests) == [file_digest(real[i].masks[0]) for i in (0, 1, 3)]
    part = made.lineage.fitted[0]
    assert part.kind == "masks" and part.origin == "known"
    assert part.trained_on == hash_subjects("tiny", ["real0", "real1"], project_key())
    assert part.fingerprints == {real.column("digest")[i] for i in (0, 1, 3)}
    assert made.lineage.settings == {"masks": "real", "mask_transform": "none"}


def test_the_same_files_elsewhere_are_the_same_masks(real, tmp_path):
    (tmp_path / "real").rename(tmp_path / "moved")
    moved = Manifest.read(tmp_path / "moved")
    assert of(CARIES, moved).identity["masks"] == of(CARIES, moved).identity["masks"]
    (tmp_path / "moved").rename(tmp_path / "real")
    assert of(CARIES, real).identity == {
        "masks": hashlib.sha256("\n".join(of(CARIES, real).digests).encode()).hexdigest(), "mask_transform": "none",
        "mask_size": [16, 16], "mask_resize": "letterbox"}


def given(folder, mask, name="mine.png"):
    Image.fromarray(np.asarray(mask, np.uint8)).save(folder / name)
    return str(folder / name)


def test_a_given_mask_is_of_unknown_origin(real, tmp_path):
    mask = np.zeros((32, 32))
    mask[4:9, 4:9] = 2
    made = of(pd.DataFrame({"mask:tooth": [given(tmp_path, mask), ""], "label:caries": [1.0, 0.0]}), real)
    assert made.lineage.origin == "unknown" and made.lineage.settings["masks"] == "real"  # the blank one was chosen
    assert np.array_equal(made.batch([0])[0, 0], mask[1::2, 1::2])  # the pixel below the centre
    assert of(pd.DataFrame({"mask:tooth": [given(tmp_path, mask)]}), real).lineage.settings["masks"] == "given"


def test_given_masks_that_are_refused(real, tmp_path):
    def refused(mask, message):
        with pytest.raises(InputError, match=message):
            of(pd.DataFrame({"mask:tooth": [mask]}), real)

    refused("masks/nowhere.png", "nowhere.png: found no such file")
    refused(given(tmp_path, np.full((8, 8), 3)), "the value 3; expected 0 to 2")
    held = real.where(split="test")[0].masks[0]
    refused(f"masks/{held.name}", "a mask of split test")
    copy = tmp_path / "copy.png"
    copy.write_bytes(held.read_bytes())
    refused(str(copy), "a mask of split test")
    text = tmp_path / "mask.txt"
    text.write_text("no mask")
    refused(str(text), "cannot be read")


def encoded_anew(source, path):
    """The same pixels in other bytes."""
    Image.fromarray(np.asarray(Image.open(source)).astype(np.uint16)).save(path, compress_level=0)
    assert path.read_bytes() != source.read_bytes()
    return str(path)


@pytest.mark.parametrize("split", ["val", "audit", "test"])
def test_a_held_out_mask_saved_again_is_refused(real, tmp_path, split):
    held = next(r.masks[0] for r in real.where(split=split) if r.masks[0])
    with pytest.raises(InputError, match=f"a mask of split {split}"):
        of(pd.DataFrame({"mask:tooth": [encoded_anew(held, tmp_path / "again.png")]}), real)


def test_a_copy_of_a_training_mask_names_its_patient(real, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(real[0].masks[0].read_bytes())
    for path in (str(copy), encoded_anew(real[0].masks[0], tmp_path / "again.png")):
        part = of(pd.DataFrame({"mask:tooth": [path]}), real).lineage.fitted[0]
        assert part.trained_on == hash_subjects("tiny", ["real0"], project_key())
        assert part.fingerprints == {real.column("digest")[0]} and (part.origin, part.notes) == ("known", "")


def test_layers_of_two_patients_name_both(tmp_path):
    real = make(tmp_path / "real")
    two = Manifest(real.table.assign(**{"mask:bone": real.column("mask:tooth")}),
                   replace(real.info, layers={"tooth": ("crown", "root"), "bone": ("jaw", "other")}))
    mine = np.zeros((32, 32))
    mine[0, 0] = 1

    def part(tooth, bone):
        named = pd.DataFrame({"mask:tooth": [tooth], "mask:bone": [bone]})
        return of(named, two, layers=two.info.layers).lineage.fitted[0]

    both = part("masks/0.png", "masks/3.png")
    assert both.trained_on == hash_subjects("tiny", ["real0", "real1"], project_key()) and both.origin == "known"
    assert both.fingerprints == {real.column("digest")[i] for i in (0, 3)}
    half = part("masks/0.png", given(tmp_path, mine))
    assert half.trained_on == hash_subjects("tiny", ["real0"], project_key()) and half.origin == "unknown"
    empty = part("masks/0.png", given(tmp_path, np.zeros((32, 32))))
    assert empty.trained_on == half.trained_on and empty.origin == "known"


def test_an_empty_training_mask_names_nobody(real, tmp_path):
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(real[0].masks[0])
    part = of(pd.DataFrame({"mask:tooth": [given(tmp_path, np.zeros((32, 32)))]}), real).lineage.fitted[0]
    assert not part.trained_on and part.origin == "unknown"


def test_the_size_and_the_resize_policy_are_part_of_the_identity(real):
    squeezed = Manifest(real.table, replace(real.info, resize="squeeze"))
    made = of(CARIES, real).identity
    assert made != of(CARIES, squeezed).identity and made != of(CARIES, real, size=(16, 32)).identity
    assert json.loads(json.dumps(made)) == made  # as the mark of a set has it


def test_an_empty_mask_is_nobodys(real, tmp_path):
    held = real.where(split="test")[0].masks[0]
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(held)
    copy = tmp_path / "copy.png"
    copy.write_bytes(held.read_bytes())
    assert not of(pd.DataFrame({"mask:tooth": [str(copy)]}), real).batch([0]).any()


def test_masks_of_one_image_come_together(tmp_path):
    real = make(tmp_path / "real")
    two = Manifest(real.table.assign(**{"mask:bone": real.column("mask:tooth")}),
                   replace(real.info, layers={"tooth": ("crown", "root"), "bone": ("jaw", "other")}))
    layers = two.info.layers
    with pytest.raises(InputError, match="row 2: found no file in 'mask:bone'"):
        of(pd.DataFrame({"mask:tooth": ["masks/0.png"]}), two, layers=layers)
    other = given(tmp_path, np.ones((8, 8)))
    with pytest.raises(InputError, match="8 x 8 pixels; expected 32 x 32"):
        of(pd.DataFrame({"mask:tooth": ["masks/0.png"], "mask:bone": [other]}), two, layers=layers)
    made = of(pd.DataFrame({"mask:tooth": ["masks/0.png"], "mask:bone": ["masks/1.png"]}), two, layers=layers)
    from synthrad.data.images import files_digest

    assert made.digests == [files_digest([two[0].masks[0], two[1].masks[0]])]
    assert made.batch([0]).shape == (1, 2, 16, 16)


def test_flip_mirrors_about_half(real):
    conditions = pd.DataFrame(index=range(40))
    still, moved = (of(conditions, real, transform=t, size=(32, 32)).batch(range(40)) for t in ("none", "flip"))
    mirrored = [np.array_equal(a, b[..., ::-1]) and not np.array_equal(a, b) for a, b in zip(moved, still, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(moved, still, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True)) and 10 < sum(mirrored) < 30


def test_affine_moves_a_little_by_seed_and_number_alone(real):
    conditions = pd.DataFrame(index=range(12))
    made = of(conditions, real, transform="affine", size=(32, 32))
    still, moved = of(conditions, real, size=(32, 32)).batch(range(12)), made.batch(range(12))
    overlap = np.array([((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum() for a, b in zip(moved, still, strict=True)])
    assert (overlap < 1).sum() > 8 and 0.5 < overlap.mean()
    assert np.array_equal(np.concatenate([made.batch([k]) for k in range(12)]), moved)
    assert not np.array_equal(of(conditions, real, 1, "affine", (32, 32)).batch(range(12)), moved)
    assert made.identity["mask_transform"] == made.lineage.settings["mask_transform"] == "affine"
    for unknown in ("elastc", "within:jaw", "within:tooth", "within"):
        with pytest.raises(InputError, match="--mask-transform"):
            of(conditions, real, transform=unknown)


def test_a_move_loses_no_structure(real, tmp_path):
    mask = np.zeros((32, 32))
    mask[8:20, 8:20] = 1
    mask[31, 31] = 2  # one pixel in the corner: nearly every move takes it out of the picture
    mask[30, 30] = 2
    conditions = pd.DataFrame({"mask:tooth": [given(tmp_path, mask)] * 20})
    moved = of(conditions, real, transform="affine", size=(32, 32)).batch(range(20))
    assert all({1, 2} <= set(np.unique(m)) for m in moved)
    assert sum(not np.array_equal(m[0], mask) for m in moved) > 5  # and still it moves
