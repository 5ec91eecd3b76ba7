"""Points of the projector: which images are shown, where they lie, what is said of them, and each with its own thumbnail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_run import write_images
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from synthrad.dataset_info import DatasetInfo
from synthrad.records import Manifest
from synthrad.study import board_projector
from synthrad.study.board_projector import CONFIG, MOST, MOST_A_SET, MOST_CLASSES, SIDE, write_projector


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """12 real images, 128 x 64."""
    folder = tmp_path_factory.mktemp("projector")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        return write_images(folder / "set", 12, "real", 0)


class Shown:
    """What was written, read back as the projector does."""

    def __init__(self, folder, sets, size=(16, 32), arms=None, seed=0):
        assert write_projector(folder, sets, arms or {}, size, seed) == ""
        (config,) = text_format.Parse((folder / CONFIG).read_text(), ProjectorConfig()).embeddings
        self.points = np.loadtxt(folder / config.tensor_path, ndmin=2)
        self.head, *self.table = [line.split("\t") for line in (folder / config.metadata_path).read_text().splitlines()]
        self.shape, (self.wide, self.high) = tuple(config.tensor_shape), config.sprite.single_image_dim
        self.sprite = np.asarray(Image.open(folder / config.sprite.image_path))

    def thumbnail(self, k):
        """Images fill rows from the left, as many a row as there are rows at most."""
        y, x = divmod(k, self.sprite.shape[1] // self.wide)
        return self.sprite[y * self.high : (y + 1) * self.high, x * self.wide : (x + 1) * self.wide]


def test_few_points_of_large_sets_and_none_of_small_images(tmp_path, rows):
    rows = rows.take(range(4))
    many = rows.take(np.zeros(MOST + 5, int))
    assert write_projector(tmp_path / "a", {"one": many, "two": rows}, {}, (16, 16)) == ""
    assert len((tmp_path / "a/projector/metadata.tsv").read_text().splitlines()) == 1 + 150 + 4
    assert write_projector(tmp_path / "b", {"one": rows}, {}, (8, 16)) == "projector: needs images of 16 pixels a side, has 8 × 16"
    assert write_projector(tmp_path / "b", {"one": rows.take([0])}, {}, (16, 16)) == "projector: needs 2 real training images, has 1"
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("size", [(16, 32), (64, 16), (32, 32)])
def test_each_point_has_the_thumbnail_of_its_own_image(tmp_path, rows, size):
    rows = Manifest(rows.table, replace(rows.info, resize="squeeze"))
    shown = Shown(tmp_path, {"real": rows}, size)
    assert max(shown.wide, shown.high) == SIDE and abs(shown.high / shown.wide - size[0] / size[1]) < 0.02 and shown.sprite.shape == (4 * shown.high, 4 * shown.wide)
    files = [np.asarray(Image.open(r.channels[0]).resize(size[::-1], Image.Resampling.BOX).resize((shown.wide, shown.high), Image.Resampling.BILINEAR)).astype(float) for r in rows]
    for k in range(12):
        apart = [np.abs(shown.thumbnail(k) - f).mean() for f in files]
        assert np.argmin(apart) == k and apart[k] < 6
    assert not shown.sprite[-shown.high :].any()  # 12 of 16 places


def test_points_are_in_deviations_of_the_first_set_alone(tmp_path, rows):
    one, two = rows.take(range(6)), rows.take(range(6, 12))
    shown = Shown(tmp_path, {"one": one, "two": two})
    assert shown.shape == shown.points.shape and np.allclose(shown.points[:6].mean(0), 0, atol=1e-3)
    assert shown.points[:6].std(0, ddof=1).max() == pytest.approx(1, abs=0.01) and np.abs(shown.points[6:].mean(0)).max() > 0.5
    assert Shown(tmp_path / "alone", {"one": one}).points == pytest.approx(shown.points[:6])


def test_a_set_that_is_too_large_is_drawn_from_by_the_seed(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(board_projector, "MOST_A_SET", 5)
    named = Manifest(rows.table.assign(**{"label:caries": np.arange(12) % 2, "label:implant": np.arange(12) // 6}), rows.info)
    draws = [Shown(tmp_path / str(k), {"real": named}, seed=s) for k, s in enumerate((0, 0, 1))]
    assert all(len(d.table) == 5 for d in draws) and (draws[0].points == draws[1].points).all() and draws[0].points != pytest.approx(draws[2].points)
    whole = Shown(tmp_path / "whole", {"a": named, "b": named.take(range(4)), "none": named.take([])})
    assert [r[0] for r in whole.table] == ["a"] * 5 + ["b"] * 4
    assert MOST_A_SET * 4 == MOST
    monkeypatch.setattr(board_projector, "MOST", 9)
    assert [r[0] for r in Shown(tmp_path / "few", {"a": named, "b": named, "c": named}).table] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def labelled(labels, classes):
    """A manifest of labels alone."""
    return Manifest(pd.DataFrame({f"label:{c}": column for c, column in zip(classes, np.array(labels, float).T, strict=True)}), DatasetInfo("t", "t", classes, {}))


def test_findings_are_named_and_what_is_unknown_is_no_finding_of_nothing():
    nan = float("nan")
    made = labelled([[1, 0], [1, 1], [0, 0], [nan, nan], [0, nan], [nan, 1]], ("caries", "implant"))
    assert board_projector._labels(made) == [["caries", "yes", "no"], ["caries, implant", "yes", "yes"], ["no finding", "no", "no"], ["unknown"] * 3, ["unknown", "no", "unknown"],
                                             ["implant", "unknown", "yes"]]  # fmt: skip


def test_many_classes_have_a_column_each_up_to_a_number_and_names_stay_in_their_cell(tmp_path, rows):
    classes = tuple(f"c{k}" for k in range(MOST_CLASSES + 4))
    columns = {f"label:{c}": [1.0] * 12 for c in classes}
    many = Manifest(rows.table.drop(columns=["label:caries", "label:implant"]).assign(**columns), DatasetInfo("t", "t", classes, rows.info.layers, roots=rows.info.roots))
    shown = Shown(tmp_path, {"re\tal": many}, arms={"re\tal": ["real_only", "matched"]})
    assert shown.head == ["set", "arms", "labels", *classes[:MOST_CLASSES]]
    assert shown.table == [["re al", "real_only, matched", ", ".join(classes), *["yes"] * MOST_CLASSES]] * 12
