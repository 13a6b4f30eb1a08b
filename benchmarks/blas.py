"""Measure the cost of BLAS threads in a find all: with one thread, by default, and with as many as BLAS takes.

    python -m benchmarks.blas [--n 1000000] [--dims 512] [--rounds 8] [--busy 0] [--data FOLDER]

The catalog is that of `benchmarks.harness.synthetic_catalogs`. Three sessions with 4, 8 and 15 items marked right, and
as many wrong, find all in turn, on one thread in even rounds and on all in odd ones. The program prints the medians of
a find all in seconds, and in seconds of processor time of all threads. --busy: the number of processes that compute at
the same time, as on a busy server.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.harness.options import out_folder, whole
from benchmarks.harness.speed_table import made_catalog, middle_cluster, work_folder
from benchmarks.harness.synthetic_catalogs import Clusters, write_embedded_catalog
from gpubranches import Catalog, Session, open_backend
from gpubranches.core.threads import one_thread
from gpubranches.research.tables import Section
from gpubranches.service import session as session_module

_MARKED = (4, 8, 15)
THREADS = {"one": one_thread, "all": nullcontext}


def measure(catalog: Catalog, owners: np.ndarray, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds, and the seconds of processor time, of a find all in each round, by the threads of BLAS."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in THREADS}
    right = np.flatnonzero(owners == middle_cluster(owners))
    wrong = np.flatnonzero(owners != middle_cluster(owners))
    with open_backend("cpu", catalog) as backend:
        sessions = [Session(catalog, backend) for _ in _MARKED]
        for session, count in zip(sessions, _MARKED, strict=True):
            session.mark(right[:count], +1)
            session.mark(wrong[:count], -1)
            session.find_all()
        for turn in range(2 * rounds):
            name = list(THREADS)[turn % 2]
            with patch.object(session_module, "one_thread", THREADS[name]):
                began, busy = time.perf_counter(), time.process_time()
                for session in sessions:
                    session.find_all()
                each = len(sessions)
                taken[name].append(((time.perf_counter() - began) / each, (time.process_time() - busy) / each))
    return taken


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Let a number of processes compute within the block."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def main() -> None:
    """Make the catalog, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=whole(1), default=1_000_000)
    parser.add_argument("--dims", type=whole(1), default=512, help="of the embeddings")
    parser.add_argument("--rounds", type=whole(1), default=8)
    parser.add_argument("--busy", type=whole(0), default=0, help="processes that compute beside it")
    parser.add_argument("--data", type=out_folder, help="keep the catalog here")
    options = parser.parse_args()
    with work_folder(options.data) as folder:

        def write(path: Path) -> np.ndarray:
            return write_embedded_catalog(path, Clusters(options.dims), options.n)

        catalog, owners = made_catalog(folder / f"blas-{options.n}-{options.dims}", write)
        with busy(options.busy):
            taken = measure(catalog, owners, options.rounds)
    medians = {name: np.median(times, axis=0) for name, times in taken.items()}
    rows = [(name, *(f"{value:.3f}" for value in pair)) for name, pair in medians.items()]
    rows.append(("all, of one", *(f"{ratio:.2f}" for ratio in medians["all"] / medians["one"])))
    print(Section("A find all", ("threads of BLAS", "s", "processor, s"), rows).markdown())


if __name__ == "__main__":
    main()
