"""Measure the cost of large answers: a find all by votes alone, and find alls with the second stage.

    python -m benchmarks.cost --out benchmarks/results/cost.md

100 million codes take 4 GB of disk, as much free memory to cache the codes, and some minutes to make them.
`benchmarks.harness.synthetic_catalogs` makes the catalogs, in a folder that is deleted unless --data keeps it: 40 bytes
per item for votes, 180 for the second stage with 64 dims. An idea is a share of the catalog, with 20 items marked right
and 20 marked wrong. It is treated as broad or as narrow regardless of the marks, so that both paths are measured. For
each idea the table has the best of three warm rounds, in wall-clock seconds and in processor seconds of all threads,
the anonymous memory beyond the answer, the numbers of matches and of listed items, and F1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.machine import PeakMemory, machine_facts
from benchmarks.harness.options import finite, out_file, out_folder, whole
from benchmarks.harness.publishing import Goal, command_line, document, goals_section, publish
from benchmarks.harness.speed_table import made_catalog, work_folder
from benchmarks.harness.synthetic_catalogs import Clusters, write_catalog, write_embedded_catalog
from gpubranches import Catalog, Session, open_backend
from gpubranches.research.tables import markdown_table
from gpubranches.retrieval import refine
from gpubranches.retrieval.breadth import Breadth, judge
from gpubranches.retrieval.scoring import View
from gpubranches.retrieval.training_data import TrainingData

_ROUNDS = 4
_MARKS = 20
_RARE = 0.001
_NAMES = {"votes": "by votes alone", "broad": "an idea treated as broad", "narrow": "an idea treated as narrow"}
_SECONDS = {"votes": 3.0, "broad": 1.5, "narrow": 1.5}
_HEADER = ("answer", "items", "seconds", "of processor", "beyond the answer", "match", "listed", "F1")


def by_share(owners: NDArray[np.int16], share: float) -> NDArray[np.bool_]:
    """Return the items of an idea, (n,) bool: the cluster, or the largest groups, that contain about this share."""
    clusters = np.bincount(owners, minlength=1000) / len(owners)
    if share < clusters.max():
        nearest: NDArray[np.bool_] = owners == int(np.abs(clusters - share).argmin())
        return nearest
    groups = clusters.reshape(100, 10).sum(axis=1)
    largest = np.argsort(-groups)
    chosen = largest[: int(np.searchsorted(np.cumsum(groups[largest]), share)) + 1]
    return np.isin(owners // 10, chosen)


def measure(catalog: Catalog, wanted: NDArray[np.bool_], *, second_stage: bool) -> dict[str, Any]:
    """Mark some items and find all again and again; the first round warms up."""
    rng = np.random.default_rng(0)
    taken, busy, memory = [], [], []
    with open_backend("cpu", catalog) as backend:
        session = Session(backend.catalog, backend)
        for label, held in ((+1, wanted), (-1, ~wanted)):
            session.mark(rng.choice(np.flatnonzero(held), _MARKS, replace=False), label)
        for _ in range(_ROUNDS):
            with PeakMemory() as used:
                start, start_busy = time.perf_counter(), time.process_time()
                ranking = session.refine(second_stage=second_stage)
                taken.append(time.perf_counter() - start)
                busy.append(time.process_time() - start_busy)
            memory.append(used.peak_bytes - used.before_bytes)
    arrays = (ranking.ids, ranking.scores, ranking.votes, ranking.matched, ranking.tiers)
    answer_bytes = sum(array.nbytes for array in arrays if array is not None)
    right = int(np.count_nonzero(wanted[ranking.ids[ranking.matched]]))
    return {
        "items": len(wanted),
        "source": ranking.source,
        "matches": ranking.total,
        "listed": len(ranking.ids),
        "candidates": ranking.candidates,
        "F1": round(2 * right / (ranking.total + int(np.count_nonzero(wanted))), 3),
        "seconds": round(min(taken[1:]), 2),
        "busy seconds": round(min(busy[1:]), 2),
        "beyond the answer, MB": max(0, round((max(memory) - answer_bytes) / 1e6)),
        "ms": {name: round(ms) for name, ms in ranking.timings_ms.items()},
    }


def main() -> None:
    """Make the catalogs, measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, n, what in (
        ("votes", 100_000_000, "codes of the find all by votes alone"),
        ("broad", 10_000_000, "items of the find all of a broad idea"),
        ("narrow", 10_000_000, "items of the find all of an idea that is taken for narrow"),
    ):
        parser.add_argument(f"--{name}", type=whole(0), default=n, help=f"{what}; 0 leaves it out")
    parser.add_argument("--share", type=finite(0), default=0.1, help="share of the catalog that such an idea holds")
    parser.add_argument("--dims", type=whole(1), default=64, help="dims of the embeddings")
    parser.add_argument("--data", type=out_folder, help="folder to keep the catalogs in, or to take them from")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    load_before, measured = os.getloadavg()[0], []
    with work_folder(options.data) as folder:
        for name, n in (("votes", options.votes), ("broad", options.broad), ("narrow", options.narrow)):
            if n:
                dims = 0 if name == "votes" else options.dims
                catalog, owners = made_catalog(folder / f"{n}-{dims}", partial(_write, n, dims))
                wanted = by_share(owners, options.share if dims else _RARE)
                refine.judge = _judge_as(broad=name == "broad")  # type: ignore
                cost = measure(catalog, wanted, second_stage=dims > 0)
                print(name, cost, file=sys.stderr, flush=True)
                measured.append((name, cost))
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine_facts(load_before).items())
    text = f"Marked {_MARKS} times right and {_MARKS} times wrong; the best of {_ROUNDS - 1} warm rounds. {facts}"
    publish(
        document(
            "What large answers cost",
            command_line("cost"),
            text,
            markdown_table(_HEADER, [_line(name, cost) for name, cost in measured]),
            goals_section(goal for name, cost in measured for goal in _goals(name, cost)),
        ),
        options.out,
    )


def _line(name: str, cost: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a measured answer, as in `_HEADER`."""
    return (
        _NAMES[name],
        f"{cost['items']:,}",
        f"{cost['seconds']:.2f} s",
        f"{cost['busy seconds']:.2f} s",
        f"{cost['beyond the answer, MB']:,} MB",
        f"{cost['matches']:,}",
        f"{cost['listed']:,}",
        f"{cost['F1']:.3f}".lstrip("0"),
    )


def _goals(name: str, cost: dict[str, Any]) -> list[Goal]:
    """Return the goals of a measured answer. They were set for two cores and the default sizes."""
    seconds, memory = _SECONDS[name], cost["beyond the answer, MB"]
    what = f"{_NAMES[name]}, {cost['items']:,} items"
    return [
        (f"{what}: under {seconds} s", f"{cost['seconds']:.2f} s", cost["seconds"] < seconds),
        (f"{what}: under 1 GB beyond the answer", f"{memory:,} MB", memory < 1000),
    ]


def _judge_as(*, broad: bool) -> Callable[[View, TrainingData], Breadth]:
    """Return `judge`, but that it takes every idea for broad, or for narrow."""

    def judged(view: View, marks: TrainingData) -> Breadth:
        return replace(judge(view, marks), log_odds=10.0 if broad else -10.0, answers=broad)

    return judged


def _write(n: int, dims: int, path: Path) -> NDArray[np.int16]:
    """Write a catalog of n items with embeddings of `dims` dims (0: codes alone); return the cluster of each id."""
    return write_embedded_catalog(path, Clusters(d=dims), n) if dims else write_catalog(path, Clusters(), n)


if __name__ == "__main__":
    main()
