"""Measure a cluster of two nodes beside one process over the same rows, and kill its actors during queries.

    python -m benchmarks.actors --rows 10000000 --out benchmarks/results/actors

Both nodes are in this machine; each has one CPU and one shard. One process uses two threads. The catalog and the
queries are those of `benchmarks.scale`. The table has medians over rounds, in which both are measured in turn.

Then users send the same queries, 200 by default, and an actor is killed by SIGKILL after a third and after two thirds
of them. Every answer is compared, byte for byte, with that of one process. The run fails if one is wrong or refused.
Recovery is the longest time of a query.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness.options import whole
from benchmarks.harness.publishing import command_line
from benchmarks.harness.ray_nodes import two_nodes
from benchmarks.harness.speed_table import Row, SpeedTable, add_speed_options, work_folder
from benchmarks.scale import Question, made, questions
from gpubranches import Catalog
from gpubranches.catalog import SEGMENT_ROWS
from gpubranches.engines.cpu.backend import CpuBackend
from gpubranches.engines.sharded import ShardedBackend
from gpubranches.engines.sharded.ray_cluster import Cluster
from gpubranches.engines.sharded.ray_shards import RayShard, open_ray

_LIMIT = 1.25
_RECOVERY_LIMIT_S = 10.0


@contextmanager
def over_two_nodes(catalog: Catalog) -> Iterator[ShardedBackend]:
    """Yield a backend over two shards, each on a node of its own."""
    with two_nodes() as cluster, open_ray(catalog, Cluster(cluster.address, shards=2)) as backend:
        yield backend


def content(answer: Any) -> list[bytes]:
    """Return the bytes of all fields of an answer but `source`, which names the backend."""
    return [np.asarray(getattr(answer, each.name)).tobytes() for each in fields(answer) if each.name != "source"]


@dataclass
class Asked:
    """The results of the users: the number of answers, of wrong ones, the errors, and the longest time of a query."""

    right: dict[str, list[bytes]]
    total: int
    answers: int = 0
    wrong: int = 0
    errors: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _begun: int = 0

    def ask(self, backend: Any, asks: dict[str, Question]) -> None:
        """Ask until all users together have asked `total` questions."""
        names = list(asks)
        while True:
            with self._lock:
                if self._begun >= self.total:
                    return
                number, self._begun = self._begun, self._begun + 1
            name, began, found = names[number % len(names)], time.perf_counter(), None
            try:
                found = content(asks[name](backend))
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
            with self._lock:
                self.answers += found is not None
                self.wrong += found is not None and found != self.right[name]
                self.longest_s = max(self.longest_s, time.perf_counter() - began)
                self._lock.notify_all()

    def wait_for(self, answers: int) -> None:
        """Wait for a number of answers or errors."""
        with self._lock:
            self._lock.wait_for(lambda: self.answers + len(self.errors) >= answers)


def kill_amid(backend: ShardedBackend, asks: dict[str, Question], right: dict[str, list[bytes]], total: int) -> Asked:
    """Let four users send queries, and kill each of two actors once; return the results."""
    asked = Asked(right, total)
    users = [threading.Thread(target=asked.ask, args=(backend, asks)) for _ in range(4)]
    for user in users:
        user.start()
    for number, shard in enumerate(backend.shards):
        asked.wait_for((number + 1) * total // 3)
        assert isinstance(shard, RayShard)  # nosec B101
        os.kill(shard._process, signal.SIGKILL)
    for user in users:
        user.join()
    return asked


def measure(table: SpeedTable, catalog: Catalog, asked_in_all: int) -> Asked:
    """Add the rows of the table; return the results of the users."""
    asks = questions(catalog)
    with CpuBackend(catalog, threads=2) as whole_, over_two_nodes(catalog) as parted:
        right = {name: content(ask(whole_)) for name, ask in asks.items()}
        for name, ask in asks.items():
            own, other = table.medians(partial(ask, parted), partial(ask, whole_))
            table.add(Row(name, f"{own:.1f} ms", f"{other:.1f} ms", own / other, "x", _LIMIT, at_least=False))
        asked = kill_amid(parted, asks, right, asked_in_all)
        restarts = sum(shard.restarts for shard in parted.shards)
    table.add(Row(f"wrong answers of {asked.answers}", f"{asked.wrong}", "", asked.wrong, "", 0, at_least=False))
    table.add(Row("refused questions", f"{len(asked.errors)}", "", len(asked.errors), "", 0, at_least=False))
    table.add(Row("actors that were killed and came back", f"{restarts}", "", restarts, "", 2))
    longest = asked.longest_s
    table.add(Row("recovery", f"{longest:.1f} s", "", longest, "s", _RECOVERY_LIMIT_S, at_least=False))
    return asked


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.actors", description=__doc__)
    add_speed_options(parser, repeats=15)
    parser.add_argument("--questions", type=whole(12), default=200, help="questions while actors are killed")
    options = parser.parse_args()
    if options.rows <= SEGMENT_ROWS:
        parser.error(f"--rows: expected more than {SEGMENT_ROWS:,}, since each shard has a segment")
    load_before = os.getloadavg()[0]
    with work_folder(options.folder) as folder:
        table = SpeedTable(folder, options.repeats, options.threads)
        asked = measure(table, made(folder, options.rows), options.questions)
    table.publish("Two nodes beside one process", command_line("actors"), load_before, options.out)
    if asked.wrong or asked.errors:
        raise SystemExit(f"expected right answers alone, got {asked.wrong} wrong ones and errors {asked.errors[:3]}")


if __name__ == "__main__":
    main()
