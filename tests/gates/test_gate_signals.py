"""Gate: SIGTERM and SIGUSR1 to either of two processes at eight points of a step stop both within 15 s, at one step, to go on exactly."""

import signal

import pytest
import test_stop_of_ranks as ranks
from forks import forks

pytestmark = [pytest.mark.gate, forks]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
def test_signals(tmp_path, monkeypatch, tally, number):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    real, whole = ranks.whole_fit(tmp_path)
    cases = [(rank, point) for rank in range(2) for point in ranks.POINTS]
    found = [(f"{number.name} to rank {r}, {p}", ranks.faults(real, whole, tmp_path / f"{r} {p}".replace(" ", "_"), number, r, p)) for r, p in cases]
    tally("Signals to one of two ranks", len(cases), [f"{where}: {what}" for where, what in found if what])
