"""Real images that a set starts from: which, whose, and what of them may change; the command on a real checkpoint."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition
from synthrad.data.cache import ImageCache
from synthrad.data.images import files_digest, read_image, read_mask
from synthrad.data.mask_conditions import mask_conditions
from synthrad.data.start_images import start_images
from synthrad.errors import InputError
from synthrad.lineage import hash_subjects, project_key
from synthrad.records import Manifest, file_digest

ASKED = pd.DataFrame({"label:caries": [1.0, 0.0] * 6})


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return make(tmp_path_factory.mktemp("starts") / "real", rows=36)


def of(real, start="same", conditions=ASKED, layers=("tooth",), **more):
    return start_images(start, conditions, real, layers, (16, 16), 0, **{"strength": 0.5, **more})


def train_rows(real, made):
    by_digest = {r.digest: r for r in real.where(split="train", source="real")}
    return [by_digest[d] for d in made.digests]


def masks_of(real, rows, transform="none"):
    """Masks to draw from: those of the n-th training rows that have one."""
    train = real.where(split="train", source="real")
    known = [r for r in train if r.masks[0]]
    files = pd.DataFrame({"mask:tooth": [str(known[i].masks[0]) for i in rows]})
    return mask_conditions(files, real, {"tooth": ("crown", "root")}, (16, 16), 0, transform), [known[i] for i in rows]


def test_same_takes_rows_of_the_condition_in_turn(real):
    assert [r.labels[0] for r in train_rows(real, of(real))] == [1.0, 0.0] * 6
    known = [r for r in real.where(split="train", source="real") if r.masks[0]]
    free = of(real, conditions=pd.DataFrame(index=range(len(known))))
    assert len(set(free.digests)) == len(known)  # every row once before any twice
    assert all(r.masks[0] for r in train_rows(real, of(real, conditions=pd.DataFrame(index=range(40)))))
    assert len(set(of(real, conditions=pd.DataFrame(index=range(60)), layers=()).digests)) == len(real.where(split="train", source="real"))


def test_without_takes_rows_that_agree_in_all_but_that_finding(real):
    given, _ = masks_of(real, [1] * 12)
    asked = ASKED.assign(**{"label:caries": 1.0, "label:implant": 0.0})
    rows = train_rows(real, of(real, "without:caries", asked, inside="tooth/crown", given=given))
    assert {r.labels for r in rows} == {(0.0, 0.0)}


def test_masks_that_are_drawn_from_come_with_their_own_images(real):
    given, rows = masks_of(real, [3, 0, 7, 3])
    made = of(real, conditions=pd.DataFrame(index=range(4)), given=given)
    assert list(made.digests) == [r.digest for r in rows]
    got = made.under(Condition(masks=torch.from_numpy(given.batch(range(4)))), range(4))
    assert got.inside is None and torch.equal(got.image[0], got.image[3]) and not torch.equal(got.image[0], got.image[1])
    with pytest.raises(InputError, match="--mask-transform: found flip"):
        of(real, conditions=pd.DataFrame(index=range(4)), given=masks_of(real, [3, 0, 7, 3], "flip")[0])


def test_a_mask_of_no_training_row_has_no_image(real, tmp_path):
    Image.fromarray(np.ones((32, 32), np.uint8)).save(tmp_path / "own.png")
    given = mask_conditions(pd.DataFrame({"mask:tooth": [str(tmp_path / "own.png")]}), real, {"tooth": ("crown", "root")}, (16, 16), 0)
    with pytest.raises(InputError, match="own.png"):
        of(real, conditions=pd.DataFrame(index=range(1)), given=given)
    assert of(real, conditions=pd.DataFrame(index=range(1)), given=given, inside="tooth/crown").region == (0, 1)


def test_the_lineage_names_the_patients_and_the_identity_the_files(real, tmp_path):
    made = of(real)
    (part,) = made.lineage.fitted
    rows = train_rows(real, made)
    assert part.trained_on == hash_subjects(real.info.id, [r.subject for r in rows], project_key())
    assert part.fingerprints == {r.digest for r in rows} and part.kind == "start images"
    assert made.identity == of(real).identity
    bare = pd.DataFrame(index=range(12))
    options = ({}, {"strength": 0.4}, {"inside": "tooth"}, {"inside": "tooth/root"}, {"conditions": ASKED}, {"inside": "tooth", "grow": 1})
    assert len({str(of(real, **{"conditions": bare, **k}).identity) for k in options}) == 6
    other = make(tmp_path / "real", rows=36)
    assert of(other).identity == made.identity
    for row in other:
        if row.masks[0]:
            Image.fromarray(np.array(Image.open(row.masks[0]))[:, ::-1]).save(row.masks[0])
    corrected = other.with_columns({"mask_digest": np.array([files_digest(r.masks) for r in other], dtype=object)})
    assert made.identity != of(corrected).identity and of(corrected, layers=()).identity == of(real, layers=()).identity


def test_structures_that_vanish_at_the_size_of_the_generator_are_left_out(tmp_path):
    real = make(tmp_path / "real", rows=36)
    speck = np.zeros((32, 32), np.uint8)
    speck[8:20, 8:20], speck[5, 6] = 1, 2  # lost when every other pixel is taken
    for row in list(real.where(split="train", source="real"))[:9]:
        if row.masks[0]:
            Image.fromarray(speck).save(row.masks[0])
    digests = np.array([file_digest(r.masks[0]) if r.masks[0] else "" for r in real], dtype=object)
    areas = np.array([0.001 if r.masks[0] else 0.0 for r in real])
    real = real.with_columns({"mask_digest": digests, "area:tooth/root": areas})
    bare = pd.DataFrame(index=range(30))
    got = of(real, conditions=bare, inside="tooth/root").under(Condition(), range(30))
    assert got.inside.any(dim=(1, 2)).all()


def test_a_model_that_draws_masks_gets_those_of_the_image_and_its_region(real):
    assert {r.labels[0] for r in train_rows(real, of(real, conditions=pd.DataFrame(index=range(30)), inside="tooth/root"))} == {1.0}  # roots
    starts = of(real, inside="tooth/crown", grow=2)
    got, train = starts.under(Condition(), range(12)), real.where(split="train", source="real")
    cache, positions = ImageCache(train, (16, 16)), {r.digest: i for i, r in enumerate(train)}
    for k, digest in enumerate(starts.digests):
        mask = cache.masks(positions[digest])
        assert torch.equal(got.image[k], torch.from_numpy(cache.scaled(positions[digest])))
        assert np.array_equal(got.masks[k], mask)
        near = np.zeros((16, 16), bool)
        for y, x in np.argwhere(mask[0] == 1):
            near[max(0, y - 2): y + 3, max(0, x - 2): x + 3] = True
        assert np.array_equal(got.inside[k], near) and near.any() and not near.all()
    assert got.strength == 0.5 and starts.settings["grow"] == 2


def test_a_structure_that_is_drawn_from_is_laid_into_the_mask_of_the_image(real):
    given, _ = masks_of(real, [1] * 12)
    asked = ASKED.assign(**{"label:caries": 1.0})
    starts = of(real, "without:caries", asked, inside="tooth/root", given=given)
    lesion = torch.zeros(12, 1, 16, 16, dtype=torch.int64)
    lesion[:, :, 2:5, 3:6] = 2
    lesion[:, :, 10:14, 10:14] = 1  # a crown of somebody else: the image keeps its own
    got = starts.under(Condition(masks=lesion), range(12))
    cache, positions = ImageCache(real, (16, 16)), {r.digest: i for i, r in enumerate(real)}
    own = torch.from_numpy(np.stack([cache.masks(positions[d]) for d in starts.digests]).astype(np.int64))
    region = lesion[:, 0] == 2
    assert torch.equal(got.inside, region) and (got.masks[:, 0][region] == 2).all()
    assert torch.equal(got.masks[:, 0][~region], own[:, 0][~region])
    with pytest.raises(InputError, match="--inside: found no pixel of it in the mask of image 1;"):
        lesion[1] = 0
        starts.under(Condition(masks=lesion), range(12))


@pytest.mark.parametrize(("start", "more", "words"), [
    ("near", {}, "same or without:<class>"), ("without:crie", {}, "did you mean caries"), ("same", {"strength": 0.0}, "--strength: found 0.0"),
    ("same", {"strength": 1.5}, "--strength"), ("same", {"inside": "jaw"}, "--inside: found jaw; expected one of tooth, tooth/crown, tooth/root"),
    ("same", {"inside": "tooth/tip"}, "--inside"), ("same", {"grow": 2}, "with --inside"), ("same", {"layers": (), "inside": "tooth"}, "knows no masks"),
    ("without:caries", {"inside": "tooth/root"}, "for a generator that draws masks itself"),
    ("same", {"conditions": pd.DataFrame({"label:caries": [1.0], "attribute:sex": ["m"]})}, "no real training row of it"),
])
def test_what_cannot_be_meant_is_told(real, start, more, words):
    with pytest.raises(InputError, match=words):
        of(real, start, **more)
    with pytest.raises(InputError, match="--manifest"):
        of(None)


def test_the_command_changes_the_inside_and_keeps_the_outside_bit_for_bit(tmp_path, capsys):
    real = make(tmp_path / "real")
    assert main([*fit_command(tmp_path / "real", tmp_path / "run", "Diffusion", 16), "--data.min_subjects=2"]) == 0
    checkpoint = str(newest_valid(tmp_path / "run"))
    command = ["sample", "--checkpoint", checkpoint, "--manifest", str(tmp_path / "real"), "--number", "6", "--block-size", "4", "--device", "cpu"]
    inside = [*command, "--out", str(tmp_path / "set"), "--start", "same", "--inside", "tooth/crown"]
    assert main(inside) == 0 and main(inside) == 0  # the second call finds it whole
    assert main([*command, "--out", str(tmp_path / "set")]) == 2
    assert "start, strength, inside, grow, start_files; expected an empty" in capsys.readouterr().err
    root = [*command, "--out", str(tmp_path / "roots"), "--start", "same", "--inside", "tooth/root"]  # not all rows have one
    assert main(root) == 0 and {r.labels[0] for r in Manifest.read(tmp_path / "roots")} == {1.0}
    made, train = Manifest.read(tmp_path / "set"), real.where(split="train", source="real")
    cache, rows = ImageCache(train, (16, 16)), {r.digest: i for i, r in enumerate(train)}
    changed = []
    for row in made:
        k = rows[row.origin["start"]]
        picture, crown = read_image(row.channels[0]), cache.masks(k)[0] == 1
        assert np.array_equal(picture[~crown], cache.image(k)[0][~crown])
        assert np.array_equal(read_mask(row.masks[0])[~crown], cache.masks(k)[0][~crown])
        changed.append((picture != cache.image(k)[0])[crown].mean())
    assert np.mean(changed) > 0.5
    assert made.info.lineage.settings["inside"] == "tooth/crown" and "start images" in {f.kind for f in made.info.lineage.fitted}
    assert main([*command, "--out", str(tmp_path / "near"), "--start", "same", "--strength", "0.05"]) == 0
    far = [np.abs(read_image(r.channels[0]).astype(float) - cache.image(rows[r.origin["start"]])[0]).mean() for r in Manifest.read(tmp_path / "near")]
    assert 0 < np.mean(far) < 40
    capsys.readouterr()
    for wrong, words in ((["--strength", "0"], "--start beside it"), (["--grow", "2"], "--start beside it"), (["--start", "same", "--strength", "2"], "--strength: found 2.0")):
        assert main([*command, "--out", str(tmp_path / "wrong"), *wrong]) == 2
        assert words in capsys.readouterr().err and not (tmp_path / "wrong").exists()


def test_a_gan_starts_from_no_image(tmp_path, capsys):
    make(tmp_path / "real")
    assert main(fit_command(tmp_path / "real", tmp_path / "run")) == 0
    assert main(["sample", "--checkpoint", str(newest_valid(tmp_path / "run")), "--manifest", str(tmp_path / "real"), "--number", "2",
                 "--out", str(tmp_path / "set"), "--start", "same"]) == 2
    assert "--start: found given for a StyleGAN2; expected a diffusion model" in capsys.readouterr().err
