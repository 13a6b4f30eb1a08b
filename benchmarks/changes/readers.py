"""Readers that send queries while a process changes the catalog, and the errors that they find."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.changes.writer import KEPT
from benchmarks.harness.synthetic_catalogs import Clusters, write_embedded_catalog
from gpubranches import Catalog, Session, open_backend
from gpubranches.core.options import RefineOptions
from gpubranches.engines import Backend
from gpubranches.service.snapshot_follower import SnapshotFollower

_D = 64
_K = 100
_MARKED = 8


@dataclass
class Report:
    """What a run found.

    returned: deleted items that were returned after the acknowledgement; broken: answers and counts of no generation;
    left: files of older generations after compacting; before, after: bytes in the folder.
    """

    returned: int = 0
    broken: int = 0
    errors: list[str] = field(default_factory=list)
    searches: int = 0
    find_alls: int = 0
    committed: int = 0
    seen: int = 0
    writing_s: float = 0.0
    left: int = 0
    rows_stored: int = 0
    n: int = 0
    before: int = 0
    after: int = 0

    @property
    def compact(self) -> bool:
        """Whether only live rows are stored, in fewer bytes than before."""
        return self.rows_stored == self.n and self.after < self.before


class Told:
    """What the writer has acknowledged: for each id the number of the acknowledgement of its deletion."""

    def __init__(self, ids: int):
        self.deleted_at = np.full(ids, np.iinfo(np.int64).max)
        self.number = 0
        self.generations: dict[int, tuple[int, int]] = {}

    def hear(self, line: str) -> None:
        """Take one line of the writer."""
        state = json.loads(line)
        self.generations[state["generation"]] = (state["n"], state["next_id"])
        self.deleted_at[state["deleted"]] = self.number + 1
        self.number += 1


class Reader(threading.Thread):
    """Searches and finds all in turns, until the writer has ended and it has done both since."""

    def __init__(self, number: int, follower: SnapshotFollower, backend: Backend, told: Told, ended: threading.Event):
        super().__init__()
        self.number, self.follower, self.backend = number, follower, backend
        self.catalog, self.told, self.ended = backend.catalog, told, ended
        self.counts: Counter[str] = Counter()
        self.seen: list[tuple[int, int, int]] = []
        self.error = ""

    def run(self) -> None:
        """Ask."""
        try:
            with Session(self.catalog, self.backend, embedder=None, seed=self.number) as session:
                marked = np.random.default_rng(self.number).permutation(KEPT)[: 2 * _MARKED]
                session.mark(marked[:_MARKED], +1)
                session.mark(marked[_MARKED:], -1)
                last = False
                while not last:
                    last = self.ended.is_set()
                    self._ask("search", session, int(marked[0]))
                    self._ask("find all", session, int(marked[0]))
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def _ask(self, what: str, session: Session, item: int) -> None:
        acknowledged = self.told.number
        with self.follower.reading():
            snapshot = self.catalog.snapshot
            if what == "search":
                ids = session.search(item, _K).ids
            else:
                ids = session.find_all(RefineOptions(random_negatives=1000)).current.ids
            self.counts["dead"] += int((snapshot.find_live(ids) < 0).sum())
        self.counts["returned"] += int((self.told.deleted_at[ids] <= acknowledged).sum())
        self.counts[what] += 1
        self.seen.append((snapshot.generation, snapshot.n, snapshot.manifest["next_id"]))


def run(path: Path, *, rows: int, appended: int, deleted: int, parts: int, pause_ms: int, readers: int) -> Report:
    """Make a catalog of `rows`, read it while it is changed, compact it, and report."""
    write_embedded_catalog(path, Clusters(d=_D), rows)
    catalog, told, ended = Catalog.open(path), Told(rows + appended), threading.Event()
    report = Report()
    command = [sys.executable, "-m", "benchmarks.changes.writer", *map(str, (path, appended, deleted, parts, pause_ms))]
    with open_backend("cpu", catalog) as backend:
        follower = SnapshotFollower(catalog)
        asking = [Reader(number, follower, backend, told, ended) for number in range(readers)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None  # nosec B101
            told.hear(writer.stdout.readline())
            for reader in asking:
                reader.start()
            began = time.perf_counter()
            for line in writer.stdout:
                told.hear(line)
        report.writing_s = time.perf_counter() - began
        ended.set()
        for reader in asking:
            reader.join()
    if writer.returncode:
        report.errors.append(f"the writer ended with {writer.returncode}")
    _judge(report, asking, told)
    _compact(report, path, catalog)
    return report


def _judge(report: Report, asking: list[Reader], told: Told) -> None:
    counts = sum((reader.counts for reader in asking), Counter[str]())
    seen = {state for reader in asking for state in reader.seen}
    report.errors += [reader.error for reader in asking if reader.error]
    report.returned = counts["returned"]
    report.broken = counts["dead"] + sum(told.generations.get(number) != (n, after) for number, n, after in seen)
    report.searches, report.find_alls = counts["search"], counts["find all"]
    report.committed, report.seen = len(told.generations) - 1, len(seen)


def _compact(report: Report, path: Path, catalog: Catalog) -> None:
    catalog.refresh()
    report.before = _bytes(path)
    catalog.compact()
    report.after, report.n = _bytes(path), catalog.n
    report.rows_stored = sum(segment.n for segment in catalog.segments)
    named = {path / "manifest.json", path / "lock", *(path / name for name in catalog.snapshot.manifest["files"])}
    named |= {segment.folder / name for segment in catalog.segments for name in segment.files}
    report.left = len({file for file in path.rglob("*") if file.is_file()} - named)


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
