
import numpy as np
import pytest
from PIL import Image

from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest
from synthrad.score import run, score

SIDE, SUBJECTS, EACH = 32, 9, 4
INFO = dict(name="discs", id="discs", classes=("disc",), layers={"shape": ("disc", "bar")})


def draw(rng: np.random.Generator, tone: float) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc and a dark bar on a noisy ground; the mask fits."""
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cy, cx = rng.uniform(10, 22, 2)
    mask[(y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(5, 8) ** 2] = 1
    row = int(rng.integers(1, 4)) if rng.random() < 0.5 else int(rng.integers(26, 29))
    mask[row : row + 3] = 2
    image = 90 + tone + 80 * (mask == 1) - 60 * (mask == 2) + rng.normal(0, 12, mask.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def manifest(folder, pairs, subjects, source="real", split="train", masks=True) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    info = DatasetInfo(**INFO, roots={"here": str(folder)})
    columns = empty_columns(info, len(pairs))
    for i, (image, mask) in enumerate(pairs):
        Image.fromarray(image).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
        columns["channel:image"][i] = f"{i}.png"
        columns["mask:shape"][i] = f"{i}_mask.png" if masks else ""
        columns["digest"][i] = file_digest(folder / f"{i}.png")
        columns["mask_digest"][i] = file_digest(folder / f"{i}_mask.png") if masks else ""
        columns["subject"][i] = subjects[i]
        columns["label:disc"][i] = 1.0
    columns["split"][:], columns["source"][:] = split, source
    import pandas as pd

    return Manifest.read(Manifest(pd.DataFrame(columns), info).write(folder))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Real discs; a synthetic set of 24: good 0-7, mask of another image 8-15, copies of training images 16-23."""
    import os

    folder = tmp_path_factory.mktemp("score")
    os.environ["SYNTHRAD_PROJECT"] = str(folder)
    rng = np.random.default_rng(0)
    pairs, subjects = [], []
    for s in range(SUBJECTS):
        pairs += [draw(rng, 3.0 * s) for _ in range(EACH)]
        subjects += [f"p{s}"] * EACH
    real = manifest(folder / "real", pairs, subjects)
    good, other = [draw(rng, 5.0) for _ in range(8)], [draw(rng, 5.0) for _ in range(8)]
    shuffled = [(a[0], b[1]) for a, b in zip(other, other[1:] + other[:1], strict=True)]
    copies = [pairs[i] for i in range(0, 32, 4)]
    drawn = manifest(folder / "drawn", good + shuffled + copies, [f"s{i}" for i in range(24)], "synthetic")
    scored = score(drawn, real, folder / "scored", folds=3, steps=40)
    return folder, real, drawn, scored


def test_good_masks_score_higher_than_shuffled_ones(sets):
    dice = sets[3].column("score:dice")
    assert dice[:8].min() > 0.75
    assert np.median(dice[:8]) > np.median(dice[8:16]) + 0.2
    facts = sets[3].info.lineage.settings["score"]
    assert abs(facts["dice_real"]["q50"] - np.median(dice[:8])) < 0.15
    each = sets[3].column("score:dice/shape/disc")
    assert not np.isnan(each).any() and np.median(each[:8]) > np.median(each[8:16])


def test_copies_are_found_and_name_their_original(sets):
    _, real, _, scored = sets
    similarity = scored.column("score:max_correlation")
    assert similarity[16:] == pytest.approx(1, abs=1e-5) and similarity[:16].max() < 0.99
    assert scored.column("origin:nearest")[16:].tolist() == [real[i].digest for i in range(0, 32, 4)]


def test_the_judge_never_saw_the_nearest_subject(sets):
    from synthrad.lineage import hash_subjects, project_key

    folder, real, _, scored = sets
    judges = [f for f in scored.info.lineage.fitted if f.kind == "judge"]
    assert len(judges) == 3
    subject_of = dict(zip(real.column("digest"), real.column("subject"), strict=True))
    key = project_key(folder)
    for record in scored:
        (hashed,) = hash_subjects(real.info.id, [subject_of[record.origin["nearest"]]], key)
        judge = judges[int(record.scores["fold"])]
        assert hashed not in judge.trained_on and record.origin["nearest"] not in judge.fingerprints
    union = frozenset().union(*(j.trained_on for j in judges))
    assert union == hash_subjects(real.info.id, real.column("subject"), key)
    assert all(len(j.trained_on) == 6 for j in judges)


