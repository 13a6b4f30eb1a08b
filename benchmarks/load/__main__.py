"""Measure whether a server stays quick and loses nothing while many users search, mark, find all and export.

    python -m benchmarks.load --out benchmarks/results/load.md
    python -m benchmarks.load --mixed --seconds 600 --out benchmarks/results/load-mixed.md

A synthetic catalog of a million items with embeddings and bits is served by a separate process. Each of 50 users has a
session of the API and looks for the items of one cluster of the catalog. In its own thread, a user correctly marks one
of the shown items per second, searches by an item of the cluster every ten seconds, and finds all every two minutes.
The users start during the first ten seconds. Times are measured at the users, over open connections. A user that is
late does not catch up, so the table has the numbers of requests, too.

If the server refuses a request with Retry-After, the user repeats it later: a mark under the same event name, as the
page does, and other requests at their next turn. A user whose answer the server has dropped finds all again. A user who
has marked all shown items waits for the next search.

`--mixed` users also export what matches every two minutes, while another process appends 200 rows every five seconds
and deletes 100 earlier ones (`benchmarks.load.writer`). The server's anonymous memory and file handles are read every
second. They are flat if their growth over the last three quarters of the run, by the median of all slopes, is at most
64 MB or a tenth, and 8 handles or a tenth. Handles on the catalog's segments are not counted, since each append adds
some. The server's processor time shows how much of the machine it needs, even if other programs run beside it.

At the end the server gets SIGTERM while all users continue. It must finish the running requests and exit with status 0.
It is started again, and every acknowledged mark is looked up in its session.

`--careless` users mark at random: their models match half of the catalog, and their requests need more than two cores.
The server then has to refuse some find alls for now, and must not lose anything else.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.harness.machine import machine_facts
from benchmarks.harness.options import finite, out_file, whole
from benchmarks.harness.publishing import command_line, publish
from benchmarks.harness.synthetic_catalogs import Clusters, write_embedded_catalog
from benchmarks.load.report import holds, report
from benchmarks.load.server import play
from gpubranches.engines import BACKENDS


def main() -> None:
    """Make the catalog, play, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=whole(1), default=1_000_000)
    parser.add_argument("--users", type=whole(1), default=50)
    parser.add_argument("--seconds", type=finite(0, above=True), default=120.0)
    parser.add_argument("--backend", default="cpu", choices=("auto", *BACKENDS))
    parser.add_argument("--dims", type=whole(1), default=512, help="of the embeddings")
    parser.add_argument("--careless", action="store_true", help="mark at random")
    parser.add_argument("--mixed", action="store_true", help="export too, beside a process that appends and deletes")
    parser.add_argument("--out", type=out_file)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="gpubranches-load-") as folder:
        catalog = Path(folder) / "catalog"
        owners = write_embedded_catalog(catalog, Clusters(options.dims), options.n)
        found = play(
            catalog,
            owners,
            users=options.users,
            seconds=options.seconds,
            backend=options.backend,
            careless=options.careless,
            mixed=options.mixed,
        )
    machine = machine_facts(load_before)
    introduction = (
        f"{options.users} users for {options.seconds:.0f} s on {options.n:,} items of {options.dims} dims, backend "
        f"{options.backend}; server and users on {machine['cores']} cores ({machine['processor']}); load average "
        f"{machine['load_before']} before, {machine['load_after']} after; {machine['date']}."
    )
    title = "Load, with users who mark at random" if options.careless else "Load"
    publish(report(found, title, command_line("load"), introduction), options.out)
    sys.exit(not holds(found))


if __name__ == "__main__":
    main()
