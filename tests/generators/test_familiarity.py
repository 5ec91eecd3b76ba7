"""What generators say of given pictures: of each alone, the same every time, and more of what they were shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_gan import TINY
from tiny_gan import Pictures as Made

from synthrad.conditioning import Condition
from synthrad.errors import InputError
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.familiarity import Pictures, parts_of
from synthrad.generators.gan import StyleGAN2

NET = {"channels": [8, 16], "attention": [False, True], "res_blocks": 1, "head_channels": 8, "lr": 2e-3}
AUTO = {"channels": [8, 16], "latent_channels": 2, "res_blocks": 1, "attention": False, "adversarial_weight": 0.0, "perceptual": None, "lr": 2e-3}


def built(module, **spec):
    torch.manual_seed(0)
    module.build({**Made().spec(), **spec})
    return module.eval()


def latent():
    coder = built(Autoencoder(**AUTO))
    coder.latent_moments.copy_(torch.tensor([0.0, 1.0]))
    module = Diffusion(**NET)
    module._entry = {"hparams": {k: v for k, v in coder.hparams.items()}, "spec": coder.spec, "digest": "d"}
    built(module)
    module.autoencoder.load_state_dict({k: v for k, v in coder.state_dict().items() if k.startswith(("net_ema", "latent"))})
    return module


def prompted():
    return built(Diffusion(**NET, text="words", text_width=8), prompt={"template": "{findings}", "words": {}}, vocabulary=["a", "b"])


MAKERS = {"gan": lambda: built(StyleGAN2(**TINY)), "gan of masks": lambda: built(StyleGAN2(**TINY, masks="given")),
          "ramped gan": lambda: built(StyleGAN2(**TINY, condition_ramp=(0, 1))), "pixels": lambda: built(Diffusion(**NET)),
          "diffusion of masks": lambda: built(Diffusion(**NET, masks="given")), "prompts": prompted, "latents": latent,
          "flow": lambda: built(Diffusion(**NET, schedule="rectified_flow", prediction="velocity")),
          "autoencoder": lambda: built(Autoencoder(**AUTO, bottleneck_weight=0.01)), "codes": lambda: built(Autoencoder(**AUTO, bottleneck="vq", codes=16))}
NAMES = {"gan": ["discriminator"], "latents": ["denoising", "neighbour", "reconstruction"], "autoencoder": ["reconstruction", "bound"], "codes": ["reconstruction"],
         "prompts": ["denoising", "neighbour"]}


def pictures(text=False):
    case = Made().batch(0)
    labels = case.labels.double().numpy()
    return Pictures(case, Condition(labels=labels, attributes=[{}] * 8, masks=case.masks, text=["a, b"] * 4 + ["b"] * 4 if text else None))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_number_is_that_of_its_picture_alone_and_always_the_same(kind):
    module, given = MAKERS[kind](), pictures(kind == "prompts")
    names = []
    for part in parts_of(module):
        scores = part.scores(given)
        names += scores
        for name, values in part.scores(given.take([5, 2])).items():
            assert values == pytest.approx(scores[name][[5, 2]], abs=1e-4) and np.ptp(scores[name]) > 1e-5
        other = given.take(range(8))
        other.case.image[0] = -other.case.image[0]
        moved = part.scores(other)
        assert all(abs(moved[n][0] - scores[n][0]) > 1e-5 and moved[n][1:] == pytest.approx(scores[n][1:], abs=1e-4) for n in scores)
    assert names == NAMES.get(kind, names)


@pytest.mark.parametrize("kind", ["gan", "pixels", "latents", "autoencoder"])
def test_what_was_learned_by_heart_is_known_better_and_the_generator_stays_as_it_was(kind):
    module, given = MAKERS[kind](), pictures()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    for part in parts_of(module):
        plain, shown = part.scores(given), []
        copy = part.learned(given.take(range(4)), 60, 0, shown.append)
        gain = {name: values - plain[name] for name, values in copy.scores(given).items()}
        assert all(g[:4].mean() > g[4:].mean() for g in gain.values()) and sum(shown) == 240
        again = part.learned(given.take(range(4)), 60, 0).scores(given)
        assert all(np.array_equal(again[n] - plain[n], g) for n, g in gain.items())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_conditions_count():
    part, given = parts_of(MAKERS["pixels"]())[0], pictures()
    other = replace(given, condition=replace(given.condition, labels=1 - given.condition.labels))
    copy = part.learned(given, 30, 0)
    assert np.abs(copy.scores(given)["denoising"] - copy.scores(other)["denoising"]).max() > 1e-6  # and 0 where they are the same


def test_other_generators_are_refused():
    with pytest.raises(InputError, match="a Linear; expected a StyleGAN2"):
        parts_of(torch.nn.Linear(1, 1))
