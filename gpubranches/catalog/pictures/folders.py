"""The search of a folder for pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpubranches.catalog.pictures.formats import ENDINGS, ending_of, is_picture, undecodable
from gpubranches.errors import DataError

_OF_SYSTEMS = ("@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx")
"""Folders, in lower case, that systems and not users fill: thumbnails of a NAS, deleted files, halves of Mac files."""
_SHOWN = 5
"""Endings of skipped files that are counted separately."""


@dataclass
class FoundPictures:
    """The pictures under a folder.

    pictures: pairs (name, target), ascending; name is a relative POSIX path, target the path of the file itself if a
    link leads to it, else "". others: the same of files with other endings that were asked for. other_files: number of
    all further files, by ending; lacking: of pictures whose
    format needs a package that is missing, by ending. broken_links: links that lead to no file. excluded: folders that
    `exclude` excluded; of_systems: folders such as "@eaDir", which systems fill.
    """

    pictures: list[tuple[str, str]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    other_files: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)
    broken_links: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    of_systems: list[str] = field(default_factory=list)

    def add(self, name: str, target: str, also: Collection[str], unnamed: bool = False) -> None:
        """Add a file. also: other endings that are requested; unnamed: whether it is a picture without an ending."""
        if not (name.lower().endswith(ENDINGS) or unnamed) and ending_of(name) not in also:
            self.other_files[ending_of(name) or "without ending"] += 1
        elif undecodable([ending_of(name)]):
            self.lacking[ending_of(name)] += 1
        else:
            (self.others if ending_of(name) in also else self.pictures).append((name, target))

    def skipped(self, files: Counter[str] | None = None) -> list[str]:
        """Return one phrase for each kind of skipped files. files: their number by ending, `other_files` by default."""
        counts = self.other_files if files is None else files
        phrases = [by_ending(counts)] if counts else []
        packages = undecodable(self.lacking)
        for package in sorted(set(packages.values())):
            own = Counter({ending: n for ending, n in self.lacking.items() if packages[ending] == package})
            phrases.append(
                f"{by_ending(own)}, which need {package}: pip install 'gpubranches[formats]', then add them by "
                "append --new"
            )
        if self.broken_links:
            phrases.append(f"{len(self.broken_links):,} links that lead to no file, such as {self.broken_links[0]}")
        if self.excluded:
            phrases.append(f"{len(self.excluded):,} folders that are catalogs, such as {self.excluded[0]}")
        if self.of_systems:
            phrases.append(f"{len(self.of_systems):,} folders of the system, such as {self.of_systems[0]}")
        return phrases


def is_hidden(name: str) -> bool:
    """Return whether a relative path leads to a hidden file, or through a hidden folder or one that systems fill."""
    *folders, last = [part for part in name.split("/") if part not in ("", ".", "..")] or [""]
    return last.startswith(".") or any(each.startswith(".") or each.lower() in _OF_SYSTEMS for each in folders)


def by_ending(counts: Counter[str]) -> str:
    """Return how many files there are, in all and by ending, such as "9 files: 5 .txt, 4 .mov"."""
    total, common = counts.total(), counts.most_common(_SHOWN)
    rest = total - sum(count for _, count in common)
    parts = [f"{count:,} {ending}" for ending, count in common] + ([f"{rest:,} others"] if rest else [])
    return f"{total:,} {'file' if total == 1 else 'files'}: {', '.join(parts)}"


def find_pictures(
    folder: Path, exclude: Callable[[Path], bool] = lambda path: False, also: Collection[str] = ()
) -> FoundPictures:
    """Return the pictures under a folder at any depth. Raises DataError for an unreadable folder.

    also: other endings whose files are listed as `others`. A picture is known by the ending of its name; a file without
    an ending by its first bytes. Hidden files and folders are skipped, folders that systems fill, and folders for which
    `exclude` returns True.
    Links to folders are followed; each folder is searched once, and parents of `folder` never.
    """
    found, wanted = FoundPictures(), frozenset(also)
    root = os.path.realpath(folder)
    seen, linked = {root}, [(root, "")]
    while linked:
        place, prefix = linked.pop(0)
        further = sorted(
            _walk(place, prefix, place != os.path.join(root, prefix).rstrip("/"), found, seen, exclude, wanted)
        )
        for name, target in further:
            if target not in seen and not f"{root}/".startswith(f"{target.rstrip('/')}/"):
                seen.add(target)
                linked.append((target, f"{name}/"))
    found.pictures.sort()
    found.others.sort()
    return found


def _walk(
    place: str,
    prefix: str,
    by_link: bool,
    found: FoundPictures,
    seen: set[str],
    exclude: Callable[[Path], bool],
    also: Collection[str],
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
            if entry.name.lower() in _OF_SYSTEMS:
                found.of_systems.append(name)
            elif exclude(Path(entry.path)):
                found.excluded.append(name)
            elif entry.is_symlink():
                yield name, target
            elif target not in seen:
                seen.add(target)
                yield from _walk(entry.path, f"{name}/", by_link, found, seen, exclude, also)
        elif not os.path.isfile(entry.path):  # a link to itself or to nothing, a pipe
            found.broken_links.append(name)
        else:
            target = os.path.realpath(entry.path) if entry.is_symlink() else entry.path if by_link else ""
            found.add(name, target, also, not ending_of(entry.name) and is_picture(entry.path))
