"""Are synthetic images nearer to training than to test patients? Edges whose answer is known, and a set that copies."""

import numpy as np
import pytest
import torch

from synthrad.audit import membership_nearest
from synthrad.audit.copying import Subjects
from synthrad.audit.leaks import plant
from synthrad.audit.membership_nearest import CELLS, DIRECTIONS, NAME, NearestSpace, edges, nearest_rung
from synthrad.audit.rungs import ALPHA, judge
from synthrad.audit.sides import Sides
from synthrad.data.phantom import draw_phantom


def phantoms(first, number):
    return torch.from_numpy(np.stack([draw_phantom(4, first + k, (32, 48)).image for k in range(number)])).float()[:, None] / 127.5 - 1


def test_edges_keep_what_lies_where_and_not_how_bright_it_is():
    images = phantoms(0, 6)
    found = edges(images)
    assert torch.allclose(found.square().sum(1), torch.ones(6), atol=1e-4)
    assert torch.allclose(edges(images * 0.5 - 0.2), found, atol=1e-3)
    assert ((found @ edges(plant("blurred", images, images, 0)).T).argmax(1) == torch.arange(6)).all()
    line = torch.full((1, 1, 32, 32), -1.0)
    line[..., 16:] = 1  # an edge that rises to the right
    assert torch.allclose(edges(line), edges(line.flip(-1)), atol=1e-5) and edges(line) @ edges(line.transpose(2, 3)).T < 0.1


def sides_of(drawn, members=40, others=30, calibrated=True):
    real = phantoms(0, members + others)
    split = np.repeat(["train", "test"], [members, others])

    class Rows:
        def column(self, name):
            return np.array([f"s{i}" for i in range(len(split))]) if name == "subject" else split

    return Sides(drawn, real, None, None, np.arange(0), np.arange(0), Rows(), None, phantoms(5000, 40) if calibrated else None, None, "")


def test_the_nearest_rung_sees_poor_copies_and_calibrating_helps():
    fresh, real = phantoms(1000, 50), phantoms(0, 40)
    clean = nearest_rung(sides_of(fresh), rungs=4, trials=10)
    assert clean.auc[1] < 0.5 < clean.auc[2] and clean.p > 0.05 and set(clean.claims) <= set(clean.power)
    leaky = nearest_rung(sides_of(torch.cat([fresh, plant("elastic", real[:20], fresh, 0)])), rungs=4, trials=10)
    assert leaky.p < 0.01 and leaky.auc[0] > clean.auc[0] and judge([leaky])[0].verdict == "fail"
    plain = nearest_rung(sides_of(fresh, calibrated=False), rungs=4, trials=10)
    assert "not calibrated" in plain.reason and "not calibrated" not in clean.reason
    assert clean.power["blurred"][5] >= plain.power["blurred"][5]
    assert nearest_rung(sides_of(fresh, members=10), rungs=4).p is None
    space = NearestSpace(fresh, real, None, 0)
    assert (space.best()[0] <= space.planted("exact", np.arange(3))[0][0]).all()  # nothing is nearer than itself


