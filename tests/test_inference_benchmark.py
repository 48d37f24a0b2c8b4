"""The benchmark of latency takes every method there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from baselines.engine import list_methods

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_every_method_is_timed(tmp_path):
    command = [sys.executable, "benchmarks/inference.py", "--calls", "2", "--rounds", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line]
    spar = {"SPAR-MLP", "SPAR-PLAS", "SPAR-PROJ"}
    methods = {each.title for each in list_methods() if each.actions == "continuous"}
    assert set(rows) == methods - {"SPAR"} | spar
