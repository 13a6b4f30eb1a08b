"""Checks of all files of a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpubranches.catalog.listings import listing_problems
from gpubranches.catalog.manifest import listings, own_files, read_manifest
from gpubranches.catalog.segment import problems_of
from gpubranches.catalog.snapshot import Snapshot, manifest_segments
from gpubranches.errors import CatalogFormatError


def problems(path: Path, manifest: dict[str, Any]) -> list[str]:
    """Check every file of a manifest, and the files of a segment against each other; return one line per problem."""
    inputs = listings(manifest)
    others = {name: entry for name, entry in own_files(manifest).items() if name not in inputs}
    found = problems_of(path, others) + list(listing_problems(path, manifest).values())
    for segment in manifest_segments(path, manifest):
        found += segment.problems()
    return found


def problems_at(path: Path) -> list[str]:
    """Check a catalog, even if it cannot be opened; return one line per problem, each with the file.

    Raises CatalogNotFoundError.

    If a writer removes files of the checked generation meanwhile, the next generation is checked instead.
    """
    while True:
        try:
            manifest = read_manifest(path)
        except CatalogFormatError as error:
            return [str(error)]
        found = problems(path, manifest)
        if not found:
            try:
                Snapshot.open(path, manifest)
            except CatalogFormatError as error:
                found = [str(error)]
        if not found or read_manifest(path)["generation"] == manifest["generation"]:
            return found
