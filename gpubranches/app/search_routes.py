"""Looking: random items, the nearest of a text or of an item, all of them within a filter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from gpubranches.app.rendering import PAGE, address, show
from gpubranches.app.request_values import desk, held, lists, whole
from gpubranches.errors import UsageError
from gpubranches.retrieval.queries import Item, Picture, Words, of_kind, parse
from gpubranches.service import Session
from gpubranches.service.app_context import View

if TYPE_CHECKING:
    from gpubranches.retrieval.hits import Hits

RANDOM = 300
"""Random items that can be paged through."""

routes = Blueprint("looking", __name__)


@routes.get("/")
def home() -> Response:
    """Show how to begin, over a random page within the session's filter."""
    with held() as session:
        where = str(desk().book.record(session.labels.session).settings.get("where", ""))
        try:
            return _random(session, "home", desk().seed, where)
        except UsageError as error:  # the catalog has lost a column since
            return _random(session, "home", desk().seed, "", f"The filter is taken away. {error}")


@routes.get("/random")
def random_page() -> Response:
    """Show items drawn at random from `seed`."""
    with held() as session:
        return _random(session, "random", whole("seed", 0), _where())


@routes.get("/search")
def search() -> Response:
    """Show the items nearest to what the text `q` asks for."""
    text, where = request.args.get("q", "").strip(), _where()
    query = parse(text)
    pictures = tuple(picture.name for picture in of_kind(Picture, query.terms))
    asked, heading = text, f"Nearest to “{text}”"
    if isinstance(query.single, Picture):
        asked, heading = "Your picture", "Nearest to your picture"
    if isinstance(query.single, Item):
        asked = heading = f"Like item {query.single.id}"
    with held() as session:
        view = View(
            "search", heading, address=_address(q=text), query=text, asked=asked, pictures=pictures, where=where
        )
        words = text if of_kind(Words, query.added) else None
        return _nearest(session, view, lambda k: session.search(text, k, where=where or None), words)


@routes.get("/like")
def like() -> Response:
    """Show the items nearest to the item `id`."""
    item, where = whole("id"), _where()
    with held() as session:
        asked = f"Like item {item}"
        view = View("like", asked, address=_address(id=item), query=f"#{item}", asked=asked, where=where)
        return _nearest(session, view, lambda k: session.search(item, k, where=where or None))


def _nearest(session: Session, view: View, find: Callable[[int], Hits], words: str | None = None) -> Response:
    """Show one page of the list whose first k items `find` returns. words: a query that has some."""
    at, offset = desk(), whole("offset", 0)
    start = time.perf_counter()
    key = session.labels.session, at.catalog.generation, view.address
    found = lists().get(key, offset + PAGE, find, lambda: at.inside(view.where))
    took_ms = (time.perf_counter() - start) * 1000
    ids, distances = found.ids[offset : offset + PAGE], found.distances[offset : offset + PAGE]
    inside = f"{found.inside:,} of {at.catalog.n:,} items" if view.where else f"{found.inside:,} items"
    many = f"the {found.total:,} nearest of {inside}" if found.total < found.inside else inside
    tiles = at.tiles(session, ids, [f"{distance:.3g}" for distance in distances])
    if "offset" not in request.args:
        name = session.labels.session
        record = at.book.record(name)
        first, latest = record.settings.get("asked") or view.asked, record.words if words is None else words
        at.book.remember(name, query=view.address, asked=first, words=latest, where=view.where)
    view = replace(view, note=f"{many}, most alike first", how=found.source, took_ms=took_ms)
    return show(session, replace(view, tiles=tiles, total=found.total, offset=offset))


def _random(session: Session, kind: str, seed: int, where: str, note: str = "") -> Response:
    at, offset = desk(), whole("offset", 0)
    ids = at.draw(RANDOM, seed, where)
    tiles = at.tiles(session, ids[offset : offset + PAGE])
    name = session.labels.session
    if "offset" not in request.args and where != at.book.record(name).settings.get("where", ""):
        at.book.remember(name, where=where)
    place = address("/random", seed=seed, where=where)
    return show(session, View(kind, "Random items", note, tiles, len(ids), place, offset, seed=seed, where=where))


def _where() -> str:
    """Return the filter of the address, "" for none."""
    return request.args.get("where", "").strip()


def _address(**query: str | int) -> str:
    return address(request.path, **query, where=_where())
