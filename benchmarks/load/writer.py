"""Append and delete while a server runs; `benchmarks.load` runs this in a separate process.

    python -m benchmarks.load.writer CATALOG [--rows 200] [--every 5]

At each interval one commit appends rows, copies of the catalog's first items in order, and another deletes every second
row of the previous append. SIGTERM ends the process after the present commit. It then prints its counts (rows appended,
rows deleted, commits) as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

import numpy as np

from gpubranches import Catalog


def copied_from(item: int, n: int) -> int:
    """Return the item, among the first n, of which an item is a copy; the item itself if it is among the first n."""
    return item if item < n else (item - n) % n


def write(path: Path, rows: int, every_s: float, ended: threading.Event) -> dict[str, int]:
    """Append and delete until an event; return the counts."""
    catalog = Catalog.open(path)
    first, counts = catalog.next_id, {"appended": 0, "deleted": 0, "commits": 0}
    last = np.zeros(0, np.int64)
    while not ended.wait(every_s):
        sources = (np.arange(rows) + counts["appended"]) % first
        ids = first + counts["appended"] + np.arange(rows)
        bits, scales = catalog.sign_bits(sources)
        embeddings = catalog.embeddings(sources).astype(np.float16)
        catalog.append(catalog.codes(sources), ids=ids, bits=bits, scales=scales, embeddings=embeddings.__getitem__)
        counts["appended"] += rows
        counts["deleted"] += catalog.delete(last[::2]) if len(last) else 0
        counts["commits"] += 2 if len(last) else 1
        last = ids
    return counts


def main() -> None:
    """Read the options, write until SIGTERM, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--every", type=float, default=5.0, help="seconds from one commit to the next")
    arguments = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    print("begun", flush=True)
    print(json.dumps(write(arguments.catalog, arguments.rows, arguments.every, ended)), flush=True)


if __name__ == "__main__":
    main()
