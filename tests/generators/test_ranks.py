import numpy as np
import pytest
import torch
from forks import forks
from tiny_gan import TINY, Pictures, fit, trainer
from torch.nn.parallel import DistributedDataParallel

from synthrad.callbacks import RandomState
from synthrad.errors import InputError
from synthrad.gan.styles import Latents
from synthrad.generators.gan import StyleGAN2
from synthrad.generators.ranks import check_wrapping

# In parts and on two processes, minibatch stddev groups pictures 0-3 and 4-7. One process that takes all eight at once
# groups every other one: in this order, the same.
ORDER = [0, 4, 1, 5, 2, 6, 3, 7]


class Given(StyleGAN2):
    """Randomness is a function of step, draw and picture: whoever draws picture i draws the same."""

    def __init__(self, data, folder, **kwargs):
        super().__init__(**kwargs)
        self.given, self.folder, self.calls = data, folder, 0
        self.signs = []

    def _random(self, n, *shape):
        self.calls += 1
        rows = self.given.items(self.trainer.global_rank)[:n]
        source = np.random.default_rng([self.steps_done, self.calls % 5])
        return torch.from_numpy(source.standard_normal((8, *shape)))[rows]

    def _latents(self, n):
        g = self.generator
        z = self._random(n, 2, g.z_dim).transpose(0, 1)
        cuts = (self._random(n).abs() * 2).long() + 1
        return Latents(z, cuts.clamp(max=g.num_ws), [self._random(n, 1, *s) for s in g.noise_shapes])

    def _directions(self, n, shape):
        return self._random(n, *shape)

    def on_train_end(self):
        state = {"weights": self.state_dict(), "ada": self.ada.state_dict()}
        torch.save(state, self.folder / f"rank{self.global_rank}.pt")


def final(folder, batch_size=8, order=ORDER, devices=1, accumulate=1):
    folder.mkdir()
    data = Pictures(batch_size, order)
    model = Given(data, folder, **TINY, max_images=40, accumulate=accumulate, ada_fixed=0.0, label_dropout=0.0)
    fit(data, model, devices=devices, precision="64-true")
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(devices)]


def distance(a, b):
    assert a["weights"].keys() == b["weights"].keys()
    return max((a["weights"][k] - b["weights"][k]).abs().max().item() for k in a["weights"])


@forks
def test_parts_and_processes_give_the_result_of_one_batch(tmp_path):
    """Five steps in float64 with R1 and path lengths: weights, averages and running means agree to 1e-6 (found: 4e-16)."""
    (whole,) = final(tmp_path / "whole")
    (halves,) = final(tmp_path / "halves", accumulate=2)
    one, two = final(tmp_path / "ranks", 4, range(8), devices=2)
    (quarters,) = final(tmp_path / "quarters", order=[0, 1, 4, 5, 2, 3, 6, 7], accumulate=4)
    both = final(tmp_path / "both", 4, range(8), devices=2, accumulate=2)  # groups of two pictures as in the quarters
    assert distance(quarters, both[0]) < 1e-6 and distance(*both) < 1e-12
    assert whole["weights"]["generator.const"].dtype == torch.float64
    assert distance(whole, halves) < 1e-6 and distance(whole, one) < 1e-6 and distance(one, two) < 1e-12
    for other in (halves, one, two):
        assert other["ada"] == pytest.approx(whole["ada"])
    start = StyleGAN2(**TINY)
    torch.manual_seed(0)
    start.build(Pictures().spec())
    moved = {k: (whole["weights"][k] - v).abs().max().item() for k, v in start.state_dict().items()}
    assert all(v > 1e-5 for k, v in moved.items() if "bias" not in k and "noise_strength" not in k), moved
    assert min(moved["path_mean"], moved["generator.w_mean"]) > 1e-5
    (other,) = final(tmp_path / "otherwise", order=range(8))  # the groups matter: only then do the results agree
    assert distance(whole, other) > 1e-6


class Noted(StyleGAN2):
    """Writes down what each process drew and judged."""

    folder = None

    def _latents(self, n):
        made = super()._latents(n)
        torch.save(made.z, self.folder / f"z{self.global_rank}-{self.steps_done}.pt")
        return made

    def _count(self, n, logits):
        with open(self.folder / f"signs{self.global_rank}.txt", "a") as f:
            f.write(f"{logits.sign().mean().item()}\n")
        super()._count(n, logits)
        with open(self.folder / f"p{self.global_rank}.txt", "a") as f:
            f.write(f"{self.ada.r_t!r} {self.ada.p!r}\n")

    def on_train_end(self):
        self.trainer.save_checkpoint(self.folder / "end.ckpt")


def noted(folder, images, resume=None):
    """Fit two processes; the latents that each drew in each step."""
    folder.mkdir()
    model = Noted(**TINY, max_images=images, path_weight=0.0, ada_speed_images=64)
    model.folder = folder
    torch.manual_seed(0)
    made = trainer(2, callbacks=[RandomState()])
    made.fit(model, Pictures(4), ckpt_path=resume, weights_only=True)
    return [[torch.load(p, weights_only=True) for p in sorted(folder.glob(f"z{r}-*.pt"))] for r in range(2)]


def differ(tensors):
    return not any(torch.isclose(a, b).any() for k, a in enumerate(tensors) for b in tensors[:k])


@forks
def test_processes_draw_different_pictures_and_after_a_resume_the_same_as_without(tmp_path):
    whole = noted(tmp_path / "whole", 24)
    assert [len(z) for z in whole] == [3, 3] and differ([*whole[0], *whole[1]])
    noted(tmp_path / "part", 16)
    again = noted(tmp_path / "again", 24, tmp_path / "part" / "end.ckpt")
    assert all(torch.equal(again[r][0], whole[r][2]) for r in range(2))  # both go on as if nothing had been


@forks
def test_processes_share_one_p(tmp_path):
    model = Noted(**TINY, max_images=32, path_weight=0.0, ada_speed_images=64)
    model.folder = tmp_path
    fit(Pictures(4), model, devices=2)
    ps = [(tmp_path / f"p{r}.txt").read_text().splitlines() for r in range(2)]
    assert ps[0] == ps[1] and len(ps[0]) == 4
    signs = [[float(v) for v in (tmp_path / f"signs{r}.txt").read_text().split()] for r in range(2)]
    r_t, p = map(float, ps[0][-1].split())
    assert signs[0] != signs[1] and r_t == pytest.approx(np.mean(signs))  # of both processes, over 4 steps
    assert p == (32 / 64 if r_t > 0.6 else 0.0)


def test_a_strategy_that_waits_for_both_nets_is_refused(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        check_wrapping(DistributedDataParallel(torch.nn.Linear(1, 1), find_unused_parameters=True))
        with pytest.raises(InputError, match="ddp_find_unused_parameters_true"):
            check_wrapping(DistributedDataParallel(torch.nn.Linear(1, 1)))
    finally:
        torch.distributed.destroy_process_group()
    check_wrapping(torch.nn.Linear(1, 1))
