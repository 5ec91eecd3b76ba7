"""Shared by all tests: one thread (results must not depend on it), and where the real images are, if anywhere."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
REPOSITORY = Path(__file__).parents[1]
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A real set and the checkpoint of a tiny generator of it, made under a project of their own."""
    from tiny_generator import fitted

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        return fitted(folder)
