"""Sixteen bits and several channels, from prepare to a sampled set and back."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_generator import fit_command, sample_command

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.records import Manifest

CHANNELS = ("t1", "t2", "flair", "swi", "adc", "pd", "t1c", "b0")
HIGH = 4095


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Eight sequences of 12 bits in 16; neighbouring pixels differ by one value, far less than a step of 8 bits."""
    folder = tmp_path_factory.mktemp("mr")
    ramp = np.arange(32 * 32).reshape(32, 32)
    rows = []
    for i in range(12):
        row = {"patient": f"p{i}", "mask": f"{i}_mask.png", "lesion": i % 2}
        for k, channel in enumerate(CHANNELS):
            row[channel] = f"{i}_{channel}.png"
            Image.fromarray((ramp + 97 * i + 211 * k).astype(np.uint16)).save(folder / row[channel])
        Image.fromarray(np.kron(np.eye(2), np.full((16, 16), 255)).astype(np.uint8)).save(folder / row["mask"])
        rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    assert main(["prepare", "table", str(folder / "table.csv"), str(folder / "out"), "--subject", "patient", "--image", *CHANNELS,
                 "--channel-names", *CHANNELS, "--mask", "mask", "--mask-classes", "lesion:255=lesion", "--labels", "lesion",
                 "--intensity", "0", str(HIGH), "--skip-near-copies"]) == 0
    return folder / "out"


def test_no_value_is_lost_on_the_way_to_the_net(real):
    data = GenerationDataModule(manifest=str(real), size=(32, 32), batch_size=4)
    data.prepare()
    for i in range(len(data.train)):
        stored = np.stack([np.asarray(Image.open(path)) for path in data.train[i].channels])
        back = (data.case(i).image.double().numpy() + 1) / 2 * HIGH
        assert stored.shape == (8, 32, 32)
        np.testing.assert_allclose(back, stored, atol=1e-3)  # of one stored value


def test_samples_have_the_channels_and_the_depth_of_the_real_images(real, tmp_path):
    assert main(fit_command(real, tmp_path / "run")) == 0
    assert main(sample_command(newest_valid(tmp_path / "run"), real, tmp_path / "set")) == 0
    made = Manifest.read(tmp_path / "set")
    assert made.info.channels == CHANNELS and made.info.intensity == {"low": 0.0, "high": float(HIGH)}
    pixels = np.stack([[np.asarray(Image.open(path)) for path in record.channels] for record in made])
    assert pixels.dtype == np.uint16 and pixels.shape == (10, 8, 16, 16)
    assert pixels.max() > 255 and pixels.max() <= HIGH
    assert len(np.unique(pixels)) > 256
