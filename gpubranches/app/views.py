"""What the page shows of a list of items: tiles, headings, notes and the tabs of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.app.app_context import remote_pictures, service
from gpubranches.catalog.metadata.columns import https_url_of
from gpubranches.catalog.pictures.decoding import MAX_SIDE, upright_size
from gpubranches.catalog.pictures.image_files import Picture
from gpubranches.errors import DataError
from gpubranches.service.thumbnails import version
from gpubranches.service.types import SessionState
from gpubranches.service.wording import caption

_LETTERS = 500
"""Letters of a caption in the grid; the details of an item show all of it."""


@dataclass(frozen=True)
class Tile:
    """One item of the grid.

    mark: +1, -1 or 0; figure: its distance or score; picture: the version of its picture, "" if it has none; ratio: the
    picture's width by its height; remote: the address that a browser loads the picture from, where it has none here and
    that is allowed; source: the address that it came from; "" for none.
    """

    id: int
    caption: str
    mark: int
    figure: str
    picture: str
    ratio: float = 1.0
    remote: str = ""
    source: str = ""


@dataclass(frozen=True)
class View:
    """One page of a list of items.

    kind: the route that made it; total: how many items the list has; address: of the list, whose pages differ by
    `offset`; offset: of this page; query: what the search field holds; origin: what to mark its items with; where: the
    filter; pictures: names of the uploaded ones that the query names; part: of the answer, "" for another list; again:
    the label of a button that finds all, "" for no button; how: what answered a query, and took_ms its time.
    """

    kind: str
    heading: str
    note: str = ""
    tiles: Sequence[Tile] = ()
    total: int = 0
    address: str = ""
    offset: int = 0
    query: str = ""
    seed: int = 0
    origin: str = "user"
    where: str = ""
    pictures: tuple[str, ...] = ()
    part: str = ""
    again: str = ""
    how: str = ""
    took_ms: float = 0.0


@dataclass(frozen=True)
class Tab:
    """How a part of an answer is shown: its title, the words after its count in a heading, and a note.

    near_cut: whether its items lie near the cut, so that marks on them count as on suggestions.
    """

    title: str
    heading: str
    note: str
    near_cut: bool = False


TABS = {
    "all": Tab("All", "match", ""),
    "sure": Tab("Sure", "sure", "Marked right, or right with a chance of 90% or more each."),
    "likely": Tab("Likely", "likely", "Right with a chance of 50% to 90% each."),
    "borderline": Tab(
        "Borderline", "borderline", "Right with a chance of less than 50% each, or marked wrong since.", True
    ),
    "below": Tab("Just below", "just below", "They do not match, but nearly do. Mark what is right among them.", True),
    "new": Tab("New", "new", "They match now and did not in the round before."),
    "gone": Tab("Gone", "gone", "They matched in the round before and do not now.", True),
}
"""By the names of `answer.PARTS`."""


def tiles(state: SessionState, ids: NDArray[np.int64], figures: Sequence[str] | None = None) -> list[Tile]:
    """Return the tiles of items with the session's marks; deleted items are left out."""
    rows, items = service().live_items(ids)
    return [
        tile(item, state.marks.get(int(item["id"]), 0), "" if figures is None else figures[row])
        for row, item in zip(rows.tolist(), items, strict=True)
    ]


def tile(item: dict[str, Any], mark: int, figure: str) -> Tile:
    """Return the tile of an item, given by its columns."""
    picture = service().picture(item)
    named, source = version(picture), https_url_of(item) or ""
    remote = source if remote_pictures() and not named else ""
    ratio = _ratio(picture, named) if named else _told_ratio(item)
    return Tile(int(item["id"]), shortened(caption(item)), mark, figure, named, ratio, remote, source)


def picture_versions(ids: NDArray[np.int64]) -> dict[int, str]:
    """Return the versions of items' pictures by id; items without one, and deleted ones, are left out."""
    found = {int(item["id"]): version(service().picture(item)) for item in service().live_items(ids)[1]}
    return {item: picture for item, picture in found.items() if picture}


def shortened(text: str) -> str:
    """Return a text cut to a length that fits under a picture."""
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"


def _told_ratio(item: dict[str, Any]) -> float:
    """Return width by height as the columns `width` and `height` tell them, 1 where they do not."""
    width, height = item.get("width"), item.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return 1.0
    return round(width / height, 3)


@lru_cache(1 << 17)
def _ratio(picture: Picture | None, version: str) -> float:
    """Return a picture's width by its height, 1 if it cannot be read. version: of the file, for the cache."""
    try:
        width, height = upright_size(picture) if picture is not None and version else (1, 1)
    except DataError:
        return 1.0
    return round(width / max(1, height), 3)
