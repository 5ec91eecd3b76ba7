"""Shared by all tests: one thread (results must not depend on it), where the real images are, if anywhere, and the gates' table."""

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist has its workers ignore what our tests send
REPOSITORY = Path(__file__).parents[1]
TALLY: pytest.StashKey[dict[str, tuple[int, int]]] = pytest.StashKey()  # gate -> tried, lost
REAL_DATA = Path(os.environ.get("SYNTHRAD_REAL_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real images (not part of the project)."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the folder of real images {REAL_DATA} is missing (set SYNTHRAD_REAL_DATA)")
    return REAL_DATA


@pytest.fixture(autouse=True)
def project_folder(tmp_path, monkeypatch):
    """Keep the project key of each test in its own folder."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)  # Lightning leaves the seed of a fit there, and forks of a later one start from it


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real set and the checkpoint of a tiny generator of it, made under a project of their own."""
    from tiny_generator import fitted

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        return fitted(folder)


@pytest.fixture
def tally(request):
    """tally(gate, tried, lost): note how many attempts a gate made and what each loss was; one loss fails the test."""

    def note(gate: str, tried: int, lost: Sequence[object] = ()) -> None:
        table = request.config.stash.setdefault(TALLY, {})
        before = table.get(gate, (0, 0))
        table[gate] = before[0] + tried, before[1] + len(lost)
        assert not lost, f"{gate}: {len(lost)} of {tried} lost: " + "; ".join(map(str, lost))

    return note


def pytest_terminal_summary(terminalreporter, config):
    table = config.stash.get(TALLY, {})
    if not table:
        return
    width = max(map(len, ["gate", *table]))
    terminalreporter.section("gates")
    for row in [("gate", "tried", "lost"), *((gate, *counts) for gate, counts in sorted(table.items()))]:
        terminalreporter.write_line(f"{row[0]:<{width}}  {row[1]:>6}  {row[2]:>6}")