def ramp(turn, rise=0.01):
    """A plane that rises towards `turn` (1 = half a turn), 48 pixels a side."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    return (rise * (np.cos(np.pi * turn) * x + np.sin(np.pi * turn) * y))[None, None]


def inside(images):
    """[n, directions] of a cell that no border reaches."""
    return edges(images).view(len(images), DIRECTIONS, CELLS, CELLS)[:, :, 4, 4]


def test_an_edge_between_two_directions_is_shared_by_how_near_it_is():
    for turn, first, share in ((1 / 8, 1, 1.0), (1.25 / 8, 1, 0.75), (7.75 / 8, 7, 0.25), (0.5, 4, 1.0), (1 + 1.25 / 8, 1, 0.75)):
        (found,) = inside(ramp(turn)) / inside(ramp(turn)).sum()
        assert found[first] == pytest.approx(share, abs=1e-3) and found[(first + 1) % DIRECTIONS] == pytest.approx(1 - share, abs=1e-3), turn


def test_an_edge_four_times_as_strong_weighs_twice_and_stripes_of_noise_nothing():
    hill = ramp(0.0).cumsum(-1) * 0
    hill[..., :24], hill[..., 24:] = ramp(0.0)[..., :24], 0.24 + 4 * (ramp(0.0)[..., 24:] - 0.24)
    found = edges(hill).view(DIRECTIONS, CELLS, CELLS)
    assert found[0, 4, 6] == pytest.approx(2 * found[0, 4, 2].item(), rel=1e-3)
    stripes = ramp(0.5) + 0.5 * (torch.arange(48) % 3 - 1)  # as wide as what is smoothed away
    assert torch.allclose(inside(stripes) / inside(stripes).sum(), inside(ramp(0.5)) / inside(ramp(0.5)).sum(), atol=1e-3)


def test_channels_are_one_picture():
    """Lengths would add up otherwise, and every pair of images be the same picture."""
    grey, other = phantoms(0, 5), phantoms(700, 5)
    assert edges(grey).shape == (5, DIRECTIONS * CELLS * 12) and edges(grey[:0]).shape == (0, DIRECTIONS * CELLS * 12)
    three = torch.cat([grey, grey, grey], 1)
    assert torch.allclose(edges(three).square().sum(1), torch.ones(5), atol=1e-4)
    assert NearestSpace(three, torch.cat([other] * 3, 1), None, 0).best()[2] == pytest.approx(NearestSpace(grey, other, None, 0).best()[2], abs=1e-4)
    mixed = torch.cat([grey, other, other.flip(0)], 1)
    scores, index, distance = NearestSpace(mixed, torch.cat([mixed, torch.cat([grey, grey, grey], 1)]), None, 0).best()
    assert list(index[:5]) == list(range(5)) and (distance[:5] < 0.01).all() and (distance[5:] > 0.2).all()


def test_flat_pictures_have_no_edges_and_are_near_to_nothing():
    flat = torch.zeros(2, 1, 32, 48)
    assert not edges(flat).any()
    scores, _, distance = NearestSpace(flat, phantoms(0, 3), flat, 0).best()
    assert np.isfinite(scores).all() and distance == pytest.approx(np.sqrt(2))


def test_scores_are_how_much_nearer_the_set_is_than_other_patients_are():
    real, drawn, other = phantoms(0, 6), phantoms(300, 5), phantoms(600, 7)
    plain, calibrated = NearestSpace(drawn, real, None, 0), NearestSpace(drawn, real, other, 0)
    scores, index, distance = calibrated.best()
    usual = NearestSpace(other, real, None, 0).best()[2]
    assert scores == pytest.approx(np.log(usual / distance)) and plain.best()[0] == pytest.approx(-np.log(distance))
    alone = np.stack([NearestSpace(drawn[[k]], real, None, 0).best()[2] for k in range(5)])
    assert list(index) == list(alone.argmin(0)) and distance == pytest.approx(alone.min(0))
    line = ramp(0.5) * 0
    line[..., 24:] = 1.0
    assert 1.35 < NearestSpace(line, line.transpose(2, 3), None, 0).best()[2][0] < np.sqrt(2) + 1e-6
    mirrored = NearestSpace(real.flip(-1), real, None, 0).best()
    assert list(mirrored[1]) == list(range(6)) and (mirrored[2] < 0.01).all()


def test_planted_copies_score_as_a_set_of_them_would():
    real, drawn, other = phantoms(0, 6), phantoms(300, 5), phantoms(600, 7)
    space = NearestSpace(drawn, real, other, 0)
    for copy, row in zip(space.planted("exact", np.array([4, 1])), (4, 1), strict=True):
        assert np.array(list(copy.values())) == pytest.approx(NearestSpace(real[[row]], real, other, 0).best()[0], abs=1e-3) and list(copy) == list(range(6))


def test_the_rung_has_its_name_and_its_share_of_the_level(monkeypatch):
    levels = []
    monkeypatch.setattr(membership_nearest, "Subjects", lambda *given: levels.append(given[-1]) or Subjects(*given))
    rung = nearest_rung(sides_of(phantoms(1000, 20), 24, 24), " of the whole draw", rungs=5, trials=1)
    assert rung.name == f"{NAME} of the whole draw" and levels == [ALPHA / 5] and rung.auc[1] < rung.auc[0] < rung.auc[2]
    few = nearest_rung(sides_of(phantoms(1000, 20), members=10), " x", rungs=4)
    assert few.name == f"{NAME} x" and few.p is None and "needs at least 20" in few.reason
