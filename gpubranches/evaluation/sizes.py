"""Concepts in bands by how many items they have: what is found of few items and of many is told apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpubranches.evaluation.comparison import Comparison
from gpubranches.evaluation.tables import Section, with_error

FLOORS = (0, 34, 60, 120, 300, 1000)
"""The fewest items of each band."""


def bands(sizes: Sequence[int]) -> dict[str, list[int]]:
    """Return the places of concepts by band, smallest first, of bands that hold one or more; sizes: items of each."""
    ends = (*(floor - 1 for floor in FLOORS[1:]), None)
    named = {
        f"{low:,}+" if high is None else f"{low}-{high}" if low else f"up to {high}": (low, high)
        for low, high in zip(FLOORS, ends, strict=True)
    }
    found = {
        name: [row for row, size in enumerate(sizes) if low <= size and (high is None or size <= high)]
        for name, (low, high) in named.items()
    }
    return {name: rows for name, rows in found.items() if rows}


def by_size(found: Comparison, sizes: Sequence[int], places: Sequence[int], title: str) -> Iterator[Section]:
    """Yield a table of F1, a row for each model and place, a column for each band with its concepts in brackets.

    sizes: items of each concept; places: of the Comparison, told in the rows where there are several. Models without
    an F1 are left out. Nothing is yielded where all concepts are in one band.
    """
    parts = {f"{name} ({len(rows)})": found.take(rows) for name, rows in bands(sizes).items()}
    if len(parts) > 1:
        rows = [
            (
                model if len(places) == 1 else f"{model}, {place}",
                *(with_error(*part.mean(model, "f1", place)) for part in parts.values()),
            )
            for model in found.values
            if found.has(model, "f1")
            for place in places
        ]
        yield Section(title, ("items", *parts), rows)
