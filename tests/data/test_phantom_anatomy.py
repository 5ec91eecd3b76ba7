"""Patients: each part has a random stream of its own, and what is drawn stays within what a mouth can hold."""

import numpy as np
import pytest
from scipy.stats import norm

from synthrad.data import phantom_anatomy as anatomy
from synthrad.data import phantom_shapes as shapes
from synthrad.data.phantom_anatomy import FDI, FINDINGS, Person, make_anatomy

THIRD = ("18", "28", "38", "48")
PATIENTS = range(40)


def of(found, finding):
    return [(x.fdi, x.depth, x.polygon.tobytes()) for x in found.lesions if x.finding == finding]


@pytest.mark.parametrize("k", range(4), ids=FINDINGS)
def test_a_patient_with_and_without_a_finding_differs_in_it_alone(k):
    others = [f for i, f in enumerate(FINDINGS) if i != k]
    for subject in PATIENTS:
        with_it, without = (make_anatomy(2, subject, [int(i == k) * on + int(i != k) for i in range(4)]) for on in (1, 0))
        assert with_it.jaw == without.jaw
        assert all(of(with_it, f) == of(without, f) for f in others)
        changed = {a.fdi for a, b in zip(with_it.teeth, without.teeth, strict=True) if a != b}
        if FINDINGS[k] == "impacted":
            assert changed and changed <= set(THIRD) and {t.fdi for t in with_it.teeth if t.state == "impacted"} == changed
        else:
            assert not changed and of(with_it, FINDINGS[k]) and not of(without, FINDINGS[k])


def test_what_is_drawn_for_a_patient_can_be_asked_for_and_gives_the_same():
    for subject in PATIENTS:
        drawn = make_anatomy(1, subject)
        person = drawn.person
        asked = make_anatomy(1, subject, person.labels, person.sex, person.age)
        assert asked.person == person and asked.jaw == drawn.jaw and asked.teeth == drawn.teeth
        assert all(of(asked, f) == of(drawn, f) for f in FINDINGS)


def test_all_lesions_belong_to_the_same_patient():
    for subject in PATIENTS:
        drawn = make_anatomy(1, subject)
        every = anatomy.all_lesions(1, subject, drawn.person)
        assert every.person == Person(drawn.person.sex, drawn.person.age, (1, 1, 1, 1)) and every.jaw == drawn.jaw
        for label, finding in zip(drawn.person.labels, FINDINGS, strict=True):
            assert not label or of(drawn, finding) == of(every, finding)


@pytest.mark.parametrize("decades", [0.0, 3.0, 7.2, 40.0])
def test_enough_teeth_stay_whatever_the_age(decades):
    for seed in range(60):
        states = anatomy._states(np.random.default_rng(seed), decades)
        assert len(states) == 32 and sum(s != "missing" for s in states) >= 16
        assert sum(s == "sound" for s in states) >= 8
        assert {s for k, s in enumerate(states) if k % 8 == 7} <= {"missing", "sound"}


def test_a_lesion_lies_on_a_tooth_that_stands_and_no_tooth_has_two():
    for subject in range(120):
        found = make_anatomy(3, subject, (1, 1, 1, 1))
        state = {t.fdi: t.state for t in found.teeth}
        where = [x.fdi for x in found.lesions]
        assert len(where) == len(set(where)) and not set(where) & set(THIRD)
        for x in found.lesions:
            fit = ("sound",) if x.finding != "periapical_lesion" else ("sound", "filled", "crowned", "root_filled")
            assert state[x.fdi] in fit and 0.8 < x.depth <= 1.25 and np.isfinite(x.polygon).all()
        assert 1 <= sum(s == "impacted" for s in state.values()) <= 3


def test_decay_lies_in_the_crown_and_a_periapical_lesion_at_the_tip():
    found = make_anatomy(0, 0, (1, 1, 1, 0))
    teeth = {t.fdi: t for t in found.teeth}
    for x in found.lesions:
        t = teeth[x.fdi]
        along = (x.polygon - t.neck) @ np.array(t.axis)
        across = (x.polygon - t.neck) @ np.array([-t.axis[1], t.axis[0]])
        if x.finding == "periapical_lesion":
            assert along.mean() == pytest.approx(-1.02 * t.root, abs=0.1 * t.root)
        else:
            assert 0 < along.min() and along.max() < t.crown and np.abs(across).max() <= t.half_width * (1 + 1e-9)


def test_a_tooth_is_placed_by_neck_tip_and_chewing_surface():
    for t in make_anatomy(0, 1).teeth:
        neck, crown, tip, side, other = t.place(np.array([(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)], float))
        axis = np.array(t.axis)
        assert np.linalg.norm(axis) == pytest.approx(1) and np.allclose(neck, t.neck)
        assert np.allclose(crown, neck + t.crown * axis) and np.allclose(tip, neck - t.root * axis)
        assert (side - neck) @ axis == pytest.approx(0, abs=1e-12) and np.allclose(side + other, 2 * neck)
        assert np.linalg.norm(side - neck) == pytest.approx(t.half_width)


def test_teeth_stand_in_order_and_those_of_both_jaws_meet():
    for subject in PATIENTS:
        found = make_anatomy(4, subject, (0, 0, 0, 0))
        assert tuple(t.fdi for t in found.teeth) == FDI and len(FDI) == 32
        necks = {t.fdi: t.neck for t in found.teeth}
        for right, left in (("1", "2"), ("4", "3")):  # the patient's right is on the picture's left
            x = [necks[f"{right}{i}"][0] for i in range(8, 0, -1)] + [necks[f"{left}{i}"][0] for i in range(1, 9)]
            assert np.all(np.diff(x) > 0) and min(x) > -1 and max(x) < 1
        for t in found.teeth:
            surface, tip = (t.place(np.array([[0.0, v]]))[0] for v in (1.0, -1.0))
            assert (tip[1] < surface[1]) == (t.fdi[0] in "12") and 0 < tip[1] < 1
            assert abs(surface[1] - anatomy.bite_line(surface[0], found.jaw)) < 0.03


def test_the_bite_line_is_a_smile():
    jaw = make_anatomy(0, 0).jaw
    x = np.linspace(0, 1, 11)
    assert np.allclose(anatomy.bite_line(x, jaw), anatomy.bite_line(-x, jaw)) and np.all(np.diff(anatomy.bite_line(x, jaw)) < 0)
    assert anatomy.bite_line(0.0, jaw) - anatomy.bite_line(1.0, jaw) == pytest.approx(jaw.curve)


@pytest.mark.parametrize(("age", "band"), [(16, "16-29"), (29, "16-29"), (30, "30-44"), (44, "30-44"), (45, "45-59"), (59, "45-59"),
                                           (60, "60+"), (88, "60+")])  # fmt: skip
def test_age_bands_begin_with_their_first_year(age, band):
    assert Person("female", age, (0, 0, 0, 0)).age_band == band


def test_constants_that_were_written_out_are_what_they_say():
    assert np.allclose(anatomy._SCORES, norm.isf(anatomy.PREVALENCE), rtol=1e-12)
    assert np.array_equal(anatomy.CORRELATION, anatomy.CORRELATION.T) and (np.diag(anatomy.CORRELATION) == 1).all()
    assert len(shapes.KINDS) * 4 == len(FDI)
