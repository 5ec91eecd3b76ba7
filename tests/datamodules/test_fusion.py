import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from tiny_set import make

from synthrad.cases import Case, collate
from synthrad.data.stored import StoredBatch
from synthrad.data.transforms import light, move_pair, strong
from synthrad.datamodules import fusion
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.errors import InputError
from synthrad.fusion import AugmentedReal, Matched
from synthrad.records import Manifest


def opened(folder, **options):
    data = FusionDataModule(str(folder / "real"), size=(32, 32), batch_size=4, steps=10, **options)
    data.setup("fit")
    return data


def draws(data, batches, skip=0):
    loader = data.train_dataloader()
    loader.done = skip
    return [b for b, _ in zip(loader, range(batches), strict=False)]


def test_no_worker_count_and_no_resume_changes_a_batch(tmp_path):
    make(tmp_path / "real")
    one = draws(opened(tmp_path), 6)
    two = draws(opened(tmp_path, num_workers=2), 6)
    resumed = draws(opened(tmp_path), 2, skip=4)
    assert all(torch.equal(a.image, b.image) and torch.equal(a.masks, b.masks) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a.image, b.image) for a, b in zip(one[4:], resumed, strict=True))
    rows = torch.cat([b.index for b in one[:3]])
    assert sorted(rows.tolist()) == list(range(12))  # an epoch holds each row once
    assert {int(m) for m in one[0].masks.unique()} <= {-1, 0, 1, 2}


def one_by_one(cases, items):
    """Training batches as they were before they were fetched whole: every item converted, then augmented."""
    made = []
    for index, draw in items:
        part, row = cases.origin[index]
        image, masks = cases.caches[part].scaled(row), cases.caches[part].masks(row)
        if cases.augment[index] is not None:
            how = cases.how[index]
            move = (lambda i, m, s, h=how: move_pair(i, m, h, s, cases.layers)) if how else strong
            image, masks = move(image, masks, cases.augment[index])
        numbered = torch.from_numpy(masks).to(torch.int64)
        numbered[numbered == 255] = -1
        case = Case(torch.from_numpy(image), numbered, cases.labels[index], torch.tensor(index), torch.zeros(0))
        view = None if cases.views is None else cases.number_of((index, draw)) % cases.views
        made.append(light(case, np.random.default_rng([cases.seed, draw] if view is None else [view, int(cases.keys[index], 16)])))
    return collate(made)


def same(a, b):
    return all(torch.equal(v.nan_to_num(9), getattr(b, k).nan_to_num(9)) and v.dtype == getattr(b, k).dtype for k, v in vars(a).items())


@pytest.mark.parametrize(("how", "views"), [("", None), ("elastic", None), ("", 2)])
def test_batches_are_what_they_were_one_by_one(tmp_path, how, views):
    make(tmp_path / "real")
    data = opened(tmp_path, fusion=AugmentedReal(like=Matched(ratio=0.5), **({"how": how} if how else {})), seed=3, views=views)
    cases, loader = data._data["train"], data.train_dataloader()
    assert any(a is not None for a in cases.augment) and len(cases.layers) == 1
    items = list(loader.batches)[:6]
    for batch, rows in zip(loader, items, strict=False):
        assert same(batch, one_by_one(cases, rows)) and same(batch, collate([cases[i] for i in rows]))
    assert any((cases[(i, 0)].masks == -1).all() for i in range(len(cases)))
    held = data._data["val"]
    for k, batch in enumerate(data.val_dataloader()):
        assert same(batch, collate([held[i] for i in range(4 * k, min(4 * k + 4, len(held)))]))


