"""Whether freed memory stays: page faults of blocks that are allocated again and again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from baselines.engine.memory import keep_freed_memory
import torch
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def rounds():
    before = faults()
    for _ in range(10):
        torch.ones(10 * 2**20)
    return faults() - before
rounds()
print(rounds())
"""


def page_faults(what):
    command = [sys.executable, "-c", PROGRAM, what]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_blocks_are_not_faulted_in_again():
    """Ten times 40 MiB, which are 10,240 pages, or 20 huge ones where the system has them."""
    given_back, kept = page_faults("give back"), page_faults("keep")
    assert given_back >= 10 * 20
    assert kept < given_back / 20
