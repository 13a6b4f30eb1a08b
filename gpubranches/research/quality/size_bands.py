"""Concepts in bands by their number of items, so that small and large ones are reported apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpubranches.research.quality.comparison import Comparison
from gpubranches.research.tables import Section, with_error

FLOORS = (0, 34, 60, 120, 300, 1000)
"""The fewest items of each band."""


def band(size: int) -> str:
    """Return the name of the band of a number of items, such as 60-119."""
    place = sum(size >= floor for floor in FLOORS[1:])
    low, high = FLOORS[place], FLOORS[place + 1] - 1 if place + 1 < len(FLOORS) else None
    return f"{low:,}+" if high is None else f"{low}-{high}" if low else f"up to {high}"


def bands(sizes: Sequence[int]) -> dict[str, list[int]]:
    """Return the indices of concepts by band, smallest first, without empty bands; sizes: items of each."""
    found: dict[str, list[int]] = {}
    for size in sorted(sizes):
        found.setdefault(band(size), [])
    for row, size in enumerate(sizes):
        found[band(size)].append(row)
    return found


def by_size(found: Comparison, sizes: Sequence[int], places: Sequence[int], title: str) -> Iterator[Section]:
    """Yield a table of F1, a row for each model and place, a column for each band with its concepts in brackets.

    sizes: items of each concept; places: of the Comparison, named in the rows if there are several. Models without F1
    are left out. Nothing is yielded if all concepts are in one band.
    """
    parts = {f"{name} ({len(rows)})": found.take(rows) for name, rows in bands(sizes).items()}
    if len(parts) > 1:
        rows = [
            (
                model if len(places) == 1 else f"{model}, {place}",
                *(with_error(*part.mean(model, "f1", place)) for part in parts.values()),
            )
            for model in found.values
            for place in places
            if found.counted(model, "f1", place)
        ]
        yield Section(title, ("items", *parts), rows)
