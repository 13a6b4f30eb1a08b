"""What a process keeps of the memory that it has freed."""

import platform
import subprocess
import sys

import pytest

KEEPS = """
import sys
import numpy as np
from benchmarks.harness.machine import anonymous_bytes
from gpubranches.core.memory import return_large_blocks
if sys.argv[1] == "returns":
    return_large_blocks()
np.ones(20 << 20, np.uint8)
before, blocks, small = anonymous_bytes(), [], []
for _ in range(16):
    blocks.append(np.ones(8 << 20, np.uint8))
    small.append(np.ones(8 << 10, np.uint8))
blocks.clear()
print((anonymous_bytes() - before) >> 20)
"""


def kept_mb(how):
    done = subprocess.run([sys.executable, "-c", KEEPS, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_large_blocks_that_are_freed_go_back_to_the_system():
    assert kept_mb("returns") < 16


def test_without_it_glibc_keeps_them():
    """If a C library does not, `return_large_blocks` is not needed there."""
    if "glibc" not in platform.libc_ver():
        pytest.skip("not glibc")
    assert kept_mb("default") > 64
