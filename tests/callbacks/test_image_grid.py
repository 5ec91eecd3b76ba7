from datetime import timedelta

import numpy as np
import torch
from forks import forks
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image
from test_fidelity_callback import Painter, fit, picture

from synthrad.callbacks.image_grid import ImageGrid, asked
from synthrad.conditioning import Condition, Images
from synthrad.data.sheets import COLOURS, MARGIN, to_grey


def test_what_was_asked_for_stands_below_each_picture():
    condition = Condition(labels=np.array([[1, 0, np.nan], [0, 1, 1]]), attributes=[{"sex": "F", "view": ""}, {"sex": ""}])
    assert [asked(condition, k, ["caries", "crown", "implant"]) for k in (0, 1)] == ["caries, F", "crown, implant"]
    assert asked(Condition(), 0, []) == ""


def test_masks_are_drawn_as_contours_in_the_colours_of_their_structures(tmp_path):
    class Masked(Painter):
        spec = {"classes": ["dark"], "layers": {"tooth": ["crown", "root"]}}

        def sample(self, condition, seeds):
            masks = torch.zeros(len(seeds), 1, 16, 16, dtype=torch.long)
            masks[:, :, 4:12, 4:8], masks[:, :, 4:12, 8:12] = 1, 2
            return Images(super().sample(condition, seeds).image, masks)

    fit(tmp_path, Masked(), callbacks=[ImageGrid(every_images=100, number=2)])
    grid = np.asarray(Image.open(tmp_path / "grids" / "images000000024.png"))
    for colour in COLOURS[:2]:  # in the legend and on both pictures, as lines: not as areas
        assert 2 * 50 < (grid == colour).all(-1).sum() < 2 * 16 * 64
    plain = grid[:, :, 0] == grid[:, :, 2]
    assert plain.mean() > 0.8


def test_grids_at_marks_and_at_the_end_change_nothing_that_is_trained(tmp_path):
    with_grid, _ = fit(tmp_path / "a", callbacks=[ImageGrid(every_images=10, number=6, columns=3)])
    without, _ = fit(tmp_path / "b")
    assert torch.equal(with_grid.weight, without.weight)
    assert set(with_grid.drawn) == set(range(6)) and with_grid.trainer.datamodule.asked[0] == [0, 16, 32, 47, 63, 79]
    names = sorted(p.name for p in (tmp_path / "a" / "grids").iterdir())
    assert names == [f"images{n:09d}.png" for n in (4, 12, 20, 24)]
    grid = np.asarray(Image.open(tmp_path / "a" / "grids" / names[-1]))
    first = to_grey(picture(100_000, float(with_grid.weight))[0].detach().numpy())
    large = first.repeat(8, 0).repeat(8, 1)  # enlarged by a whole factor
    assert (np.lib.stride_tricks.sliding_window_view(grid[..., 0], large.shape)[:, MARGIN] == large).all((-2, -1)).any()


@forks
def test_one_of_two_processes_draws_and_none_waits(tmp_path):
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=60))
    fit(tmp_path, Painter(), callbacks=[ImageGrid(every_images=8, number=4)], devices=2, strategy=strategy)
    assert len(list((tmp_path / "grids").iterdir())) >= 2
