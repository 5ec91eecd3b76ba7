import json
import time

import pytest
from test_fidelity_callback import fit

from synthrad.callbacks.checks import Checks, EveryImages
from synthrad.callbacks.image_grid import ImageGrid
from synthrad.errors import InputError


class Slow(Checks):
    """A check of 0.2 s that notes the clock."""

    def __init__(self, name, **more):
        super().__init__(**{"every_images": 8, "number": 10, "seed": 0, "block": 4, **more})
        self.name, self.clock = name, []

    def prepare(self, trainer, pl_module):
        time.sleep(0.2)
        return True

    def measure(self, trainer, pl_module):
        self.clock.append(self.trained_seconds)
        time.sleep(0.2)
        return {}

    def picture(self, lines):
        return json.dumps([x["images"] for x in lines]).encode()


class Other(Slow):
    """Lightning keeps the state of one callback a class."""


def test_lines_marks_and_picture(tmp_path):
    check = Slow("slow", every_images=10)
    fit(tmp_path, callbacks=[check])
    lines = [json.loads(x) for x in (tmp_path / "slow.jsonl").read_text().splitlines()]
    assert [x["images"] for x in lines] == [12, 20, 24] == json.loads((tmp_path / "slow.png").read_bytes())
    assert all(0.2 <= x["check_seconds"] < 5 for x in lines) and check.checked == 24


def test_reading_and_checks_of_any_callback_are_no_training(tmp_path):
    """Two callbacks sleep 0.2 s at the start and 0.2 s at each of 3 marks: 1.6 s that neither clock counts."""
    one, two = Slow("one"), Other("two")
    begun = time.monotonic()
    fit(tmp_path, callbacks=[one, two])
    assert time.monotonic() - begun > 1.6
    for check in (one, two):
        assert len(check.clock) == 3 and check.clock == sorted(check.clock)
    assert max(one.clock[-1], two.clock[-1]) < time.monotonic() - begun - 1.6


def test_what_cannot_be_a_mark_or_a_grid():
    for made in (lambda: Slow("x", every_images=0), lambda: ImageGrid(0)):
        with pytest.raises(InputError, match="every_images 0"):
            made()
    for made in (lambda: Slow("x", number=9), lambda: Slow("x", block=0), lambda: ImageGrid(number=0), lambda: ImageGrid(columns=0)):
        with pytest.raises(InputError, match="at least"):
            made()
    with pytest.raises(TypeError, match="abstract"):
        EveryImages(8, 0)
