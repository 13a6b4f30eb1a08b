"""Looking: random items, the nearest of a text or of an item."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from gpubranches.app.asking import desk, held, whole
from gpubranches.app.rendering import PAGE, address, show
from gpubranches.desk import View
from gpubranches.session import Session

if TYPE_CHECKING:
    from gpubranches.results import Neighbors

LISTED = 300
"""Nearest or random items that can be paged through; what matches is listed whole."""

routes = Blueprint("looking", __name__)


@routes.get("/")
def home() -> Response:
    """Show how to begin, over a random page."""
    return _random("home", desk().seed)


@routes.get("/random")
def random_page() -> Response:
    """Show items drawn at random from `seed`."""
    return _random("random", whole("seed", 0))


@routes.get("/search")
def search() -> Response:
    """Show the items nearest to the text `q`."""
    query = request.args.get("q", "").strip()
    with held() as session:
        return _nearest(session, lambda: session.ask(query, LISTED), f"Nearest to “{query}”", q=query)


@routes.get("/like")
def like() -> Response:
    """Show the items nearest to the item `id`."""
    item = whole("id")
    with held() as session:
        return _nearest(session, lambda: session.like(item, LISTED), f"Like item {item}", id=item)


def _nearest(session: Session, find: Callable[[], Neighbors], heading: str, **query: str | int) -> Response:
    """Show one page of what `find` returns; `query` is what leads to it again."""
    start = time.perf_counter()
    found = find()
    took_ms = (time.perf_counter() - start) * 1000
    there = found.ids[0] >= 0
    ids, distances = found.ids[0][there], found.distances[0][there]
    offset = whole("offset", 0)
    tiles = desk().tiles(session, ids[offset : offset + PAGE], [f"{x:.3g}" for x in distances[offset : offset + PAGE]])
    note = f"the {len(ids):,} nearest of {desk().catalog.n:,} · {found.source} · {took_ms:,.0f} ms"
    where = address(request.path, **query)
    if "offset" not in request.args:
        desk().book.note(session.labels.session, query=where, asked=heading)
    return show(session, View(request.path[1:], heading, note, tiles, len(ids), where, offset, str(query.get("q", ""))))


def _random(kind: str, seed: int) -> Response:
    offset = whole("offset", 0)
    with held() as session:
        ids = desk().draw(LISTED, seed)
        tiles = desk().tiles(session, ids[offset : offset + PAGE])
        where = address("/random", seed=seed)
        return show(session, View(kind, "Random items", "", tiles, len(ids), where, offset, seed=seed))
