"""What the audit of copies promises, on phantoms whose truth is known: what it finds, and how often it cries wolf."""

import numpy as np
import pytest
import torch
from scipy import stats

from synthrad.audit.copying import FeatureSpace, fisher
from synthrad.audit.leaks import WITHIN, plant
from synthrad.audit.rungs import ALPHA
from synthrad.data.phantom import draw_phantom
from synthrad.metrics.copies import Moves, Pairs
from synthrad.statistics.exchangeability import Exchange

LEAST = {"exact": 1.0, "flipped": 1.0, "shifted": 1.0, "intensity": 1.0, "noised": 0.99, "rotated": 0.95, "rescaled": 0.95, "cropped": 0.95}
OTHERS, MEMBERS, DRAWN = 120, 60, 150


def phantoms(first, number, masks=False):
    drawn = [draw_phantom(3, first + k, (48, 64)) for k in range(number)]
    images = torch.from_numpy(np.stack([d.image for d in drawn])).float()[:, None] / 127.5 - 1
    if not masks:
        return images
    layers = np.stack([np.stack([m > 0 for m in d.masks.values()]) for d in drawn])
    return images, torch.from_numpy(layers).float() * 2 - 1


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_copies_are_found_at_one_false_alarm_in_a_hundred():
    """Threshold: what 1 % of the non-members reach. Every kind of copy that the search is made for, sixty of each."""
    members, others, drawn = phantoms(0, MEMBERS), phantoms(1000, OTHERS), phantoms(2000, DRAWN)
    threshold = np.quantile(Pairs(drawn, others).best().similarity.numpy(), 0.99)
    found = {}
    for leak in WITHIN:
        similarity = Pairs(torch.cat([drawn, plant(leak, members, drawn, 0)]), members).best().similarity.numpy()
        found[leak] = float((similarity > threshold).mean())
    assert not {leak: rate for leak, rate in found.items() if rate < LEAST[leak]}, (threshold, found)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_clean_sets_alarm_in_one_of_twenty_at_most():
    """Scores of all three spaces on clean sets, members chosen at random again and again: the joint rate after Bonferroni,
    its exact upper 99 % bound. With 4 tests a rung and 3 rungs it should lie well below 5 %."""
    alarms = trials = 0
    for seed in range(2):
        real, real_masks = phantoms(5000 * (seed + 1), 150, masks=True)
        drawn, masks = phantoms(5000 * (seed + 1) + 2000, 80, masks=True)
        few = Moves(refined=2)
        scores = [fisher(Pairs(drawn, real, few).best().similarity.numpy().astype(float)), FeatureSpace("f", drawn, real, 0).best()[0],
                  fisher(Pairs(masks, real_masks, few).best().similarity.numpy().astype(float))]
        rng = np.random.default_rng(seed)
        for _ in range(400):
            made = Exchange(rng.permutation(150) < 95, np.zeros(150), permutations=499, seed=int(rng.integers(2**31)))
            alarms += min(made.test(s).combined for s in scores) * len(scores) <= ALPHA
            trials += 1
    assert stats.beta.ppf(0.99, alarms + 1, trials - alarms) <= ALPHA, (alarms, trials)
