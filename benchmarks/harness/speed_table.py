"""The table of a speed benchmark: our time and another's, with goals, measured in turns on the same threads."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.machine import machine_facts
from benchmarks.harness.options import out_folder, out_prefix, whole
from benchmarks.harness.publishing import document, write_pair
from gpubranches import Catalog
from gpubranches.research.speed.timing import in_turns
from gpubranches.research.tables import markdown_table

_ROWS_AT_ONCE = 1 << 16
HEADER = ("what", "ours", "other", "ratio", "goal", "")


@dataclass(frozen=True)
class Row:
    """One line of the table. goal: of `value`, met if value >= goal (at_least) or <= goal; None for no goal."""

    name: str
    ours: str
    other: str
    value: float
    unit: str
    goal: float | None
    at_least: bool = True

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the row in the table."""
        if self.goal is None:
            goal = verdict = ""
        else:
            goal = f"{'at least' if self.at_least else 'at most'} {self.goal:g} {self.unit}".rstrip()
            verdict = "pass" if self.met else "MISS"
        value = f"{self.value:.2f} {self.unit}".rstrip() if self.value < 100 else f"{self.value:.0f} {self.unit}"
        return (self.name, self.ours, self.other, value, goal, verdict)


class SpeedTable:
    """Measures rows and stores them. repeats: rounds after a warm-up round; threads: of the measured backends."""

    def __init__(self, folder: Path, repeats: int, threads: int):
        self.folder = folder
        self.repeats = repeats
        self.threads = threads
        self.rows: list[Row] = []

    def medians(self, *works: Callable[[], Any]) -> list[float]:
        """Return the median milliseconds of functions that are called in turns."""
        medians: list[float] = np.median(in_turns(works, self.repeats), axis=0).tolist()
        return medians

    def ratio(self, name: str, ours: Callable[[], Any], other: Callable[[], Any], goal: float) -> None:
        """Add the row of a pair: how many times faster ours is."""
        a, b = self.medians(ours, other)
        self.add(Row(name, f"{a:.1f} ms", f"{b:.1f} ms", b / a, "x", goal))

    def limit(self, name: str, ours: Callable[[], Any], goal_ms: float) -> None:
        """Add the row of one function that must not exceed a time."""
        (a,) = self.medians(ours)
        self.add(Row(name, f"{a:.1f} ms", "", a, "ms", goal_ms, at_least=False))

    def add(self, row: Row) -> None:
        """Add a row and print it."""
        self.rows.append(row)
        print(row.name, *row.cells()[1:], sep=" | ", file=sys.stderr, flush=True)

    def publish(self, title: str, command: str, load_before: float, out: Path | None) -> None:
        """Print the table with the facts of the machine, and write PREFIX.md and PREFIX.json where out names them."""
        machine = {**machine_facts(load_before), "threads": self.threads, "repeats": self.repeats}
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine.items())
        text = document(title, command, facts, markdown_table(HEADER, [row.cells() for row in self.rows]))
        print(text)
        if out is not None:
            rows = [{**asdict(row), "met": row.met} for row in self.rows]
            write_pair(out, text, {"command": command, "machine": machine, "rows": rows})


def add_speed_options(parser: argparse.ArgumentParser, *, repeats: int) -> None:
    """Add --rows, --repeats, --threads, --folder and --out; repeats: the default."""
    parser.add_argument("--rows", type=whole(1), default=10_000_000, help="items of the large catalog")
    parser.add_argument("--repeats", type=whole(1), default=repeats)
    parser.add_argument("--threads", type=whole(1), default=len(os.sched_getaffinity(0)))
    parser.add_argument("--folder", type=out_folder, help="where the catalogs are made and kept")
    parser.add_argument("--out", type=out_prefix, help="write PREFIX.md and PREFIX.json")


def made_catalog(path: Path, write: Callable[[Path], NDArray[np.int16]]) -> tuple[Catalog, NDArray[np.int16]]:
    """Open a catalog and the cluster of each id; make both first if they are not there."""
    owners = path.with_suffix(".npy")
    if not owners.exists():
        print(f"making {path.name}", file=sys.stderr, flush=True)
        np.save(owners, write(path))
    return Catalog.open(path), np.load(owners)


def columns_of(catalog: Catalog) -> NDArray[np.uint8]:
    """Return the codes of a catalog by columns, (d, n) uint8."""
    columns = np.empty((catalog.d, catalog.n), np.uint8)
    at = 0
    for segment in catalog.segments:
        for start in range(0, segment.n, _ROWS_AT_ONCE):
            rows = segment.row_codes(start, min(start + _ROWS_AT_ONCE, segment.n))
            columns[:, at : at + len(rows)] = rows.T
            at += len(rows)
    return columns


def middle_cluster(owners: NDArray[np.int16]) -> int:
    """Return a cluster of middle size; owners: (n,) the cluster of each id."""
    sizes = np.bincount(owners, minlength=1000)
    return int(np.argsort(sizes)[len(sizes) // 2])


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """Yield the given folder, or a temporary one."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="gpubranches-speed-") as made:
        yield Path(made)
