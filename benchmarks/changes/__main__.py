"""Append and delete while 20 readers search and find all, and check that each sees whole generations.

    python -m benchmarks.changes --out benchmarks/results/changes.md

A separate process appends a million rows in parts and deletes 10,000 items, some after each part; it acknowledges every
commit. Readers are threads with sessions, as in a server: each query reads the newest generation. An answer is wrong if
it has an item whose deletion was acknowledged before the query began. A generation is broken if its number of items is
not what the writer committed, or if an answer has an item that this generation does not have. At the end the catalog is
compacted. Its folder must then have no file of an older generation, and no row that was deleted. The run fails unless
all of this holds.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.changes.readers import Report, run
from benchmarks.harness.machine import machine_facts
from benchmarks.harness.options import out_file, out_folder, whole
from benchmarks.harness.publishing import Goal, command_line, document, goals_section, publish
from benchmarks.harness.speed_table import work_folder
from gpubranches.research.tables import Section

_MIB = 1 << 20


def goals(report: Report) -> list[Goal]:
    """Return what must hold."""
    return [
        ("no answer has an item whose deletion was acknowledged", f"{report.returned:,}", report.returned == 0),
        ("no reader sees a part of a generation", f"{report.broken:,}", report.broken == 0),
        ("no question fails", f"{len(report.errors):,}", not report.errors),
        ("after compacting, no file of an older generation is left", f"{report.left:,} files", report.left == 0),
        ("after compacting, only live rows are stored", f"{report.rows_stored - report.n:,} more", report.compact),
    ]


def main() -> None:
    """Read the options, run, print and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.changes", description=__doc__)
    parser.add_argument("--rows", type=whole(2000), default=500_000, help="rows at the start")
    parser.add_argument("--appended", type=whole(1), default=1_000_000)
    parser.add_argument("--deleted", type=whole(1), default=10_000)
    parser.add_argument("--parts", type=whole(1), default=20, help="appends, and deletions")
    parser.add_argument("--pause-ms", type=whole(0), default=500, help="the writer waits so long after each commit")
    parser.add_argument("--readers", type=whole(1), default=20)
    parser.add_argument("--folder", type=out_folder, help="where the catalog is made")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with work_folder(options.folder) as folder:
        report = run(
            Path(folder) / "changing",
            rows=options.rows,
            appended=options.appended,
            deleted=options.deleted,
            parts=options.parts,
            pause_ms=options.pause_ms,
            readers=options.readers,
        )
    counts = [
        ("searches", f"{report.searches:,}"),
        ("find alls", f"{report.find_alls:,}"),
        ("generations that the writer committed", f"{report.committed:,}"),
        ("generations that readers saw", f"{report.seen:,}"),
        ("the writer took", f"{report.writing_s:.1f} s"),
        ("bytes before compacting, and after", f"{report.before / _MIB:,.1f} MiB, {report.after / _MIB:,.1f} MiB"),
    ]
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in machine_facts(load_before).items())
    text = document("Appends and deletions while readers ask", command_line("changes"), facts)
    sections = [goals_section(goals(report)), Section("Counts", ("what", "number"), counts).markdown()]
    publish("\n\n".join([text, *sections]), options.out)
    if not all(held for _, _, held in goals(report)):
        sys.exit(f"expected all goals to be reached; errors: {report.errors[:3]}")


if __name__ == "__main__":
    main()
