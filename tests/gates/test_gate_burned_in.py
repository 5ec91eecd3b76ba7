"""Gate: of 100 stamped pictures (made-up ones and, where they are, real ones) 95 are flagged; the alarms on unstamped real images are printed.

Short form: tests/data/test_burned_in.py.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "data"))

from test_burned_in import PACKS, find_text, found_on, seen, smooth, stamped  # noqa: E402

pytestmark = pytest.mark.gate
NUMBER = 100


def test_stamps_on_made_up_pictures(tally):
    rng = np.random.default_rng(3)
    missed = [how for k in range(NUMBER) for picture, how, box in [stamped(smooth((256, 320), seed=k), rng)] if not seen(picture, box)]
    alarms = sum(bool(find_text(smooth((256, 320), seed=k))) for k in range(NUMBER))
    print(f"made-up pictures: {len(missed)} of {NUMBER} stamps missed {missed}, {alarms} alarms without a stamp")
    tally("Burned-in text, beyond 5 of 100", NUMBER, missed[5:])
    assert alarms <= 2


def test_stamps_on_real_images(tally, real_data):
    rng, missed, alarms = np.random.default_rng(4), [], {}
    for pack in PACKS:
        lost, alarms[pack] = found_on(real_data / pack, NUMBER // len(PACKS), rng)
        missed += lost
    print(f"real images: {len(missed)} of {NUMBER} stamps missed {missed}, alarms without a stamp (some bear text) {alarms}")
    tally("Burned-in text, beyond 5 of 100", NUMBER, missed[5:])
