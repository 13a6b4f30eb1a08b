"""The command line of the golden check."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks.golden
from benchmarks.golden import record
from benchmarks.golden.check import DRAWS, FILE, answered, compare, part_of
from benchmarks.golden.small import PARTS
from benchmarks.harness.options import in_one_sentence, out_folder


def main() -> None:
    """Ask, then compare with the file or write it."""
    options = _options()
    data = None if options.data is None else options.data.resolve()
    if data is None:
        print(f"{DRAWS}: left out, since neither --data nor GPUBRANCHES_EVAL_DATA names the data", file=sys.stderr)
    with in_one_sentence():
        answers = answered(options.parts, data, options.dump)
    if options.write:
        _write(answers, options.parts)
        return
    found = compare(answers, options.parts)
    for line in found:
        print(line)
    print(f"{len(answers.entries):,} answers, {len(found):,} differ.")
    sys.exit(1 if found else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.golden",
        description=benchmarks.golden.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("GPUBRANCHES_EVAL_DATA") or None)
    parser.add_argument("--parts", default=None, help=f"a comma list of {', '.join([*PARTS, DRAWS])}; default: all")
    parser.add_argument("--write", action="store_true", help="replace the answers of these parts in the file")
    parser.add_argument("--dump", type=out_folder, help="write every answer as a text file into this folder")
    options = parser.parse_args()
    if options.data is not None and not (options.data / "text").is_dir():
        parser.error(f"data: expected the folder of the evaluation's data, with a folder text, got {options.data}")
    every = [*PARTS, *([DRAWS] if options.data is not None else [])]
    options.parts = every if options.parts is None else options.parts.split(",")
    unknown = [name for name in options.parts if name not in every]
    if unknown:
        parser.error(f"parts: expected some of {', '.join(every)} ({DRAWS} with --data), got {', '.join(unknown)}")
    return options


def _write(answers: record.Answers, parts: Sequence[str]) -> None:
    """Write the file again. Answers of other parts stay if they are from this environment."""
    kept = record.read(FILE) if FILE.exists() else {"answers": {}, "environment": {}}
    others = {name: entry for name, entry in kept["answers"].items() if part_of(name) not in parts}
    if others and (changes := record.changes_of_environment(kept["environment"])):
        left = ", ".join(sorted({part_of(name) for name in others}))
        print(f"Error: expected all parts to be written, since {changes[0]}; ask for {left}, too", file=sys.stderr)
        sys.exit(2)
    record.write(FILE, {**others, **answers.entries}, "python -m benchmarks.golden --write")
    print(f"{len(answers.entries):,} answers written to {FILE}.")


if __name__ == "__main__":
    main()
