"""Run the parts of the golden check, and compare their answers with those of the file."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import scipy.linalg  # noqa: F401 - so that its BLAS is loaded before threads are limited
from threadpoolctl import threadpool_limits

from benchmarks.golden import record
from benchmarks.golden.draws import draws
from benchmarks.golden.small import BY_TORCH, PARTS

FILE = Path(__file__).resolve().parents[1] / "results/golden.json"
DRAWS = "draws"
"""The part that needs the evaluation's data."""


def answered(parts: Sequence[str], data: Path | None = None, dump: Path | None = None) -> record.Answers:
    """Return the answers of some parts, each asked in a folder of its own. data: for the part `DRAWS`."""
    answers = record.Answers(dump)
    for name in parts:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="gpubranches-golden-") as folder, _one_thread(name in BY_TORCH):
            if data is not None and name == DRAWS:
                draws(answers, Path(folder), data)
            else:
                PARTS[name](answers, Path(folder))
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return answers


def part_of(name: str) -> str:
    """Return the part that an answer belongs to."""
    return name.split("/", 1)[0]


def compare(answers: record.Answers, parts: Sequence[str]) -> list[str]:
    """Return how the answers of some parts differ from those of the file, a line for each; print what limits this."""
    kept = record.read(FILE)
    changes = record.changes_of_environment(kept["environment"])
    if changes:
        print("The environment is not that of the file, so floats are compared by the tolerance:")
        print("\n".join(f"  {change}" for change in changes))
    before = {name: entry for name, entry in kept["answers"].items() if part_of(name) in parts}
    return list(record.differences(answers.entries, before, exact=not changes))


@contextmanager
def _one_thread(by_torch: bool) -> Iterator[None]:
    """Limit BLAS, and torch if it is used, to one thread, so that the order of sums does not depend on the cores."""
    with threadpool_limits(1):
        if not by_torch:
            yield
            return
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
