"""Parts of the judges that need no fit; the whole of it: test_score."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest
from synthrad.tasks import judges
from synthrad.tasks.judges import (
    Judges,
    dice_columns,
    digest_of,
    fit_judges,
    fold_of_subjects,
    places,
    predict,
)

LAYERS = {"tooth": ("crown", "root")}


def manifest_of(rows):
    """Rows without files, two a subject; every fifth has no mask, every other one caries."""
    info = DatasetInfo("toy", "toy", ("caries",), LAYERS)
    columns = empty_columns(info, rows)
    for i in range(rows):
        columns["mask:tooth"][i] = "" if i % 5 == 4 else f"{i}.png"
        columns["subject"][i], columns["digest"][i], columns["split"][i] = f"p{i // 2}", f"d{i}", "train"
        columns["label:caries"][i] = i % 2
    return Manifest(pd.DataFrame(columns), info)


@pytest.mark.parametrize(("subjects", "folds"), [(2, 2), (10, 3), (11, 3), (12, 3), (7, 7)])
def test_parts_differ_by_at_most_one_subject(subjects, folds):
    names = [f"p{k}" for k in range(subjects)]
    found = fold_of_subjects(names, folds, seed=4)
    sizes = Counter(found.values())
    assert set(found) == set(names) and set(sizes) == set(range(folds)) and max(sizes.values()) - min(sizes.values()) <= 1


def test_parts_are_of_the_subjects_and_the_seed_not_of_their_rows():
    names = [f"p{k}" for k in range(20)]
    found = fold_of_subjects(names, 3, 0)
    assert fold_of_subjects(names[::-1] + names[:7] * 3, 3, 0) == found != fold_of_subjects(names, 3, 1)
    assert [found[n] for n in names] != [k % 3 for k in range(20)] and all(type(v) is int for v in found.values())


@pytest.mark.parametrize(("subjects", "folds"), [(["a", "b", "a"], 3), (["a", "b"], 1), ([], 2)])
def test_more_parts_than_subjects_or_fewer_than_two_are_refused(subjects, folds):
    with pytest.raises(InputError) as e:
        fold_of_subjects(subjects, folds, 0)
    assert str(e.value) == (f"--folds: found {folds} folds over {len(set(subjects))} training subject(s); expected at least 2, and "
                            "no more than there are subjects.\n  Repair: lower --folds or prepare more patients")  # fmt: skip


def test_layers_are_found_in_the_order_asked_for():
    manifest = SimpleNamespace(info=SimpleNamespace(layers={"a": ("x",), "b": ("x",), "c": ("x",)}))
    assert places(manifest, {"c": ("x",), "a": ("x",)}) == [2, 0] and places(manifest, {}) == []


def test_a_digest_is_of_the_content():
    parts = ["judge", 1, {"b": (1, 2), "a": None}]
    assert digest_of(parts) == digest_of(["judge", 1, {"a": None, "b": [1, 2]}])
    assert len({digest_of(p) for p in (parts, parts[:2], ["judge", 1.5], ["judge", "1"], [1, "judge"])}) == 5


class Bright(nn.Module):
    """Two layers, of two structures and of one: bright is the second of the first, dark the one of the other."""

    def forward(self, image):
        assert torch.is_inference_mode_enabled()
        x = image[:, :1]
        return torch.cat([torch.zeros_like(x), x - 9, x, torch.full_like(x, 0.1), -x], dim=1)


def test_a_judge_sees_the_likeliest_structure_of_each_layer():
    images = np.array([[[[1.0, -1.0], [0.5, 0.05]]], [[[-1.0] * 2] * 2]], np.float32)
    net = Bright()
    found = predict(net, images, [2, 1])
    first, second = [[[2, 0], [2, 2]], [[0, 1], [0, 0]]], [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert found.dtype == np.uint8 and found.tolist() == [first, second]


class Always(nn.Module):
    """Sees one structure everywhere."""

    def __init__(self, structure):
        super().__init__()
        self.structure = structure

    def forward(self, image):
        logits = torch.zeros(len(image), 3, *image.shape[2:])
        logits[:, self.structure] = 1
        return logits


def test_every_row_is_judged_by_its_own_judge():
    """35 rows, more than are judged at once, by a judge that sees crowns; the next by one that sees roots; one by none."""
    masks = np.ones((40, 1, 8, 8), np.uint8)  # crowns alone
    masks[3] = 255
    cache = SimpleNamespace(scaled=lambda i: np.zeros((1, 8, 8), np.float32), masks=lambda i: masks[i])
    judge = np.array([0] * 35 + [1] * 4 + [-1])
    found = dice_columns([Always(1), Always(2)], cache, judge, LAYERS, manifest_of(40), "judging")
    assert list(found) == ["score:dice", "score:dice/tooth/crown", "score:dice/tooth/root"]
    np.testing.assert_array_equal(found["score:dice"], [1.0] * 3 + [np.nan] + [1.0] * 31 + [0.0] * 4 + [np.nan])
    np.testing.assert_array_equal(found["score:dice/tooth/crown"], found["score:dice"])
    assert np.isnan(found["score:dice/tooth/root"]).all()  # neither there nor asked for


def test_a_structure_that_was_asked_for_and_is_missing_scores_nought():
    real, layers = manifest_of(12), {"tooth": ("caries", "root")}  # a structure with the name of a label
    cache = SimpleNamespace(scaled=lambda i: np.zeros((1, 8, 8), np.float32), masks=lambda i: np.full((1, 8, 8), 2, np.uint8))
    found = dice_columns([Always(2)], cache, np.zeros(12, int), layers, real, "judging")
    np.testing.assert_array_equal(found["score:dice/tooth/caries"], [np.nan, 0.0] * 6)


def test_a_judge_without_a_mask_to_learn_from_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "_net", lambda *_: 1 / 0)
    real = manifest_of(20)
    where = np.where(real.column("mask:tooth") != "", 0, 1)  # all masks in the part that the first leaves out
    with pytest.raises(InputError, match="--real: found no training mask outside fold 0 of tooth; expected masks of subjects"):
        fit_judges(real, None, where, LAYERS, Judges(folds=2), tmp_path / "judges")


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """fit_judges with a net of one weight and a fit that counts its rows instead; returns the rows that were fitted on."""
    real = manifest_of(24)
    of_train = np.arange(len(real)) // 2 % 3
    taken = []

    def net(*_):
        return nn.Linear(1, 1)

    def train(net, manifest, cache, rows, layers, settings, fold):
        taken.append(rows.tolist())
        nn.init.constant_(net.weight, len(taken))

    monkeypatch.setattr(judges, "_net", net)
    monkeypatch.setattr(judges, "_train", train)

    def call(settings=None, layers=LAYERS):
        return fit_judges(real, None, of_train, layers, settings or Judges(), tmp_path / "judges")

    return real, of_train, taken, call


def test_each_judge_leaves_out_its_part_and_rows_without_a_mask_and_says_so(fitted):
    real, of_train, taken, call = fitted
    nets, told = call()
    known = real.column("mask:tooth") != ""
    assert not known.all() and taken == [np.flatnonzero(known & (of_train != k)).tolist() for k in range(3)]
    assert [f.notes for f in told] == [f"mask judge {k} of 3" for k in (1, 2, 3)] and not any(n.training for n in nets)
    for fold, f in enumerate(told):
        assert f.fingerprints == set(real.column("digest")[taken[fold]]) and f.kind == "judge"
        assert len(f.trained_on) == len(set(real.column("subject")[taken[fold]]))


def test_judges_are_fitted_once_and_again_for_other_settings(fitted):
    _, _, taken, call = fitted
    first, _ = call()
    again, told = call()
    assert len(taken) == 3
    assert [[float(n.weight.detach()) for n in nets] for nets in (first, again)] == [[1.0, 2.0, 3.0]] * 2
    for settings in (Judges(seed=1), Judges(steps=401), Judges(size=(32, 32))):
        before = len(taken)
        assert call(settings)[1][0].digest != told[0].digest and len(taken) == before + 3


def test_the_weights_of_a_judge_are_of_its_seed_and_fold_and_leave_the_global_numbers_alone(monkeypatch):
    def net_of(arch, encoder, weights, in_channels, out_channels):
        assert weights is None
        return nn.Conv2d(in_channels, out_channels, 1)

    monkeypatch.setattr(judges, "SmpNet", net_of)

    def weights(seed, fold):
        net = judges._net({"a": ("x", "y"), "b": ("z",)}, 2, Judges(seed=seed), fold)
        assert net.weight.shape == (5, 2, 1, 1)
        return net.weight.detach().flatten().tolist()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert weights(1, 0) == weights(1, 0) and len({tuple(weights(s, f)) for s in (0, 1) for f in (0, 1, 2)}) == 6
    assert torch.equal(torch.get_rng_state(), before)
