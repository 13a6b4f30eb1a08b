"""Sample the memory, the file handles and the processor time of a running process, and report whether they grow."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.harness.machine import anonymous_bytes

SETTLED = 0.25
"""Share of a run after which memory and handles of a process should stay flat."""


@dataclass(frozen=True)
class Growth:
    """The median of a number over time, and its growth over the counted part, by a robust slope."""

    median: float
    grew: float
    bound: float

    @property
    def flat(self) -> bool:
        """Whether the value grew by no more than its bound."""
        return self.grew <= self.bound


def slope(times: ArrayLike, values: ArrayLike) -> float:
    """Return the median of the slopes between all pairs of points (Theil and Sen); 0 for fewer than two moments."""
    x, y = np.asarray(times, np.float64), np.asarray(values, np.float64)
    one, other = np.triu_indices(len(x), 1)
    apart = x[other] != x[one]
    return float(np.median((y[other] - y[one])[apart] / (x[other] - x[one])[apart])) if apart.any() else 0.0


def growth(times: ArrayLike, values: ArrayLike, *, least: float, share: float) -> Growth:
    """Return the growth of values after `SETTLED` of the time; the bound is `least`, or a share of the median."""
    x, y = np.asarray(times, np.float64), np.asarray(values, np.float64)
    late = x >= x[0] + SETTLED * (x[-1] - x[0])
    x, y = x[late], y[late]
    median = float(np.median(y))
    return Growth(median, slope(x, y) * float(x[-1] - x[0]), max(least, share * median))


@dataclass
class ProcessWatch:
    """Samples a process every `every_s` seconds until it is stopped or the process has ended.

    elsewhere: folders whose file handles are not counted, since each segment that is appended to an open catalog adds
    some.
    """

    pid: int
    elsewhere: Path
    every_s: float = 1.0
    times_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._ended.set()
        self._thread.join()

    def processor_share(self) -> float:
        """Return the processor time between the first and the last sample, of all threads, as a share of one core."""
        wall = self.times_s[-1] - self.times_s[0]
        return (self.processor_s[-1] - self.processor_s[0]) / wall if wall else 0.0

    def memory_growth(self) -> Growth:
        """Return the growth of anonymous memory in MB; up to 64 MB or a tenth counts as flat."""
        return growth(self.times_s, self.memory_mb, least=64.0, share=0.1)

    def handle_growth(self) -> Growth:
        """Return the growth of the number of file handles; up to 8 or a tenth counts as flat."""
        return growth(self.times_s, self.handles, least=8.0, share=0.1)

    def _run(self) -> None:
        while not self._ended.wait(self.every_s):
            try:
                memory, handles, busy = anonymous_bytes(self.pid) / (1 << 20), self._handles(), self._processor_s()
            except OSError:  # the process has ended
                return
            self.times_s.append(time.monotonic())
            self.memory_mb.append(memory)
            self.handles.append(handles)
            self.processor_s.append(busy)

    def _processor_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # in user mode and in the kernel

    def _handles(self) -> int:
        count = 0
        for entry in os.scandir(f"/proc/{self.pid}/fd"):
            try:
                count += not os.readlink(entry.path).startswith(f"{self.elsewhere}/")
            except FileNotFoundError:  # closed meanwhile
                continue
        return count
