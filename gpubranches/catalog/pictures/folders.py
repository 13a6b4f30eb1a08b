"""Folders of pictures: which of their files are pictures, and the path of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpubranches.catalog.pictures.decoding import ENDINGS
from gpubranches.errors import DataError

_NAMED = 5
"""How many endings of skipped files are counted one by one."""


@dataclass
class Found:
    """The pictures under a folder.

    pictures: pairs (name, target), ascending; name is a relative POSIX path, target the path of the file itself if a
    link leads to it, else "". passed_over: number of files without the ending of a picture, by ending. lost: links that
    lead to no file. inner: folders that `without` excluded.
    """

    pictures: list[tuple[str, str]] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)

    def left_out(self) -> list[str]:
        """Return one phrase for each kind of skipped file."""
        told = []
        if self.passed_over:
            common = self.passed_over.most_common(_NAMED)
            endings = [f"{ending} {count:,}" for ending, count in common]
            rest = self.passed_over.total() - sum(count for _, count in common)
            endings += [f"others {rest:,}"] if rest else []
            total = self.passed_over.total()
            told.append(f"{total:,} {'file' if total == 1 else 'files'} with other endings: {', '.join(endings)}")
        if self.lost:
            told.append(f"{len(self.lost):,} links that lead to no file, such as {self.lost[0]}")
        if self.inner:
            told.append(f"{len(self.inner):,} folders that are catalogs, such as {self.inner[0]}")
        return told


def find_pictures(folder: Path, without: Callable[[Path], bool] = lambda path: False) -> Found:
    """Return the pictures under a folder at any depth, by their endings. Raises DataError for an unreadable folder.

    Hidden files and folders are skipped, and folders for which `without` returns True. Links to folders are followed;
    each folder is searched once, and parents of `folder` never.
    """
    found = Found()
    root = os.path.realpath(folder)
    seen, linked = {root}, [(root, "")]
    while linked:
        place, prefix = linked.pop(0)
        further = sorted(_walk(place, prefix, place != os.path.join(root, prefix).rstrip("/"), found, seen, without))
        for name, target in further:
            if target not in seen and not f"{root}/".startswith(f"{target.rstrip('/')}/"):
                seen.add(target)
                linked.append((target, f"{name}/"))
    found.pictures.sort()
    return found


def _walk(
    place: str, prefix: str, by_link: bool, found: Found, seen: set[str], without: Callable[[Path], bool]
) -> Iterator[tuple[str, str]]:
    """Add the files of a folder; yield its links to folders as (name, target).

    place: the folder; prefix: the start of all names in it; by_link: whether a link led here.
    """
    try:
        entries = list(os.scandir(place))
    except OSError as error:
        raise DataError(f"{place}: cannot read the folder: {error.strerror}") from error
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)):
            target = os.path.realpath(entry.path)
            if without(Path(entry.path)):
                found.inner.append(name)
            elif entry.is_symlink():
                yield name, target
            elif target not in seen:
                seen.add(target)
                yield from _walk(entry.path, f"{name}/", by_link, found, seen, without)
        elif not os.path.isfile(entry.path):  # a link to itself or to nothing, a pipe
            found.lost.append(name)
        elif not entry.name.lower().endswith(ENDINGS):
            found.passed_over[Path(entry.name).suffix.lower() or "without ending"] += 1
        else:
            target = os.path.realpath(entry.path) if entry.is_symlink() else entry.path if by_link else ""
            found.pictures.append((name, target))
