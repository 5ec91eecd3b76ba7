"""Gate: hostile checkpoints, from disk and over http, run nothing; one flipped bit or a missing end is refused by the sha256.

Short form: tests/test_hostile_checkpoints.py.
"""

import pytest
from forks import forks
from test_hostile_checkpoints import accepted, ran, silently

pytestmark = [pytest.mark.gate, forks, pytest.mark.filterwarnings("ignore:.*pickle protocol.*|.*torch.jit.*")]
FLIPS, CUTS = 300, 100


@pytest.mark.parametrize("place", ["sample", "fit --ckpt_path", "model.init_from", "weights of a net"])
def test_files(tmp_path, trained, tally, place):
    tally("Hostile checkpoints", *ran(tmp_path, trained, [place]))


def test_changed_bytes(tmp_path, trained, tally):
    tally("Flipped and cut checkpoints", FLIPS + CUTS, accepted(tmp_path, trained[1], FLIPS, CUTS))


def test_changed_bytes_without_a_sha256(tmp_path, trained, tally):
    tally("Flipped checkpoints without sha256", FLIPS, silently(tmp_path, trained[1], FLIPS))
