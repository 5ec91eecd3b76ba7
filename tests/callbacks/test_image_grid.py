from datetime import timedelta

import numpy as np
import torch
from forks import forks
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image
from test_fidelity_callback import Painter, fit, picture

from synthrad.callbacks.image_grid import ImageGrid, draw_pairs, tile


def test_tile_fills_rows_and_leaves_the_rest_black():
    pictures = np.arange(1, 4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 5, 3), np.uint8)
    grid = tile(pictures, columns=2)
    assert grid.shape == (4, 10, 3)
    assert [grid[0, 0, 0], grid[0, 5, 0], grid[2, 0, 0], grid[2, 5, 0]] == [1, 2, 3, 0]


def test_pairs_show_the_image_and_its_mask_in_colour():
    image, masks = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.long)
    masks[0, 0, 0, 0] = 1
    pair = draw_pairs(image, masks)
    assert pair.shape == (1, 8, 4, 3) and (pair[0, :4] == 128).all()
    assert len(set(pair[0, 4, 0])) > 1 and (pair[0, 5:] == 128).all()


def test_grids_at_marks_and_at_the_end_change_nothing_that_is_trained(tmp_path):
    with_grid, _ = fit(tmp_path / "a", callbacks=[ImageGrid(every_images=10, number=6, columns=3)])
    without, _ = fit(tmp_path / "b")
    assert torch.equal(with_grid.weight, without.weight)
    assert set(with_grid.drawn) == set(range(6))
    names = sorted(p.name for p in (tmp_path / "a" / "grids").iterdir())
    assert names == [f"images{n:09d}.png" for n in (4, 12, 20, 24)]
    grid = np.asarray(Image.open(tmp_path / "a" / "grids" / names[-1]))
    first = ((picture(100_000, float(with_grid.weight)) + 1) * 127.5).round()[0]
    assert grid.shape == (32, 48, 3) and np.abs(grid[:16, :16, 0] - first.detach().numpy()).max() <= 1


@forks
def test_one_of_two_processes_draws_and_none_waits(tmp_path):
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
    fit(tmp_path, Painter(), callbacks=[ImageGrid(every_images=8, number=4)], devices=2, strategy=strategy)
    assert len(list((tmp_path / "grids").iterdir())) >= 2
