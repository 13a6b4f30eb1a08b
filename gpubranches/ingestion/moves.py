"""The moves of single files that a catalog records, with as few entries as possible."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from gpubranches.catalog.pictures.image_files import present_path
from gpubranches.ingestion.records import IngestHistory

Moves = Mapping[tuple[int, str], str]
"""New paths of files, by the id of the first item and the present path."""


def with_moves(history: IngestHistory, moved: Moves) -> list[Any]:
    """Return `source["moved"]` of a catalog with further moves of files.

    Moves of whole folders stay. All moves of single files become one entry; ids are divided among several entries only
    where files of equal paths moved to different ones. So the size depends on how many files are not where they were
    ingested, and not on how often they moved.
    """
    catalog = history.catalog
    source = catalog.source
    before = source.get("moved", [])
    if any(not record["listing"] for record in source["inputs"]):  # only the old entries have the moves of these files
        paths = {old: new for (_, old), new in moved.items()}
        return [*before, {"below": catalog.next_id, "paths": _by_folder(paths)}]
    folders = {"moved": [step for step in before if not isinstance(step, dict)]}
    present = (
        (past.first_id, present_path(folders, place), moved.get((past.first_id, file.path), file.path))
        for record in history.records
        for past in record.pieces
        if past.taken and not history.is_removed(past)
        for place, file in zip(past.places, past.files, strict=True)
    )
    return [*folders["moved"], *_entries(present, catalog.next_id)]


def _entries(files: Iterable[tuple[int, str, str]], below: int) -> list[dict[str, Any]]:
    """Return entries for files (id, old path, new path) in ascending order of ids; below: the id after the last."""
    entries: list[tuple[int, dict[str, str]]] = [(0, {})]
    for id, old, new in files:
        if entries[-1][1].setdefault(old, new) != new:
            entries.append((id, {old: new}))
    ends = [*(first for first, _ in entries[1:]), below]
    found = [
        {**({"from": first} if first else {}), "below": end, "paths": _by_folder(paths)}
        for (first, paths), end in zip(entries, ends, strict=True)
    ]
    return [entry for entry in found if entry["paths"]]


def _by_folder(paths: Mapping[str, str]) -> dict[str, str]:
    """Return moves of files with one entry for the files of a folder that kept their names and are in another one.

    A file has its own entry if it is in another place than most files of its folder.
    """
    targets: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for old, new in paths.items():
        kept_name = os.path.basename(old) == os.path.basename(new)
        targets[os.path.dirname(old)][os.path.dirname(new) if kept_name else ""] += 1
    folders = {folder: found.most_common(1)[0][0] or folder for folder, found in targets.items()}
    alone = {
        old: new
        for old, new in paths.items()
        if new != os.path.join(folders[os.path.dirname(old)], os.path.basename(old))
    }
    return {old: new for old, new in folders.items() if old != new} | alone
