"""The net of the task: learned from the audit split alone, the same each time, known by what it was fitted to."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from synthrad.audit import task_net
from synthrad.audit.spaces import keep, read_kept, rows_of
from synthrad.audit.task_net import TaskFeatures, TaskNet
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest

TINY = TaskNet("test_resnet", steps=2, batch_size=8)


def squares(n, subjects, split="audit", labels=True):
    """Pictures with and without a bright square, and a label that says so."""
    info = DatasetInfo(name="s", id="s", classes=("square", "never"), layers={}, attributes=(), roots={"here": "."})
    c = empty_columns(info, n)
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(-0.5, 0.2, (n, 1, 32, 32)).clip(-1, 1).astype(np.float32))
    has = np.arange(n) % 2 == 0
    images[torch.from_numpy(has), :, 8:20, 8:20] = 0.8
    c["subject"][:] = [f"p{i % subjects}" for i in range(n)]
    c["split"][:], c["source"][:] = split, "real"
    c["label:square"][:] = has if labels else np.nan
    c["label:never"][:] = 0
    return Manifest(pd.DataFrame(c), info), images


def test_the_task_net_learns_from_the_audit_split_and_is_kept(tmp_path):
    rows, images = squares(48, 24)
    space = TaskNet(steps=20, batch_size=8).fit(rows, images, read_kept, keep, tmp_path)
    assert isinstance(space, TaskFeatures) and "square; 24 audit patients" in space.name
    features = rows_of(space, images)
    with_it, without = features[::2], features[1::2]
    apart = np.linalg.norm(with_it.mean(0) - without.mean(0)) / np.mean([with_it.std(0).mean(), without.std(0).mean()])
    assert features.shape == (48, 512) and apart > 3
    again = TaskNet(steps=20, batch_size=8).fit(rows, images, lambda p: read_kept(p), lambda *a: pytest.fail("fitted again"), tmp_path)
    assert np.array_equal(rows_of(again, images), features) and again.identity == space.identity


@pytest.mark.parametrize(("given", "words"), [((40, 19), "needs 20 audit patients, has 19"), ((40, 20, "val"), "needs 20 audit patients, has 0"),
                                              ((40, 24, "audit", False), "needs a label that 5 audit patients have")])
def test_too_little_to_learn_from_is_said(given, words):
    assert words in TaskNet().fit(*squares(*given), read_kept, keep, None)


def fitted(rows, images, net=TINY):
    return net.fit(rows, images, read_kept, keep, None)


def of_classes(rows, *classes, **labels):
    """The same rows with these classes."""
    table = rows.table.drop(columns=[c for c in rows.table if c.startswith("label:")]).assign(**{f"label:{k}": v for k, v in labels.items()})
    return Manifest(table, replace(rows.info, classes=classes))


def test_other_splits_play_no_part_and_a_fit_is_the_same_again():
    rows, images = squares(44, 22)
    others, strange = squares(8, 8, "val")
    both = Manifest(pd.concat([others.table, rows.table], ignore_index=True), rows.info)
    state = torch.get_rng_state()
    first = fitted(rows, images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again = fitted(both, torch.cat([-strange, images]))
    assert again.identity == first.identity and torch.equal(first(images), again(images)) and again.name == first.name


def test_a_fit_is_known_by_pixels_labels_and_settings():
    rows, images = squares(44, 22)
    unknown = rows.column("label:square").astype(float).copy()
    unknown[1] = np.nan
    other = rows.column("label:square").astype(float).copy()
    other[:2] = other[1::-1]
    made = [fitted(rows, images), fitted(rows, images.flip(-1)), fitted(rows.with_columns({"label:square": other}), images), fitted(rows.with_columns({"label:square": unknown}), images),
            *(fitted(rows, images, replace(TINY, **{k: v})) for k, v in {"steps": 1, "batch_size": 4, "lr": 1e-2, "seed": 1}.items())]
    assert len({m.identity for m in made}) == 8 and not torch.equal(made[0](images), made[1](images))
    assert not torch.equal(made[0](images), made[-1](images))  # another seed is another net


def test_only_labels_that_patients_have_and_lack_are_learned():
    rows, images = squares(44, 22)
    square = rows.column("label:square").astype(float)
    alone = fitted(of_classes(rows, "square", square=square), images)
    among = fitted(of_classes(rows, "never", "always", "rare", "square", "unknown", never=0.0, always=1.0, rare=np.where(np.arange(44) % 22 < 4, 1.0, 0.0), square=square, unknown=np.nan), images)
    assert among.name == alone.name == "task net (square; 22 audit patients)" and among.identity == alone.identity and torch.equal(among(images), alone(images))
    assert fitted(of_classes(rows, "a", "b", a=square, b=1 - square), images).name == "task net (a, b; 22 audit patients)"


def test_patients_are_counted_and_not_images():
    rows, images = squares(48, 24)
    named = [f"h{k % 4}" if k % 2 == 0 else f"q{k}" for k in range(48)]
    assert "needs a label that 5 audit patients have and 5 lack" in fitted(rows.with_columns({"subject": named}), images)
    assert fitted(*squares(60, 19)) == "a net of the task needs 20 audit patients, has 19"
    assert "needs 20 audit patients" in fitted(rows, None)


def test_features_come_before_the_answer_and_each_image_stands_alone(monkeypatch):
    rows, images = squares(44, 22)
    space = fitted(rows, images)
    found = space(images)
    assert found.shape == (44, space.net.net.num_features) and found.shape[1] > 1 and not found.requires_grad
    assert torch.allclose(space(images[:3]), found[:3], atol=1e-5)
    monkeypatch.setattr(task_net, "AT_ONCE", 7)
    assert torch.allclose(space(images), found, atol=1e-5)
    logits = space.net(images)
    assert logits.shape == (44, 1) and torch.allclose(space.net.net.get_classifier()(found), logits, atol=1e-5)


def test_more_steps_are_another_net():
    rows, images = squares(44, 22)
    assert not torch.allclose(fitted(rows, images)(images), fitted(rows, images, replace(TINY, steps=6))(images), atol=1e-3)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": 1}, {"lr": 0.0}, {"lr": -1.0}])
def test_settings_without_sense_are_refused(wrong):
    with pytest.raises(InputError, match="init_args.*at least 1 step, 2 images, a rate above 0"):
        TaskNet(**wrong)
