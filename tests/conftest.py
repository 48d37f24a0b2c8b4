from __future__ import annotations

import os

# The tests' networks are too small for threads to help, and several test runs may share a machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def official_cache(tmp_path_factory):
    """A cache that the session's tests share, for official datasets; give it as ``cache_dir``."""
    return tmp_path_factory.mktemp("official")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache (and Minari store) of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HETERO_BENCH_CACHE", str(folder))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return folder
