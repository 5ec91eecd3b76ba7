from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from synthrad.cases import collate
from synthrad.data.conditions import blank_unlearned
from synthrad.datamodules import generation
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest


def same(a, b):
    return all(torch.equal(v.nan_to_num(9), getattr(b, k).nan_to_num(9)) for k, v in vars(a).items())


@pytest.fixture
def manifest(tmp_path):
    info = DatasetInfo("tiny", "tiny", classes=("a",), layers={"one": ("x",), "two": ("y", "z")}, attributes=("sex",),
                       roots={"here": str(tmp_path)})
    columns = empty_columns(info, 10)
    for i in range(10):
        Image.fromarray(np.full((8, 8), i * 20, np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(np.full((8, 8), 1, np.uint8)).save(tmp_path / f"m{i}.png")
        columns["channel:image"][i], columns["subject"][i] = f"{i}.png", f"s{i}"
        columns["mask:one"][i], columns["mask:two"][i] = f"m{i}.png", f"m{i}.png" if i % 2 else ""
        columns["split"][i], columns["digest"][i] = ["train", "val"][i > 7], file_digest(tmp_path / f"{i}.png")
        columns["attribute:sex"][i] = "FM"[i % 2] if i < 8 else "other"
    Manifest(pd.DataFrame(columns), info).write(tmp_path)
    return str(tmp_path)


def test_training_rows_with_known_masks_only(manifest, capsys):
    data = GenerationDataModule(manifest, (8, 8), 2)
    spec = data.spec()
    assert "4 of 8" in capsys.readouterr().out
    assert spec["fingerprints"] == sorted(file_digest(Path(manifest) / f"{i}.png") for i in (1, 3, 5, 7)) and spec["attributes"] == {}
    one = GenerationDataModule(manifest, (8, 8), 2, layers=["one"], min_subjects=4)
    assert one.spec()["attributes"] == {"sex": ["F", "M"]} and one.spec()["rare"] == {"sex": []}
    assert len(one.spec()["trained_on"]) == 8 and one.spec()["layers"] == {"one": ["x"]}
    case = one.case(3)
    assert case.masks.shape == (1, 8, 8) and case.masks.unique().tolist() == [1]
    assert torch.isnan(case.labels).all() and case.attributes.tolist() == [0, 1]
    torch.testing.assert_close(case.image, torch.full((1, 8, 8), 60 / 127.5 - 1))


def test_order_continues_in_the_middle_of_an_epoch(manifest):
    def order(loader, n):
        seen = []
        while len(seen) < n:
            for batch in loader:
                seen.append(batch.index.tolist())
                if len(seen) == n:
                    break
        return seen

    data = GenerationDataModule(manifest, (8, 8), 3, layers=["one"])
    data.prepare()
    whole = order(data.train_dataloader(), 7)
    first = data.train_dataloader()
    begun = order(first, 3)
    rest = data.train_dataloader()
    rest.load_state_dict(first.state_dict())
    assert begun + order(rest, 4) == whole
    assert sorted(sum(whole, [])[:8]) == list(range(8))


@pytest.mark.parametrize("layers", [["one"], ["two", "one"], []])
def test_a_batch_is_its_rows_held_or_mapped(manifest, monkeypatch, layers):
    batches = []
    for most in (generation.PRELOAD_BYTES, 0):
        monkeypatch.setattr(generation, "PRELOAD_BYTES", most)
        data = GenerationDataModule(manifest, (8, 8), 3, layers=layers, min_subjects=2)
        data.prepare()
        assert (data._held is None) == (most == 0)
        stored, batch = data.stored([2, 0, 2]), next(iter(data.train_dataloader()))
        assert stored.image.dtype == stored.masks.dtype == torch.uint8  # a byte a pixel
        batches += [(stored.case(), collate([data.case(i) for i in (2, 0, 2)])), (batch, collate([data.case(int(i)) for i in batch.index]))]
    assert all(same(whole, rows) for whole, rows in batches)
    assert same(batches[0][0], batches[2][0]) and same(batches[1][0], batches[3][0])  # held, mapped
    assert batch.masks.shape == (3, len(layers), 8, 8) and batch.masks.dtype == torch.int64 and (batch.masks == 1).all()


def test_unknown_layer(manifest):
    with pytest.raises(InputError, match="three"):
        GenerationDataModule(manifest, (8, 8), 2, layers=["three"]).prepare()


def test_rare_values_are_left_out_told_and_only_hashed(manifest, capsys):
    read = Manifest.read(manifest)
    table = read.table.assign(**{"attribute:age": ["57", *"aaabbbc", "z", "z"], "attribute:licence": "free"})
    info = replace(read.info, attributes=("sex", "age", "licence"))
    Manifest(table, info).write(manifest)
    data = GenerationDataModule(manifest, (8, 8), 2, layers=["one"], min_subjects=3)
    spec, said = data.spec(), capsys.readouterr().out
    assert spec["attributes"] == {"sex": ["F", "M"], "age": ["a", "b"]} and "'57'" not in str(spec["rare"])
    assert "2 values of 'age' count as unknown" in said and "'licence' is left out" in said
    assert data.case(0).attributes.tolist() == [1, 0, 0, 0] and data.conditions([0]).attributes == [{"sex": "F", "age": ""}]
    ask = pd.DataFrame({"attribute:age": ["57", "a", ""], "attribute:licence": ["free"] * 3})
    asked = blank_unlearned(ask, spec, info)
    assert asked["attribute:age"].tolist() == ["", "a", ""] and set(asked["attribute:licence"]) == {""}
    assert "1 of 3 conditions" in capsys.readouterr().out
    with pytest.raises(InputError, match="'z'"):  # of another split only
        blank_unlearned(pd.DataFrame({"attribute:age": ["z"]}), spec, info)
    only = GenerationDataModule(manifest, (8, 8), 2, layers=["one"], attributes=["sex"], min_subjects=3)
    assert list(only.spec()["attributes"]) == ["sex"]
    with pytest.raises(InputError, match="data.attributes"):
        GenerationDataModule(manifest, (8, 8), 2, layers=["one"], attributes=["height"]).spec()


def test_rates_are_those_of_the_known_training_images(manifest):
    read = Manifest.read(manifest)
    train = (read.table["split"] == "train").to_numpy()
    label = np.where(np.cumsum(train) <= 2, 1.0, 0.0)  # two of the training rows
    label[np.flatnonzero(train)[-1]] = np.nan
    Manifest(read.table.assign(**{"label:a": label}), replace(read.info, classes=("a",))).write(manifest)
    spec = GenerationDataModule(manifest, (8, 8), 2, layers=["one"], min_subjects=3).spec()
    sexes = read.table["attribute:sex"][train].value_counts()
    assert spec["rates"] == pytest.approx([2 / (train.sum() - 1), sexes["F"] / train.sum(), sexes["M"] / train.sum()])


def test_a_generator_is_taught_the_classes_that_are_named(manifest, capsys):
    read = Manifest.read(manifest)
    info = replace(read.info, classes=("a", "b"))
    Manifest(read.table.assign(**{"label:a": 1.0, "label:b": [0.0, 1.0] * 5}), info).write(manifest)
    data = GenerationDataModule(manifest, (8, 8), 2, layers=["one"], classes=["b"], attributes=[])
    assert data.spec()["untaught"] == ["a"] and data.spec()["classes"] == ["a", "b"] and data.spec()["attributes"] == {}
    assert torch.isnan(data.case(3).labels[0]) and data.case(3).labels[1] == 1
    assert torch.isnan(data.held_out_cases(2)[0][0].labels[0]) and np.isnan(data.conditions([0, 1]).labels[:, 0]).all()
    asked = blank_unlearned(pd.DataFrame({"label:a": [1.0, 0.0, np.nan], "label:b": [1.0, 0.0, np.nan]}), data.spec(), info)
    assert asked["label:a"].isna().all() and asked["label:b"].tolist()[:2] == [1.0, 0.0]
    assert "2 of 3 conditions name a, which the generator was not taught" in capsys.readouterr().out
    everything = GenerationDataModule(manifest, (8, 8), 2, layers=["one"])
    assert everything.spec()["untaught"] == [] and everything.case(3).labels.tolist() == [1, 1]
    with pytest.raises(InputError, match="data.classes"):
        GenerationDataModule(manifest, (8, 8), 2, layers=["one"], classes=["c"]).spec()


def test_a_value_of_rows_without_masks_is_known_to_the_data(manifest):
    """Value F stands in rows without a mask only: asking for it is no error in the middle of sampling."""
    data = GenerationDataModule(manifest, (8, 8), 2, min_subjects=1)
    spec = data.spec()
    asked = blank_unlearned(pd.DataFrame({"attribute:sex": ["F", "M"]}), spec, data.train.info)
    assert spec["attributes"] == {} and set(asked["attribute:sex"]) == {""}


def test_held_out_images_are_of_validation_rows_alone(manifest):
    data = GenerationDataModule(manifest, (8, 8), 2, layers=["one"])
    images, subjects = data.held_out(5)
    assert sorted(subjects) == ["s8", "s9"]
    levels = torch.tensor([20.0 * int(s[1:]) / 127.5 - 1 for s in subjects])
    torch.testing.assert_close(images, levels[:, None, None, None].expand(2, 1, 8, 8))
    one, who = data.held_out(1)
    assert torch.equal(one, images[:1]) and list(who) == [subjects[0]]


def test_held_out_without_validation_rows(manifest):
    read = Manifest.read(manifest)
    Manifest(read.table.assign(split="train"), read.info).write(manifest)
    images, subjects = GenerationDataModule(manifest, (8, 8), 2, layers=["one"]).held_out(5)
    assert images.shape == (0, 1, 8, 8) and len(subjects) == 0


def test_held_out_takes_subjects_before_second_images(manifest):
    read = Manifest.read(manifest)
    split = ["train", *["val"] * 9]
    Manifest(read.table.assign(split=split, subject=["t", *"aaaaaabcd"]), read.info).write(manifest)
    assert sorted(GenerationDataModule(manifest, (8, 8), 2, layers=[]).held_out(4)[1]) == [*"abcd"]
