"""The places of pictures that the user names for one process, and how many pictures are missing there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_TARGET
from gpubranches.catalog.pictures.formats import ending_of
from gpubranches.catalog.pictures.image_files import image_file, present_path, root_of
from gpubranches.core import stores
from gpubranches.core.files import escaped_path
from gpubranches.errors import UsageError

Place = tuple[str | None, str]
"""The input whose pictures are in another place now (None for a store in its old place), and the folder or address."""


@dataclass(frozen=True)
class MissingPictures:
    """The number of missing pictures. Of `looked_at` items, `missing` have no picture where the catalog looks.

    in_stores: the number of further items, whose pictures are in stores that were not read. complete: whether all items
    of the catalog were looked at; otherwise they are a random sample.
    """

    looked_at: int
    missing: int
    in_stores: int
    complete: bool


def place_named(source: dict[str, Any], text: str) -> Place:
    """Return what a text `ROOT` or `INPUT=ROOT` means. source: of the catalog.

    Raises UsageError if there is no such folder, for an unknown scheme, and if INPUT is needed or unknown.
    """
    roots = source.get("roots") or {}
    name, separator, place = text.partition("=")
    if not (separator and name in roots):
        name, place = "", text
    place = str(stores.without_file_scheme(place))
    if stores.is_url(place):
        place = stores.checked_url(place)
        single_file = stores.folder_of(place) if ending_of(stores.name_of(place)) else place
        if not name and {place, single_file} & {present_path(source, root) for root in roots.values()}:
            return None, place
    elif not os.path.isdir(place):
        raise UsageError(f"--pictures: expected the folder of the pictures, found none at {escaped_path(place)}")
    else:
        place = os.path.realpath(place)
    if name or len(roots) <= 1:
        return name or next(iter(roots), ""), place
    names = ", ".join(f"{escaped_path(each)}={escaped_path(text)}" for each in roots)
    raise UsageError(f"--pictures: expected the input whose pictures are there, one of {names}")


def picture_source(source: dict[str, Any], named: Sequence[Place]) -> dict[str, Any]:
    """Return the source of a catalog with the places that the user has named, and no other stores."""
    roots, moved = dict(source.get("roots") or {}), list(source.get("moved") or ())
    for name, place in named:
        if name is not None and name in roots:
            moved.append([present_path(source, roots[name]), place])
        elif name is not None:
            roots[name] = place
    opened = [place for _, place in named if stores.is_url(place)]
    return {**source, "roots": roots, "moved": moved, "stores": opened}


def unread_stores(source: dict[str, Any]) -> list[str]:
    """Return the stores of a catalog's pictures that the user has not named. source: of `picture_source`."""
    places = [present_path(source, root) for root in (source.get("roots") or {}).values()]
    opened = source.get("stores") or ()
    return [
        place
        for place in places
        if stores.is_url(place)
        and not any(stores.is_within(each, place) or stores.is_within(place, each) for each in opened)
    ]


def missing_pictures(
    source: dict[str, Any], items: Iterable[dict[str, Any]], is_stored: Callable[[str], bool] | None
) -> Iterator[tuple[bool, bool]]:
    """Yield for each item with the name of a picture whether the picture is missing, and whether it was looked for.

    source: of `picture_source`; items: metadata as for `image_file`; is_stored: returns whether an address has a file;
    None: stores are not read.
    """
    for item in items:
        if not (isinstance(item.get(IMAGE_PATH), str) or isinstance(item.get(IMAGE_TARGET), str)):
            continue
        file = image_file(source, item)
        far = isinstance(file, str) or stores.is_url(present_path(source, root_of(source, item) or ""))
        if not far:
            yield file is None, True
        elif isinstance(file, str) and is_stored is not None:
            yield not is_stored(file), True
        else:
            yield False, False
