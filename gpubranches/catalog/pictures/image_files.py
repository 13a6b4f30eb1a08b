"""The picture of an item, found with its metadata and the folders that the catalog records."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gpubranches.catalog.metadata.columns import (
    IMAGE_MEMBER,
    IMAGE_OFFSET,
    IMAGE_PATH,
    IMAGE_ROW,
    IMAGE_SECONDS,
    IMAGE_SIZE,
    IMAGE_TARGET,
)
from gpubranches.catalog.pictures.frames import clock, open_frame
from gpubranches.catalog.pictures.parts import open_range, open_row
from gpubranches.core import stores
from gpubranches.core.files import unescaped_path

_MOST_SECONDS = 1e7
"""Longest time in a video that is looked for."""


@dataclass(frozen=True)
class Picture:
    """The position of a picture. path: its file; start, size: its bytes in it; row: its row in a Parquet file, or None.

    A file in a store has its address as path, a text. seconds: the time of a frame in a video, or None. name: its own
    name; for a part of a file, the name of the member. id: of the item, for a picture in a store.
    """

    path: Path | str
    name: str
    start: int | None = None
    size: int | None = None
    row: int | None = None
    seconds: float | None = None
    id: int | None = None

    @property
    def is_file(self) -> bool:
        """Whether the picture is the whole file."""
        return self.start is None and self.row is None and self.seconds is None

    def open(self) -> IO[bytes]:
        """Open the bytes of the picture. Raises OSError, DataError or StoreError if they cannot be read."""
        if self.start is not None and self.size is not None:
            return open_range(self.path, self.start, self.size)
        if self.seconds is not None:
            return open_frame(self.path, self.seconds)
        if self.row is not None:
            return open_row(self.path, self.row)
        if isinstance(self.path, str):
            return stores.open_range(self.path, 0, stores.stat(self.path).size)
        return self.path.open("rb")

    def __str__(self) -> str:
        return str(self.path) if self.is_file else f"{self.path}: {self.name}"


def picture_of(source: dict[str, Any], item: dict[str, Any]) -> Picture | None:
    """Return where an item's picture lies, or None. source, item: as for `image_file`, with the `PARTS` of the item."""
    path = image_file(source, item)
    if path is None:
        return None
    id = item.get("id") if isinstance(path, str) else None
    start, size, row = (item.get(name) for name in (IMAGE_OFFSET, IMAGE_SIZE, IMAGE_ROW))
    name = item.get(IMAGE_MEMBER)
    if _is_count(start) and _is_count(size):
        return Picture(path, str(name or start), start, size, id=id)
    if _is_count(row):
        return Picture(path, str(name or f"row {row}"), row=row, id=id)
    seconds = item.get(IMAGE_SECONDS)
    if isinstance(path, Path) and isinstance(seconds, float) and 0 <= seconds < _MOST_SECONDS:
        return Picture(path, clock(seconds), seconds=seconds)
    return Picture(path, stores.name_of(path) if isinstance(path, str) else path.name, id=id)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def image_file(source: dict[str, Any], item: dict[str, Any]) -> Path | str | None:
    """Return the file of an item's picture, or None; it may hold other pictures, too.

    For a file in a store the address is returned, without a check that it exists; None if it is not within one of
    `source["stores"]`, the addresses that the user has named.

    source: of the catalog; its `roots` name the folder of each input, and its `moved` the new places of folders. item:
    metadata with `image_path`, with `input` where there is more than one root, and with `image_target` where a link
    leads out of the root. The path is followed only inside its root; a target, and the new place of a single file, is
    the one recorded at ingest or sync, and must be that of the file itself.
    """
    target, named = item.get(IMAGE_TARGET), item.get(IMAGE_PATH)
    if isinstance(target, str):
        place = present_path(source, unescaped_path(target), item.get("id"))
        return Path(place) if os.path.realpath(place) == place and os.path.isfile(place) else None
    root = root_of(source, item)
    if not isinstance(named, str) or root is None or "\0" in named:
        return None
    if stores.is_url(present_path(source, root)):
        url = stored_address(source, item)
        return url if url and any(stores.is_within(url, each) for each in source.get("stores") or ()) else None
    inside = Path(os.path.realpath(present_path(source, root)))
    for name in dict.fromkeys((unescaped_path(named), named)):  # other programs do not escape names as this one does
        place = os.path.join(root, name)
        moved = present_path(source, place, item.get("id"))
        alone = moved != present_path(source, place)
        if not alone:
            moved = os.path.join(inside, present_path(source, name))
        path = Path(os.path.realpath(moved))  # a link to itself resolves to itself, and is no file
        if (path.is_relative_to(inside) or (alone and str(path) == moved)) and os.path.isfile(path):
            return path
    return None


def root_of(source: dict[str, Any], item: dict[str, Any]) -> str | None:
    """Return the folder or address at ingest of the input of an item's picture, or None if the catalog knows none."""
    roots = source.get("roots") or {}
    root = roots.get(item.get("input") or "") or (next(iter(roots.values())) if len(roots) == 1 else None)
    return root if isinstance(root, str) else None


def stored_address(source: dict[str, Any], item: dict[str, Any]) -> str | None:
    """Return the address of the file of an item's picture in a store, also in one that the user has not named.

    None for a picture that is in no store, and for a name that leads out of its folder. source, item: as for
    `image_file`.
    """
    root, named = root_of(source, item), item.get(IMAGE_PATH)
    if root is None or not isinstance(named, str) or not stores.is_url(present_path(source, root)):
        return None
    url = stores.joined(root, unescaped_path(named))
    now = None if url is None else present_path(source, url, item.get("id"))
    return now if stores.is_url(now) else None


def present_path(source: dict[str, Any], place: str, id: int | None = None) -> str:
    """Return the present place of a file or folder, by its absolute path at ingest and `source["moved"]`.

    A path that is already in the new folder of a move stays as it is, so that a folder can move into itself. id: of an
    item in the file, whose own moves are followed, too; None for a folder.
    """
    for step in source.get("moved") or ():
        if isinstance(step, dict):
            place = _renamed(place, step) if id is not None and step.get("from", 0) <= id < step["below"] else place
            continue
        before, after = step
        if _is_below(place, before) and not _is_below(place, after):
            place = after + place[len(before) :]
    return place


def _renamed(place: str, step: dict[str, Any]) -> str:
    """Return the new path of a file, from its own entry or from that of its folder."""
    paths: dict[str, str] = step["paths"]
    folder, name = os.path.split(place)
    if place in paths:
        return paths[place]
    return os.path.join(paths[folder], name) if folder in paths else place


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder}/")


def missing_roots(source: dict[str, Any]) -> list[str]:
    """Return the folders of a catalog's pictures that are missing; stores are not looked at."""
    places = [present_path(source, root) for root in (source.get("roots") or {}).values()]
    return [place for place in places if not stores.is_url(place) and not os.path.isdir(place)]
