"""The search for the folder of the pictures that metadata name in the column `image_path`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpubranches.catalog.metadata.columns import IMAGE_PATH
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.core import stores
from gpubranches.core.arrays import evenly_spaced
from gpubranches.core.files import escaped_path, unescaped_path
from gpubranches.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_SAMPLED = 1000
"""Number of rows whose pictures are looked for."""
Names = Callable[[], list[str]]
"""Function that returns all paths of pictures in one file of metadata."""
_Place = tuple[str, tuple[tuple[str, str], ...]]
"""A folder, and the moves (old, new) that lead to it."""


@dataclass(frozen=True)
class PictureRoot:
    """The folder that picture paths are relative to. moves: its new place if it moved; notes: for the user."""

    folder: str
    moves: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def named_paths(column: pa.ChunkedArray) -> list[str]:
    """Return the paths of pictures in a column of metadata of any type; values that can be none are left out."""
    from gpubranches.catalog.metadata.tables import json_values

    values = json_values(column)
    return [unescaped_path(value) for value in values if isinstance(value, str) and value and "\0" not in value]


def find_root(input: str, own: str, tables: Sequence[Names], pictures: str | Path | None) -> PictureRoot:
    """Return the folder of the pictures that files of metadata name.

    input: the input with the metadata, for messages; own: its folder, absolute; pictures: the folder that the user
    names. If `pictures` or `own` is an address, the program does not check that the pictures are there. By default the
    pictures are searched for in three places, and the place with most of them is used: relative to `own`, relative to
    the working directory, or at their absolute paths. The last two places are tried only if all names are of that kind,
    so that a few names cannot make a folder readable. Raises UsageError if `pictures` is no folder.
    """
    pictures = None if pictures is None else stores.without_file_scheme(pictures)
    named = own if pictures is None else str(pictures)
    if stores.is_url(named):
        folder = stores.checked_url(named)
        return PictureRoot(folder, notes=(f"{input}: its pictures are looked for in {folder}",))
    names = _sample(tables)
    parent = _parent(names, tables)
    places: list[_Place] = [(own, ())]
    if pictures is not None:
        if not os.path.isdir(pictures):
            raise UsageError(f"{escaped_path(str(pictures))}: expected the folder of the pictures, found none")
        there = os.path.realpath(pictures)
        gone = not any(os.path.isfile(name) for name in names)
        places = [(there, ()), *([(parent, ((parent, there),))] if gone and parent else [])]
    elif parent:
        places.append((parent, ()))
    elif all(_is_plain(name) and not os.path.isabs(name) for name in names):
        places.append((os.path.realpath(os.curdir), ()))
    counts = [sum(_is_there(*place, name) for name in names) for place in places]
    root, moves = places[int(np.argmax(counts)) if any(counts) else -1 if parent else 0]
    shown = moves[0][1] if moves else root
    notes = []
    if shown != own and any(counts):
        notes.append(f"{input}: its pictures are shown from {escaped_path(shown)}, which `{IMAGE_PATH}` names")
    lost = [name for name in names if not _is_there(root, moves, name)]
    if lost:
        notes.append(
            f"{input}: of {len(names):,} pictures searched in {escaped_path(shown)}, {len(lost):,} are "
            f"missing, such as {escaped_path(lost[0])}; name their folder by --pictures, or later by relocate"
        )
    return PictureRoot(root, moves, tuple(notes))


def _sample(tables: Sequence[Names]) -> list[str]:
    """Return names of pictures: equally many from the beginning of each file."""
    chosen = [tables[at] for at in evenly_spaced(len(tables), 20)]
    share = -(-_SAMPLED // len(chosen))
    return [name for table in chosen for name in table()[:share]]


def _parent(names: Sequence[str], tables: Sequence[Names]) -> str | None:
    """Return the common folder of all names; None if not all are absolute, or if it is the root."""
    if not all(os.path.isabs(name) and _is_plain(name) for name in names):
        return None
    whole = [name for table in tables for name in _ends(table())]
    if not whole:
        return None
    root = os.path.commonpath([os.path.dirname(os.path.normpath(name)) for name in whole])
    root = os.path.realpath(root) if os.path.isdir(root) else root
    return None if root == "/" else root


def _ends(names: Sequence[str]) -> list[str]:
    """Return the first and the last of the absolute names in order; their common folder is that of all names."""
    whole = [name for name in names if os.path.isabs(name)]
    return [min(whole), max(whole)] if whole else []


def _is_plain(name: str) -> bool:
    """Return whether a path has no "..", like the paths that the search of a folder gives."""
    return ".." not in name.split("/")


def _is_there(root: str, moves: Sequence[tuple[str, str]], name: str) -> bool:
    return image_file({"roots": {"": root}, "moved": moves}, {IMAGE_PATH: escaped_path(name)}) is not None
