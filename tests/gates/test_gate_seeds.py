"""Gate: no augmentation comes twice in any epoch, process or worker, and the number of workers changes no bit.

Short forms: tests/datamodules/test_endless.py, tests/data/test_transforms.py, tests/generators/test_ranks.py (noise of a GAN).
"""

import hashlib

import pytest
import torch
from test_task_ranks import build, dataset
from tiny_generator import fit_command, same_weights

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.study.fitting import fit_and_test

pytestmark = pytest.mark.gate
BATCH, EPOCHS = 3, 4


def pictures(real, workers, patch, seed=0, world=2):
    """(row, digest of its augmented image) of every draw of so many epochs, in the order of the draws of all processes."""
    data = FusionDataModule(str(real), size=(32, 32), batch_size=BATCH, seed=seed, num_workers=workers)
    data.setup("fit")
    rows, ranks = len(data.train), []
    for rank in range(world):
        with patch.context() as p:
            p.setattr(torch.distributed, "is_initialized", lambda: True)
            p.setattr(torch.distributed, "get_world_size", lambda: world)
            p.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            loader, batches = data.train_dataloader(), []
            while len(batches) * BATCH * world < rows * EPOCHS:  # Lightning asks for pass after pass, too
                batches += list(loader)
        ranks.append(batches)
    drawn = [(b, i) for several in zip(*ranks, strict=True) for b in several for i in range(BATCH)]
    return [(int(b.index[i]), hashlib.sha256(b.image[i].numpy().tobytes() + b.masks[i].numpy().tobytes()).hexdigest()) for b, i in drawn]


def test_augmentation(tmp_path, monkeypatch, tally):
    real, lost, tried = dataset(tmp_path / "real"), [], 0
    first = pictures(real, 0, monkeypatch)
    rows = {row for row, _ in first}
    assert len(rows) == 18 and all(sum(r == row for r, _ in first) >= EPOCHS for row in rows)
    for workers in (0, 1, 2, 3):
        drawn = first if not workers else pictures(real, workers, monkeypatch)
        tried += len(drawn)
        lost += [f"{workers} workers: {len(drawn) - len(set(drawn))} pictures twice"] if len(set(drawn)) < len(drawn) else []
        lost += [f"{workers} workers: other pictures than with none"] if drawn != first else []
    alone = pictures(real, 2, monkeypatch, world=1)
    lost += ["one process draws others than two"] if alone[: len(first)] != first[: len(alone)] else []
    other = pictures(real, 0, monkeypatch, seed=1)
    lost += ["another seed repeats a picture"] if set(other) & set(first) else []
    tally("Seeding: pictures", tried, lost)


def test_fits_with_any_number_of_workers(tmp_path, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    real, lost, tried = dataset(tmp_path / "real"), [], 0
    for workers in (0, 1, 3):
        assert main([*fit_command(real, tmp_path / f"gan{workers}"), f"--data.num_workers={workers}"]) == 0
        data = FusionDataModule(str(real), size=(32, 32), batch_size=4, steps=6, num_workers=workers)
        fit_and_test(build("segmentation", data), data, tmp_path / f"task{workers}", 6, 3, 0, {"task": "t"}, "one")
        if workers:
            tried += 2
            if not same_weights(newest_valid(tmp_path / f"gan{workers}"), newest_valid(tmp_path / "gan0")):
                lost.append(f"GAN, {workers} workers")
            if (tmp_path / f"task{workers}" / "cases.parquet").read_bytes() != (tmp_path / "task0" / "cases.parquet").read_bytes():
                lost.append(f"segmentation, {workers} workers")
    tally("Seeding: fits", tried, lost)
