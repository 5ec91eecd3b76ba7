import numpy as np
import pytest
import torch
from mask_painter import MaskPainter

from synthrad.conditioning import Condition
from synthrad.errors import InputError
from synthrad.generators.interpolation import count_frames, walk
from synthrad.generators.loading import load_generator

SEEDS = [5, 6, 7]


@pytest.fixture(scope="module")
def generator(trained):
    made = load_generator(trained[1])[0]
    with torch.no_grad():
        for conv in made.generator_ema.convs:
            conv.noise_strength.fill_(0.3)  # a few steps of training leave it near 0, and noise out of the test
    return made


def conditions(rows=(0, 1, 2)):
    labels = np.array([[1, 0], [0, 1], [np.nan, 1]])[list(rows)]
    return Condition(labels=labels, attributes=[{} for _ in rows])


@pytest.mark.parametrize("truncation", [1.0, 0.6])
def test_a_walk_passes_the_images_of_its_seeds(generator, truncation):
    whole = torch.cat([part.image for part in walk(generator, conditions(), SEEDS, 4, truncation, batch=3)])
    drawn = generator.sample(conditions(), SEEDS, truncation=truncation)
    assert len(whole) == count_frames(3, 4, closed=False) == 9
    assert torch.allclose(whole[::4], drawn.image, atol=1e-5)
    assert drawn.image.std() > 0.01 and (drawn.image[0] - drawn.image[1]).abs().max() > 0.05
    steps = (whole[1:] - whole[:-1]).abs().mean((1, 2, 3))
    assert (steps > 0).all() and steps.max() < (drawn.image[1:] - drawn.image[:-1]).abs().mean((1, 2, 3)).max()


def test_halfway_lie_the_mean_style_and_noise_of_the_same_strength(generator):
    net = generator.generator_ema
    middle = torch.cat([part.image for part in walk(generator, conditions(), SEEDS, 2)])[1]
    c = generator.asked(conditions((0, 1)), 2)[0]
    sources = [np.random.Generator(np.random.PCG64(seed)) for seed in SEEDS[:2]]

    def draw(*shape):
        return torch.from_numpy(np.concatenate([s.standard_normal(shape, dtype=np.float32) for s in sources]))

    z = draw(1, net.z_dim)
    noise = [(maps[:1] + maps[1:]) / 2**0.5 for maps in (draw(1, 1, *shape) for shape in net.noise_shapes)]
    with torch.no_grad():
        w = net.mapping(z, c).mean(0, keepdim=True)
        expected = net.synthesize(w[:, None].expand(-1, net.num_ws, -1), noise)[0, :1].clamp(-1, 1)
    assert torch.allclose(middle, expected, atol=1e-5)


def test_a_closed_walk_returns(generator):
    parts = list(walk(generator, conditions(), SEEDS, 4, closed=True, batch=5))
    whole = torch.cat([part.image for part in parts])
    assert [len(p.image) for p in parts] == [5, 5, 2] and len(whole) == count_frames(3, 4, closed=True)
    open_walk = torch.cat([part.image for part in walk(generator, conditions(), SEEDS, 4)])
    assert torch.allclose(whole[:9], open_walk, atol=1e-5)
    back = torch.cat([part.image for part in walk(generator, conditions((2, 0)), [7, 5], 4)])
    assert torch.allclose(whole[8:], back[:4], atol=1e-5)
    assert parts[0].masks.dtype == torch.int64 and parts[0].masks.shape == (5, 1, 16, 16)


def test_the_generator_is_as_it_was(generator):
    before = generator.sample(conditions(), SEEDS).image
    frames = walk(generator, conditions(), SEEDS, 4)
    next(frames)  # and no more
    assert torch.equal(generator.sample(conditions(), SEEDS).image, before)
    assert "synthesize" not in vars(generator.generator_ema)


def test_a_generator_without_a_latent_path_is_refused():
    with pytest.raises(InputError, match="MaskPainter: this generator has no latent path"):
        next(walk(MaskPainter({"tooth": ("crown",)}), conditions(), SEEDS, 4))
