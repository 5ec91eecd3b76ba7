"""What every generator does alike: noise of a seed, counting, the half life of its average."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_gan
import torch

from synthrad.errors import InputError
from synthrad.generators.conditional import noise_of, noises_of
from synthrad.generators.gan import StyleGAN2


def test_noise_of_a_picture_comes_from_its_seed_alone_and_goes_on():
    both, alone = noises_of([3, 4], (2, 8, 8), torch.device("cpu")), noises_of([4], (2, 8, 8), torch.device("cpu"))
    first, second = both(), both()
    assert torch.equal(first[1], alone()[0]) and torch.equal(second[1], alone()[0]) and not torch.equal(first, second)
    wanted = np.random.Generator(np.random.PCG64(2**40)).standard_normal((2, 3), dtype=np.float32)
    assert np.array_equal(noise_of(2**40)(2, 3).numpy(), wanted)  # all bits of a seed count
    assert not torch.equal(noise_of(2**40)(4), noise_of(0)(4))


def test_images_are_counted_and_the_average_ramps_up():
    model, trainer = tiny_gan.fit(steps=3)
    assert model.images_seen == 24 and trainer.should_stop
    assert model.ramped(8, 1e6) == 32 * model.hparams.ema_rampup and model.ramped(8, 0.5) == 0.5


def test_layers_in_another_order_are_other_channels():
    info = replace(tiny_gan.INFO, layers={"organ": ("left", "right"), "lesion": ("small", "large")})
    model, spec = StyleGAN2(**tiny_gan.TINY), tiny_gan.Pictures(info=info).spec()
    model.build(spec)
    model.build(spec)
    with pytest.raises(InputError, match="checkpoint: layers"):
        model.build({**spec, "layers": dict(reversed(spec["layers"].items()))})
