"""What the page shows for a list of items: tiles, headings, notes and the tabs of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.app.app_context import remote_pictures, service
from gpubranches.app.language import texts
from gpubranches.catalog.pictures.decoding import MAX_SIDE, upright_size
from gpubranches.catalog.pictures.frames import clock
from gpubranches.catalog.pictures.image_files import Picture as StoredPicture
from gpubranches.errors import DataError
from gpubranches.retrieval.queries import Item, Picture, Words, WrittenTerm, written_terms
from gpubranches.service.originals import https_address
from gpubranches.service.thumbnails import version
from gpubranches.service.types import SessionState
from gpubranches.service.wording import caption

_LETTERS = 500
"""Letters of a caption in the grid; the details of an item show all of it."""


@dataclass(frozen=True)
class Tile:
    """One item of the grid.

    mark: +1, -1 or 0; figure: its distance or score; picture: the version of its picture, "" if it has none; ratio: the
    picture's width by its height; remote: the address of a picture on another site, if this is allowed and this machine
    has no picture; source: the address in its metadata; "" for none. time: that of a frame in its video, "" for others.
    """

    id: int
    caption: str
    mark: int
    figure: str
    picture: str
    ratio: float = 1.0
    remote: str = ""
    source: str = ""
    time: str = ""


@dataclass(frozen=True)
class Chip:
    """One term of a query, for display.

    sign: "+" or "-"; label: as the user wrote it; others: the query without it, "" if nothing remains; item: its id,
    with the version of its picture, "" for none; sent: the name of an uploaded picture.
    """

    sign: str
    label: str
    others: str = ""
    item: int | None = None
    picture: str = ""
    sent: str = ""


@dataclass(frozen=True)
class Listing:
    """A list of an answer: its part ("" for none), whether it hides marked items, and whether it starts at the cut."""

    part: str = ""
    unmarked: bool = False
    least_sure_first: bool = False

    def query(self) -> dict[str, str]:
        """Return the listing as the values of an address; empty ones are its defaults."""
        return {
            "tier": "" if self.part == "all" else self.part,
            "unmarked": "1" if self.unmarked else "",
            "order": UNSURE if self.least_sure_first else "",
        }


UNSURE = "unsure"
"""The value of `order` in an address that lists the nearest to the cut first."""


@dataclass(frozen=True)
class View:
    """One page of a list of items.

    kind: the route that made it; total: how many items the list has; address: of the list, whose pages differ by
    `offset`; offset: of this page; query: the text of the search field; origin: what to mark its items with; where:
    the filter; terms: those of the query, if there are several or pictures; listing: of an answer; again: the label
    of a button that finds all, "" for no button; step: whether it is a step towards a target of completeness; how:
    what answered a query, and took_ms its time.
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
    terms: tuple[Chip, ...] = ()
    listing: Listing = Listing()
    again: str = ""
    step: bool = False
    how: str = ""
    took_ms: float = 0.0

    @property
    def part(self) -> str:
        """The part of an answer that is listed, "" for another list."""
        return self.listing.part

    @property
    def unmarked(self) -> bool:
        """Whether only items without a mark are listed."""
        return self.listing.unmarked


NEAR_CUT = frozenset({"borderline", "below", "gone"})
"""Parts of an answer with items near the cut. Marks on these items count as marks on suggestions."""


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
    named, source = version(picture), https_address(service().catalog.picture_source, item)
    remote = source if remote_pictures() and not named else ""
    at_hand = picture is not None and named and isinstance(picture.path, Path)  # a request to a store takes too long
    ratio = _ratio(picture, named) if at_hand else _told_ratio(item)
    words = shortened(caption(texts(), item))
    time = "" if picture is None or picture.seconds is None else clock(picture.seconds)
    return Tile(int(item["id"]), words, mark, figure, named, ratio, remote, source, time)


def chips(text: str) -> tuple[Chip, ...]:
    """Return the terms of a valid query; none for a single text, which the search field shows."""
    written = written_terms(text)
    if len(written) == 1 and isinstance(written[0].term, Words):
        return ()
    items = [term.term.id for term in written if isinstance(term.term, Item)]
    known = [item for item in items if item < service().catalog.next_id]
    pictures = picture_versions(np.array(known, np.int64))
    return tuple(_chip(term, pictures) for term in written)


def _chip(written: WrittenTerm, pictures: dict[int, str]) -> Chip:
    chip = Chip(written.sign, written.text, written.others)
    if isinstance(written.term, Item):
        return replace(chip, item=written.term.id, picture=pictures.get(written.term.id, ""))
    return replace(chip, sent=written.term.name) if isinstance(written.term, Picture) else chip


def picture_versions(ids: NDArray[np.int64]) -> dict[int, str]:
    """Return the versions of items' pictures by id; items without one, and deleted ones, are left out."""
    found = {int(item["id"]): version(service().picture(item)) for item in service().live_items(ids)[1]}
    return {item: picture for item, picture in found.items() if picture}


def shortened(text: str) -> str:
    """Return a text cut to a length that fits under a picture."""
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"


def _told_ratio(item: dict[str, Any]) -> float:
    """Return width by height from the columns `width` and `height`, or 1 if they have no values."""
    width, height = item.get("width"), item.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        return 1.0
    return round(width / height, 3)


@lru_cache(1 << 17)
def _ratio(picture: StoredPicture | None, version: str) -> float:
    """Return a picture's width by its height, 1 if it cannot be read. version: of the file, for the cache."""
    try:
        width, height = upright_size(picture) if picture is not None and version else (1, 1)
    except DataError:
        return 1.0
    return round(width / max(1, height), 3)
