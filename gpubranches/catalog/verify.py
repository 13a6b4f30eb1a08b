"""Whether every file of a catalog is what was written, and what is wrong with those that are not."""

from __future__ import annotations

from gpubranches.catalog.manifest import own_files
from gpubranches.catalog.segment import problems_of
from gpubranches.catalog.state import State


def problems(state: State) -> list[str]:
    """Check every file that a manifest names, and the files of each segment against each other; one line a problem."""
    found = problems_of(state.path, own_files(state.manifest))
    for segment in state.segments:
        found += segment.problems()
    return found
