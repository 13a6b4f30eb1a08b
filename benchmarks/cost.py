"""What large answers cost: a find all by votes alone over N codes, and one of the second stage for a broad idea.

    python -m benchmarks.cost [--votes 10000000] [--broad 10000000] [--data FOLDER] [--as-broad]

The catalogs are made by `synthetic`, in a folder that is deleted unless --data keeps it: 40 bytes an item for votes,
180 for the broad idea, whose embeddings have 64 dims. Printed are the median time of the warm rounds, the anonymous
memory above what the answer's ids, scores and votes take, how many items match and how many are listed. --as-broad
takes the idea for broad whatever the marks say, so that this path is measured, too. 0 leaves a part out.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import Clusters, write_catalog, write_embedded_catalog
from gpubranches import Catalog, Session, open_backend
from gpubranches.refine import refining
from gpubranches.refine.breadth import judge

_ROUNDS = 4
_MARKS = 20
_RARE, _BROAD = 0.001, 0.1
_D = 64


class Memory:
    """Anonymous memory of this process while a block runs: `most_bytes` above what it was before."""

    def __enter__(self) -> Memory:
        self._before = self._most = _anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.most_bytes = self._most - self._before

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._most = max(self._most, _anonymous_bytes())


def by_share(owners: NDArray[np.int16], share: float) -> NDArray[np.bool_]:
    """Return the items of an idea, (n,) bool: of the cluster, or of the largest groups, that hold about this share."""
    clusters = np.bincount(owners, minlength=1000) / len(owners)
    if share < clusters.max():
        return owners == int(np.abs(clusters - share).argmin())
    groups = clusters.reshape(100, 10).sum(axis=1)
    largest = np.argsort(-groups)
    chosen = largest[: int(np.searchsorted(np.cumsum(groups[largest]), share)) + 1]
    return np.isin(owners // 10, chosen)


def measure(path: Path, wanted: NDArray[np.bool_], *, second_stage: bool) -> dict[str, Any]:
    """Mark some items and find all again and again; the first round warms up."""
    rng = np.random.default_rng(0)
    taken, memory = [], []
    with open_backend("cpu", Catalog.open(path)) as backend:
        session = Session(backend.catalog, backend)
        for label, held in ((+1, wanted), (-1, ~wanted)):
            session.mark(rng.choice(np.flatnonzero(held), _MARKS, replace=False), label)
        for _ in range(_ROUNDS):
            session.forget()
            with Memory() as used:
                start = time.perf_counter()
                ranking = session.refine(second_stage=second_stage)
                taken.append(time.perf_counter() - start)
            memory.append(used.most_bytes)
    arrays = (ranking.ids, ranking.scores, ranking.votes)
    answer_bytes = sum(array.nbytes for array in arrays if array is not None)
    return {
        "items": len(wanted),
        "source": ranking.source,
        "matches": ranking.total,
        "listed": len(ranking.ids),
        "candidates": ranking.candidates,
        "seconds": round(float(np.median(taken[1:])), 2),
        "beyond the answer, MB": max(0, round((max(memory) - answer_bytes) / 1e6)),
        "ms": {name: round(ms) for name, ms in ranking.timings_ms.items()},
    }


def main() -> None:
    """Make the catalogs, measure, print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--votes", type=int, default=10_000_000, help="codes of the find all by votes alone")
    parser.add_argument("--broad", type=int, default=10_000_000, help="items of the broad find all")
    parser.add_argument("--data", type=Path, help="folder to keep the catalogs in, or to take them from")
    parser.add_argument("--as-broad", action="store_true", help="take the idea for broad whatever the marks say")
    options = parser.parse_args()
    if options.as_broad:
        refining.judge = lambda view, marks: replace(judge(view, marks), log_odds=10.0, answers=True)
    with tempfile.TemporaryDirectory(prefix="gpubranches-cost-") as made:
        folder = options.data or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for name, n in (("votes", options.votes), ("broad", options.broad)):
            path, broad = folder / f"{name}-{n}", name == "broad"
            if n and not path.exists():
                owners = (
                    write_embedded_catalog(path, Clusters(d=_D), n) if broad else write_catalog(path, Clusters(), n)
                )
                np.save(folder / f"{name}-{n}.npy", owners)
            if n:
                wanted = by_share(np.load(folder / f"{name}-{n}.npy"), _BROAD if broad else _RARE)
                print(name, measure(path, wanted, second_stage=broad), flush=True)


def _anonymous_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


if __name__ == "__main__":
    main()
