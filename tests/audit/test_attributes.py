"""Values that no picture shows: can the nearest synthetic image give them away?"""

from dataclasses import replace

import numpy as np
from known_pictures import coins, manifest, textures

from synthrad.audit.attributes import attribute_rung
from synthrad.audit.judges import targets_of
from synthrad.audit.rungs import judge
from synthrad.audit.sides import Sides, Witnesses

MEMBERS, OTHERS = 50, 30


class Ignorant:
    """A judge that says one half of everything."""

    def __init__(self, targets):
        self.targets = targets

    def __call__(self, images):
        return np.full((len(images), len(self.targets)), 0.5)


def hidden(copies=0, own=True):
    """Values that no picture shows; `copies` training images in the set, with their own values or with others."""
    n = MEMBERS + OTHERS
    real, _ = textures(1, n)
    values = {f"label:{c}": coins(k, n) for k, c in enumerate("abc")} | {"attribute:sex": np.where(coins(9, n) == 1, "F", "M")}
    drawn, _ = textures(2, 60)
    carried = {f"label:{c}": coins(20 + k, 60) for k, c in enumerate("abc")} | {"attribute:sex": np.where(coins(29, 60) == 1, "F", "M")}
    drawn[:copies] = real[:copies]
    for name, column in carried.items():
        mine = values[name][:copies]
        wrong = np.where(mine == "F", "M", "F") if name == "attribute:sex" else 1 - mine
        column[:copies] = mine if own else wrong
    rows = manifest(range(n), ["train"] * MEMBERS + ["test"] * OTHERS, **values)
    audit = manifest(range(900, 940), "audit", **{k: v[:40] for k, v in values.items()})
    return Sides(drawn, real, None, None, np.arange(n), np.arange(60), rows, manifest(range(60), **carried), None, rows[:0], "", Witnesses(audit, textures(3, 40)[0], None, np.zeros(0, int)))


def inferred(sides):
    return judge([attribute_rung(sides, Ignorant(targets_of(sides)), rungs=1, trials=20)[0]])[0]


def test_values_of_copied_patients_are_a_leak_and_nothing_else_is():
    clean, leaking = inferred(hidden()), inferred(hidden(copies=8))
    assert clean.verdict == "pass" and clean.power["exact"][5] == 1
    assert leaking.verdict == "fail" and {t["name"] for t in leaking.facts["targets"]} == {"a", "b", "c", "sex=F"}
    assert inferred(hidden(copies=8, own=False)).verdict != "fail"  # the images leak, what they say of their patients is wrong


def test_what_cannot_be_inferred_is_said():
    sides = hidden()
    assert attribute_rung(replace(sides, witnesses=None), None, rungs=1)[0].reason == "needs 20 patients in the split audit, has 0"
    bare = replace(sides, drawn=manifest(range(60)))
    assert attribute_rung(bare, None, rungs=1)[0].reason.startswith("needs a label or attribute")