class Noting(LightningModule):
    """Keeps what crosses to the device, and what its steps see."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen, self.moved = torch.nn.Parameter(torch.zeros(())), {}, []

    def on_before_batch_transfer(self, batch, dataloader_idx):
        self.moved.append(batch)
        return batch

    def training_step(self, batch, batch_idx):
        self.seen.setdefault("train", []).append(batch)
        return self.weight

    def validation_step(self, batch, batch_idx):
        self.seen.setdefault("val", []).append(batch)

    def test_step(self, batch, batch_idx):
        self.seen.setdefault("test", []).append(batch)

    def predict_step(self, batch, batch_idx):
        self.seen.setdefault("predict", []).append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder, precision="32-true"):
    return Trainer(accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, logger=False, enable_progress_bar=False, precision=precision,
                   enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder)


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16), ("bf16-mixed", torch.float32)])
def test_the_precision_of_a_trainer_is_that_of_its_images(tmp_path, precision, dtype):
    make(tmp_path / "real")
    data, module = opened(tmp_path), Noting()
    trainer(tmp_path, precision).fit(module, data)
    for batches, expected in ((module.seen["train"], draws(data, 1)), (module.seen["val"], list(data.val_dataloader()))):
        assert batches[0].image.dtype == batches[0].labels.dtype == dtype and batches[0].masks.dtype == torch.int64
        assert torch.equal(batches[0].image, expected[0].image.to(dtype))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_trainer_moves_bytes_and_its_steps_see_cases(tmp_path, workers):
    make(tmp_path / "real")
    data, module = opened(tmp_path, num_workers=workers), Noting()
    data.setup("test")
    expected = {"train": draws(data, 10), "val": list(data.val_dataloader()), "test": list(data.test_dataloader()[0])}
    run = trainer(tmp_path)
    run.fit(module, data)
    run.test(module, data, verbose=False)
    run.predict(module, data, return_predictions=False)
    for stage, batches in {**expected, "predict": expected["test"]}.items():
        assert all(same(a, b) for a, b in zip(module.seen[stage], batches, strict=True)) and type(module.seen[stage][0]) is Case
    assert {type(m) for m in module.moved} == {StoredBatch} and {m.masks.dtype for m in module.moved} == {torch.uint8}
    assert type(next(iter(data.val_dataloader()))) is Case  # nobody converts after the end


@pytest.mark.parametrize(("workers", "precision", "dtype"), [(0, "32-true", torch.float32), (2, "32-true", torch.float32), (0, "64-true", torch.float64)])
def test_kept_features_cross_to_a_trainer_as_pictures_do(tmp_path, workers, precision, dtype):
    make(tmp_path / "real")
    data, module = opened(tmp_path, views=3, num_workers=workers), Noting()
    data.setup("test")
    shown, items = dict(data._data), list(data.train_dataloader().batches)
    data.serve_features(lambda image: image[:, 0, ::8, ::8].flatten(1), "points")
    run = trainer(tmp_path, precision)
    run.fit(module, data)
    run.test(module, data, verbose=False)
    places = {"train": ("train", items), "val": ("val", [range(len(shown["val"]))[k : k + 4] for k in range(0, len(shown["val"]), 4)]),
              "test": ("test ", [range(len(shown["test "]))[k : k + 4] for k in range(0, len(shown["test "]), 4)])}
    for stage, (name, batches) in places.items():
        for seen, rows in zip(module.seen[stage], batches, strict=True):
            picture = collate([shown[name][i] for i in rows])
            assert type(seen) is Case and seen.image.dtype == dtype and seen.masks.shape == (len(rows), 0, 1, 1)
            assert torch.equal(seen.image, picture.image[:, 0, ::8, ::8].flatten(1).to(dtype)) and torch.equal(seen.index, picture.index)
            assert torch.equal(seen.labels.nan_to_num(9), picture.labels.nan_to_num(9).to(dtype))
            assert torch.equal(collate([data._data[name][i] for i in rows]).image.to(dtype), seen.image)
    assert {type(m) for m in module.moved} == {StoredBatch} and type(next(iter(data.val_dataloader()))) is Case


def test_every_other_split_is_real(tmp_path):
    make(tmp_path / "real")
    make(tmp_path / "made", 20, "synthetic", 5)
    with pytest.warns(UserWarning, match="lineage unknown"):
        data = opened(tmp_path, synthetic=str(tmp_path / "made"), fusion=Matched(ratio=1))
    data.setup("test")
    assert (data.train.column("source") == "synthetic").sum() == 12
    for held in (data._data["val"].manifest, *(m for _, m in data.test_manifests)):
        assert set(held.column("source")) == {"real"}
    read = Manifest.read(tmp_path / "real")
    table = read.table
    table.loc[table["split"] == "val", "source"] = "synthetic"
    Manifest(table, read.info).write(tmp_path / "real")
    with pytest.raises(InputError, match="real images only"):
        opened(tmp_path)


def test_real_pairs_are_moved_as_the_row_says(tmp_path, monkeypatch):
    make(tmp_path / "real")
    cases = opened(tmp_path, fusion=AugmentedReal(like=Matched(ratio=0.5), how="affine"))._data["train"]
    seen = []
    monkeypatch.setattr(fusion, "move_pair", lambda image, masks, how, seed, layers: seen.append((how, seed)) or (image, masks))
    for i in range(len(cases)):
        cases[(i, 0)]
    assert seen == [("affine", s) for s in cases.augment if s is not None] and len(seen) == 6


def test_strong_augmentation_is_fixed_by_the_row(tmp_path):
    make(tmp_path / "real")
    data = opened(tmp_path, fusion=AugmentedReal(like=Matched(ratio=0.5)))
    cases = data._data["train"]
    rows = [i for i, seed in enumerate(cases.augment) if seed is not None]
    assert len(rows) == 6
    assert torch.equal(cases[(rows[0], 3)].image, cases[(rows[0], 3)].image)
    assert not np.allclose(cases[(rows[0], 3)].image, cases[(rows[0], 4)].image)
    strong = [cases[(i, 3)].image for i in rows]
    for i in rows:
        cases.augment[i] = None
    light = [cases[(i, 3)].image for i in rows]  # the same light draw of the same rows without it
    assert not any(np.allclose(a, b, atol=1e-3) for a, b in zip(strong, light, strict=True))