def test_files_are_referenced_and_the_set_still_reads(sets):
    folder, _, drawn, scored = sets
    assert [r.channels for r in scored] == [r.channels for r in drawn]
    assert [r.masks for r in scored] == [r.masks for r in drawn]
    assert not list((folder / "scored").glob("*.png"))


def test_a_whole_result_is_skipped_and_a_torn_one_reuses_its_judges(sets, monkeypatch):
    folder, real, drawn, scored = sets
    from synthrad.tasks import judges

    monkeypatch.setenv("SYNTHRAD_PROJECT", str(folder))  # another project could not check whose lineage it is

    def no_fit(*args):
        raise AssertionError("a judge was fitted again")

    monkeypatch.setattr(judges, "_train", no_fit)
    before = (folder / "scored" / "manifest.csv").read_bytes()
    assert score(drawn, real, folder / "scored", folds=3, steps=40).digest == scored.digest
    (folder / "scored" / "dataset.yaml").unlink()
    score(drawn, real, folder / "scored", folds=3, steps=40)
    assert (folder / "scored" / "manifest.csv").read_bytes() == before
    with pytest.raises(AssertionError, match="fitted again"):
        score(drawn, real, folder / "scored2", folds=3, steps=41)


def test_an_odd_mask_lies_outside_the_real_range(sets, tmp_path):
    folder, real, _, scored = sets
    assert np.nanmean(scored.column("score:area_inside")[16:]) == 1
    image, mask = draw(np.random.default_rng(5), 0)
    specks = mask.copy()
    specks[5:25:4, 1::6] = 1
    huge = np.full_like(mask, 1)
    drawn = manifest(
        tmp_path / "odd", [(image, specks), (image, huge), (image, mask * 0)], ["a", "b", "c"], "synthetic"
    )
    out = score(drawn, real, tmp_path / "out", folds=3, steps=40, judges=folder / "scored" / "judges")
    assert out.column("score:components_inside")[0] == 0.5
    assert out.column("score:area_inside")[1] == 0
    assert np.isnan(out.column("score:area_inside")[2])
    assert out.column("score:dice")[2] == 0  # the condition asks for a disc, the mask has none


def test_a_set_without_masks_gets_no_dice(sets, tmp_path, capsys):
    _, real, _, _ = sets
    pairs = [draw(np.random.default_rng(9), 0) for _ in range(2)]
    drawn = manifest(tmp_path / "bare", pairs, ["a", "b"], "synthetic", masks=False)
    out = score(drawn, real, tmp_path / "out")
    assert "score:dice" not in out.table and not np.isnan(out.column("score:max_correlation")).any()
    assert "dice" in capsys.readouterr().out and not out.info.lineage.fitted


def test_bad_requests_are_refused(sets, tmp_path):
    folder, real, drawn, _ = sets
    with pytest.raises(InputError, match="--folds"):
        score(drawn, real, tmp_path / "a", folds=10)
    with pytest.raises(InputError, match="--layer.*'teeth'"):
        score(drawn, real, tmp_path / "a", layer="teeth")
    with pytest.raises(InputError, match="real images"):
        score(real, real, tmp_path / "a")
    with pytest.raises(InputError, match="another folder"):
        score(drawn, real, folder / "drawn")
    with pytest.raises(InputError, match="train split"):
        score(drawn, real.take([]), tmp_path / "a")
    with pytest.raises(InputError, match="--size"):
        run(
            [
                str(folder / "drawn"),
                "--real",
                str(folder / "real"),
                "--out",
                str(tmp_path / "a"),
                "--size",
                "30",
                "32",
            ]
        )
