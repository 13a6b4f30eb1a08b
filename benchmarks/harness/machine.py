"""Facts of the machine that a benchmark runs on, and the anonymous memory of a process."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np


def machine_facts(load_before: float) -> dict[str, Any]:
    """Return processor, cores, load averages, versions and date of a run; load_before: the load when it began."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def anonymous_bytes(process: int | str = "self") -> int:
    """Return the resident anonymous memory of a process (RssAnon). Raises OSError after the process has ended."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next((int(line.split()[1]) for line in status if line.startswith("RssAnon")), 0)


def peak_resident_bytes() -> int:
    """Return the largest resident memory of this process so far, mapped files included (VmHWM).

    `ru_maxrss` is not it: a process inherits that of the one which started it.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


class PeakMemory:
    """Samples the anonymous memory of this process while a block runs.

    before_bytes: at the start of the block; peak_bytes: the largest sample.
    """

    def __init__(self, every_s: float = 0.002):
        self._every_s = every_s
        self._done = threading.Event()

    def __enter__(self) -> PeakMemory:
        """Start sampling in a thread."""
        self.before_bytes = self.peak_bytes = anonymous_bytes()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop sampling."""
        self._done.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, anonymous_bytes())

    def _sample(self) -> None:
        while not self._done.wait(self._every_s):
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes())
