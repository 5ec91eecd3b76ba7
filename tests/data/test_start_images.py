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
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.lineage import hash_subjects, project_key
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest

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


TEETH = {"tooth": ("tooth",), "abnormality": ("caries",)}


def jaws(folder):
    """28 training images of 16 px with one tooth, left (even) or right; the first 9 have a lesion on it, the tenth at the lower right, beside it.

    The one with number 8 has tooth and lesion in the middle, where no other has one.
    """
    for name in ("images", "tooth", "abnormality"):
        (folder / name).mkdir(parents=True)
    info = DatasetInfo(name="jaws", id="jaws", classes=("caries",), layers=TEETH, attributes=(), roots={HERE: str(folder)})
    c = empty_columns(info, 28)
    for i in range(28):
        x = 6 if i == 8 else (0, 10)[i % 2]
        tooth, lesion = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
        tooth[2:14, x:x + 5] = 1
        if i < 10:
            lesion[slice(14, 16) if i == 9 else slice(4, 6), x:x + 4] = 1
        Image.fromarray(np.full((16, 16), i, np.uint8)).save(folder / f"images/{i}.png")
        for name, mask in (("tooth", tooth), ("abnormality", lesion)):
            Image.fromarray(mask).save(folder / f"{name}/{i}.png")
            c[f"mask:{name}"][i] = f"{name}/{i}.png"
        c["channel:image"][i], c["digest"][i] = f"images/{i}.png", file_digest(folder / f"images/{i}.png")
        c["mask_digest"][i] = files_digest([folder / f"tooth/{i}.png", folder / f"abnormality/{i}.png"])
        c["subject"][i], c["label:caries"][i] = str(i), float(i < 10)
        c["area:tooth/tooth"][i], c["area:abnormality/caries"][i] = tooth.mean(), lesion.mean()
    c["source"][:], c["split"][:] = "real", "train"
    Manifest(pd.DataFrame(c), info).write(folder)
    return Manifest.read(folder)


def laid(real, donors, transform="none"):
    """Start images for the lesions of some rows, and the masks of those that are kept."""
    files = pd.DataFrame({f"mask:{x}": [f"{x}/{i}.png" for i in donors] for x in TEETH})
    given = mask_conditions(files, real, TEETH, (16, 16), 0, transform)
    asked = pd.DataFrame({"label:caries": [1.0] * len(donors)})
    made = start_images("without:caries", asked, real, list(TEETH), (16, 16), 0, 1.0, "abnormality/caries", 0, given)
    return made, given if len(made.kept) == len(donors) else given.take(made.kept)


def on_teeth(made, masks):
    """Share of each lesion that lies on a tooth of the image that it is laid into."""
    n = len(made.kept)
    got = made.under(Condition(masks=torch.from_numpy(masks.batch(range(n)))), range(n))
    return [float((m[0] == 1)[inside].float().mean()) for m, inside in zip(got.masks, got.inside, strict=True)]


def test_a_lesion_of_a_tooth_is_laid_onto_a_tooth(tmp_path):
    real = jaws(tmp_path)
    made, masks = laid(real, range(8))
    assert list(made.kept) == list(range(8)) and on_teeth(made, masks) == [1.0] * 8
    assert {r.labels for r in train_rows(real, made)} == {(0.0,)} and len(set(made.digests)) > 4
    sides = [int(r.subject) % 2 for r in train_rows(real, made)]
    assert sides == [0, 1] * 4  # left onto left
    outside, masks = laid(real, [9] * 12)
    sides = {int(r.subject) % 2 for r in train_rows(real, outside)}
    assert sides == {0, 1} and set(on_teeth(outside, masks)) == {0.0}  # it lies on no tooth, and goes wherever


def test_a_lesion_that_would_lie_beside_every_tooth_is_left_out_and_said(tmp_path):
    real = jaws(tmp_path)
    with pytest.warns(UserWarning, match="2 of 5 conditions are left out: their abnormality/caries lies in its organ"):
        made, masks = laid(real, [8, 0, 1, 8, 2])
    assert list(made.kept) == [1, 2, 4] and on_teeth(made, masks) == [1.0] * 3 and len(made.digests) == 3
    with pytest.raises(InputError, match="--inside: found abnormality/caries of 2 masks"):
        laid(real, [8, 8])


def test_the_command_leaves_out_what_fits_nowhere(tmp_path, capsys):
    real = jaws(tmp_path / "real")
    more = ["--data.min_subjects=2", "--model.masks=given"]
    assert main([*fit_command(tmp_path / "real", tmp_path / "run", "Diffusion", 16), *more]) == 0
    (tmp_path / "asks.csv").write_text("caries,mask:tooth,mask:abnormality\n" + "".join(f"1,tooth/{i}.png,abnormality/{i}.png\n" for i in (8, 0, 1)))
    with pytest.warns(UserWarning, match="1 of 3 conditions are left out"):
        assert main(["sample", "--checkpoint", str(newest_valid(tmp_path / "run")), "--manifest", str(tmp_path / "real"), "--device", "cpu",
                     "--conditions", str(tmp_path / "asks.csv"), "--start", "without:caries", "--inside", "abnormality/caries",
                     "--out", str(tmp_path / "set"), "--block-size", "2"]) == 0
    assert "2 images in" in capsys.readouterr().out
    for row, donor in zip(Manifest.read(tmp_path / "set"), (0, 1), strict=True):
        tooth, lesion = (read_mask(p) for p in row.masks)
        assert lesion.any() and (tooth[lesion > 0] == 1).all()
        assert np.array_equal(lesion, read_mask(real[donor].masks[1]))


def test_what_is_left_out_changes_no_other_mask(tmp_path):
    real = jaws(tmp_path)
    given = mask_conditions(pd.DataFrame({f"mask:{x}": [f"{x}/{i}.png" for i in range(8)] for x in TEETH}), real, TEETH, (16, 16), 0, "affine")
    some = given.take([1, 4, 6])
    assert np.array_equal(some.batch([0, 1, 2]), given.batch([1, 4, 6])) and not np.array_equal(some.batch([1]), given.batch([1]))
    assert np.array_equal(some.take([2]).batch([0]), given.batch([6])) and len({str(x.identity) for x in (given, some, some.take([2]))}) == 3


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
