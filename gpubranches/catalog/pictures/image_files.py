"""The file of an item's picture, by its metadata and the folders that the catalog records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_TARGET
from gpubranches.core.files import unescaped_path


def image_file(source: dict[str, Any], item: dict[str, Any]) -> Path | None:
    """Return the file of an item's picture, or None.

    source: of the catalog; its `roots` name the folder of each input, and its `moved` the new places of folders. item:
    metadata with `image_path`, with `input` where there is more than one root, and with `image_target` where a link
    leads out of the root. The path is followed only inside its root; a target is the one recorded at ingest.
    """
    target, named = item.get(IMAGE_TARGET), item.get(IMAGE_PATH)
    if isinstance(target, str):
        place = present_path(source, unescaped_path(target))
        return Path(place) if os.path.realpath(place) == place and os.path.isfile(place) else None
    roots = source.get("roots") or {}
    root = roots.get(item.get("input") or "") or (next(iter(roots.values())) if len(roots) == 1 else None)
    if not isinstance(named, str) or root is None or "\0" in named:
        return None
    inside = Path(os.path.realpath(present_path(source, root)))
    for name in dict.fromkeys((unescaped_path(named), named)):  # other programs do not escape names as this one does
        path = Path(os.path.realpath(inside / present_path(source, name)))  # a link to itself stays itself: no file
        if path.is_relative_to(inside) and os.path.isfile(path):
            return path
    return None


def present_path(source: dict[str, Any], place: str) -> str:
    """Return the present place of a file or folder, by its absolute path at ingest and `source["moved"]`.

    A path that is already in the new folder of a move stays as it is, so that a folder can move into itself.
    """
    steps: Sequence[Sequence[str]] = source.get("moved") or ()
    for before, after in steps:
        if _is_below(place, before) and not _is_below(place, after):
            place = after + place[len(before) :]
    return place


def _is_below(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder}/")


def missing_roots(source: dict[str, Any]) -> list[str]:
    """Return the folders of a catalog's pictures that are missing."""
    places = [present_path(source, root) for root in (source.get("roots") or {}).values()]
    return [place for place in places if not os.path.isdir(place)]
