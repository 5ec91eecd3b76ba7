"""Reconstruction: errors by structure, lines, pictures, and the fits that it belongs to."""

import json

import pytest
import torch
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.reconstruction import _by_structure


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reconstruction") / "real"
    make(folder)
    return folder


def command(real, run, images=24):
    return fit_command(real, run, "Autoencoder", 32, images)


def test_errors_inside_and_outside_of_a_structure_where_its_layer_is_known():
    real, masks = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4, dtype=torch.long)
    masks[0, 0, :2], masks[2] = 1, -1  # the last image has no mask
    own = real.clone()
    own[0, 0, :2], own[2] = 0.5, 9.0
    found = _by_structure(own, real, masks, {"organ": ["left", "right"]})
    assert found["organ/left"] == {"error_inside": 0.5, "error_outside": 0.0, "images": 1}
    assert found["organ/right"] == {"error_inside": None, "error_outside": pytest.approx(0.125), "images": 0}


def test_a_generator_that_reconstructs_nothing_is_refused(real, tmp_path, capsys):
    assert main([*fit_command(real, tmp_path), "--trainer.callbacks+=synthrad.callbacks.reconstruction.Reconstruction"]) == 2
    assert "leave the callback Reconstruction out" in capsys.readouterr().err


def test_reconstructions_are_checked_and_shown(real, tmp_path):
    callback = ["--trainer.callbacks+=synthrad.callbacks.reconstruction.Reconstruction", "--trainer.callbacks.every_images=12",
                "--trainer.callbacks.number=16", "--trainer.callbacks.steps=2"]
    assert main([*command(real, tmp_path), *callback]) == 0
    lines = [json.loads(x) for x in (tmp_path / "reconstruction.jsonl").read_text().splitlines()]
    assert [x["images"] for x in lines] == [12, 24] and lines[0]["validation"] > 0
    for line in lines:
        assert line["error"] > 0 and 0 < line["psnr"] < 60 and -1 <= line["ssim"] <= 1 and line["latent_scale"] > 0
        assert line["real_dice"] is not None and line["dice"] is not None
        for each in line["structures"].values():
            assert each["images"] == 0 or each["error_inside"] > 0
    assert lines[0]["error"] != lines[1]["error"]
    assert (tmp_path / "reconstruction.png").stat().st_size > 5000
    assert len(list((tmp_path / "reconstructions").glob("images*.png"))) == 2
