"""Four aligned sequences from a BraTS folder through a generator, a fusion and a segmentation net, and back to volumes."""

import nibabel
import numpy as np
import pytest
import torch
from tiny_brats import SEQUENCES, SHAPE, build, volumes
from tiny_generator import fit_command, sample_command
from torch import nn

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.cases import read_cases
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.fusion import Cells, Matched
from synthrad.metrics.segmentation import subject_scores
from synthrad.records import Manifest
from synthrad.study.fitting import fit_and_test
from synthrad.tasks import SegmentationTask

SIZE = (32, 32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A prepared folder of 12 cases, and a set that a tiny GAN of it draws."""
    folder = tmp_path_factory.mktemp("brats")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        build(folder / "in", 12)
        assert main(["prepare", "brats", str(folder / "in"), str(folder / "real"), "--pad", *map(str, SIZE), "--slices", "all",
                     "--skip-near-copies"]) == 0
        assert main(fit_command(folder / "real", folder / "gan", images=8)) == 0
        assert main(sample_command(newest_valid(folder / "gan"), folder / "real", folder / "made")) == 0
    return folder


def test_channels_reach_nets_in_order_and_come_back(made, monkeypatch):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(made))
    synthetic = Manifest.read(made / "made")
    assert synthetic.info.channels == SEQUENCES and all(len(set(r.channels)) == 4 for r in synthetic) and synthetic.info.layers["tumour"]
    data = FusionDataModule(str(made / "real"), str(made / "made"), Matched(ratio=0.2, cells=Cells(classes=())), SIZE, 4, steps=2)
    data.setup("fit")
    assert data.num_channels == 4 and (data.train.column("source") == "synthetic").any()
    held = data.held_out("val")
    for i, record in enumerate(held):
        case = data._data["val"][i]
        z, whole = int(record.origin["slice"]), volumes(int(record.subject[-3:]))
        for k, name in enumerate(SEQUENCES):
            expected = np.rint(whole[name][:, :, z].T / whole[name].max() * 255) / 127.5 - 1
            assert np.allclose(case.image[k, 6:26, 4:28], expected, atol=1e-5)
        assert (case.masks[0, 6:26, 4:28].numpy() == np.array([0, 1, 2, 0, 3])[whole["seg"][:, :, z].T]).all()
    assert next(iter(data.train_dataloader())).image.shape == (4, 4, *SIZE)


def test_a_fitted_net_has_the_dice_of_the_volumes_that_it_draws(made, tmp_path, monkeypatch):
    """Each test slice through the net, put back at its index: Dice of the volume is what the cases table gives for the subject."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(made))
    data = FusionDataModule(str(made / "real"), str(made / "made"), Matched(ratio=0.2, cells=Cells(classes=())), SIZE, 4, steps=40)
    torch.manual_seed(0)
    task = SegmentationTask(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)), data.layers, lr=0.02)
    fit_and_test(task, data, tmp_path / "run", 40, 20, 0, {"task": "t", "net": "n", "arm": "a"}, "one")
    scores = subject_scores(read_cases([tmp_path / "run" / "cases.parquet"])).set_index(["subject", "class_name"])["score"]
    test = data.held_out("test")
    stacks = {s: np.zeros((*SIZE, SHAPE[2]), int) for s in set(test.column("subject"))}
    with torch.no_grad():
        for i, record in enumerate(test):
            drawn = task.eval()(data._data["test "][i].image[None])[0].argmax(1)[0].numpy()
            stacks[record.subject][:, :, int(record.origin["slice"])] = drawn
    assert stacks
    for subject, drawn in stacks.items():
        path = next((made / "in").rglob(f"{subject}_seg.nii"))
        truth = np.zeros_like(drawn)
        truth[6:26, 4:28] = np.array([0, 1, 2, 0, 3])[np.asarray(nibabel.load(path).dataobj)].transpose(1, 0, 2)
        for k, name in enumerate(test.info.layers["tumour"], 1):
            dice = 2 * ((truth == k) & (drawn == k)).sum() / ((truth == k).sum() + (drawn == k).sum())
            assert scores[subject, name] == pytest.approx(dice, abs=1e-12)
    assert any((d > 0).any() for d in stacks.values())
