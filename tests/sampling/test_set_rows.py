from dataclasses import replace

import numpy as np
import torch
from noise_painter import INFO, conditions
from PIL import Image

from synthrad.conditioning import Images
from synthrad.data.conditions import complete
from synthrad.data.images import files_digest
from synthrad.sampling.set_rows import image_seed, set_table, write_image


def test_seeds_of_neighbouring_sets_differ():
    seeds = {image_seed(s, k) for s in range(20) for k in range(50)}
    assert len(seeds) == 1000 and min(seeds) >= 0


def test_an_image_is_written_in_its_intensities_and_its_row_says_what_is_on_it(tmp_path):
    info = replace(INFO, channels=("t1", "t2"), intensity={"low": 100.0, "high": 1100.0})
    drawn = Images(torch.stack([torch.full((2, 8, 8), -1.0), torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])]), torch.tensor([0, 1]).expand(2, 1, 8, 2).repeat_interleave(4, 3))
    rows = [write_image(drawn, i, i, tmp_path, info, ["organ"]) for i in range(2)]
    pixels = [np.asarray(Image.open(tmp_path / f"images/{c}/000001.png")) for c in info.channels]
    assert pixels[0].dtype == np.uint16 and (pixels[0] == 600).all() and (pixels[1] == 1100).all()
    table = set_table(rows, complete(conditions(2), info), 5, info, None, None)
    assert table["digest"][1] == files_digest([tmp_path / f"images/{c}/000001.png" for c in info.channels])
    assert table["mask:organ"][1] == "masks/organ/000001.png" and table["mask:other"][1] == ""
    assert table["area:organ/left"][1] == 0.5 and table["area:organ/right"][1] == 0 and np.isnan(table["area:other/x"][1])
    assert table["origin:seed"].tolist() == [str(image_seed(5, k)) for k in range(2)] and set(table["origin:mask"]) == {"joint"}
