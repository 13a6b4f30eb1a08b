"""Fuzz every reader of untrusted data, and report the faults.

    python -m benchmarks.fuzz [--reader npy] [--seconds 600] [--inputs N] [--seed 0] [--engine plain] [--keep FOLDER]
        [--out FILE]

Each reader gets valid inputs with changed bits, lengths, types and parts. A reader may accept an input, or refuse it by
an error of the package in one sentence. A fault is any other exception, a status of 500, the end of the process, more
than 10 s of processor time, 60 s without an end, or more than 1 GB of memory. Readers run one after the other, each for
its seconds. `--engine atheris` (`pip install gpubranches[fuzz]`) also changes inputs that reached new lines of Python.
Failing inputs are saved in `--keep`; after a fix they belong in `tests/corpus`, which the suite tries again.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

from benchmarks.fuzz.reader import READERS
from benchmarks.fuzz.runner import Tried, corpus_inputs, fuzz
from benchmarks.harness.options import finite, out_file, out_folder, whole
from benchmarks.harness.publishing import publish
from gpubranches.research.tables import markdown_table


def report(tried: list[Tried], seed: int) -> str:
    """Return the results as Markdown."""
    rows = [
        (
            one.reader,
            f"{one.seconds:.0f}",
            f"{one.inputs:,}",
            f"{one.refused:,}",
            len(one.faults),
            len(corpus_inputs(one.reader)),
        )
        for one in tried
    ]
    table = markdown_table(("reader", "seconds", "inputs", "of them refused", "faults", "kept inputs"), rows)
    faults = [f"- {one.reader}: {fault}" for one in tried for fault in one.faults.values()]
    total = f"Seed {seed}; {sum(one.inputs for one in tried):,} inputs in all."
    return "\n".join([table, "", total, *faults])


def main() -> None:
    """Read the options, try the inputs, print the report; exit 1 if any input failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reader", choices=tuple(READERS), action="append", help="a reader to fuzz; may be repeated; all by default"
    )
    parser.add_argument("--seconds", type=finite(0, above=True), default=600.0, help="seconds for each reader")
    parser.add_argument("--inputs", type=whole(1), default=10**9, help="most inputs of each reader")
    parser.add_argument("--engine", choices=("plain", "atheris"), default="plain")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--keep", type=out_folder, help="folder for the failing inputs")
    parser.add_argument("--out", type=out_file)
    arguments = parser.parse_args()
    if arguments.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        parser.error("--engine atheris needs atheris: pip install 'gpubranches[fuzz]'")
    with tempfile.TemporaryDirectory(prefix="gpubranches-fuzz-") as folder:
        keep = arguments.keep or Path(folder)
        tried = []
        for name in arguments.reader or READERS:
            tried.append(fuzz(name, keep, arguments.engine, arguments.seed, arguments.seconds, arguments.inputs))
            print(report(tried[-1:], arguments.seed), file=sys.stderr)
    publish(report(tried, arguments.seed), arguments.out)
    sys.exit(any(one.faults for one in tried))


if __name__ == "__main__":
    main()
