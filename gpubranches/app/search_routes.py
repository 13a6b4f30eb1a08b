"""Lists to look through: random items, and the items nearest to a text or to an item, within a filter."""

from __future__ import annotations

import secrets
from dataclasses import replace

from flask import Blueprint, Response, request

from gpubranches.app.app_context import service
from gpubranches.app.language import t
from gpubranches.app.rendering import PAGE, address, show
from gpubranches.app.request_values import session_id, where_of_address, whole
from gpubranches.app.views import View, chips, tiles
from gpubranches.errors import UsageError
from gpubranches.retrieval.queries import Item, Picture, parse
from gpubranches.service.session_store import query_path
from gpubranches.service.types import ListPage, NearestPageRequest, RandomPageRequest
from gpubranches.service.wording import query_in_words

routes = Blueprint("search", __name__)
_SEEDS = 10**6


@routes.get("/")
def home() -> Response:
    """Show random items within the session's filter, others at each visit, and how to begin."""
    seed = secrets.randbelow(_SEEDS)
    where = service().sessions.record(session_id()).where
    try:
        return _random("home", seed, where)
    except UsageError as error:  # the catalog has lost a column since
        return _random("home", seed, "", f"The filter is taken away. {error}")


@routes.get("/random")
def random_page() -> Response:
    """Show random items, drawn by `seed`."""
    return _random("random", whole("seed", 0), where_of_address())


@routes.get("/search")
def search() -> Response:
    """Show the items nearest to the text `q`."""
    text = request.args.get("q", "").strip()
    query = parse(text)
    heading = f"Nearest to “{text}”"
    if isinstance(query.single, Picture):
        heading = "Nearest to your picture"
    if isinstance(query.single, Item):
        heading = query_in_words(text)
    return _nearest(View("search", heading, query=text, terms=chips(text)), text)


@routes.get("/like")
def like() -> Response:
    """Show the items nearest to the item `id`."""
    item = whole("id")
    return _nearest(View("like", query_in_words(item), query=f"#{item}"), item)


def _nearest(view: View, query: str | int) -> Response:
    asked = NearestPageRequest(query, where_of_address(), whole("offset", 0), PAGE)
    page = service().more(session_id(), asked) if _is_later_page() else service().search(session_id(), asked)
    where = asked.where
    if page.meant:
        query = page.meant
        view = replace(view, heading=f"Nearest to “{query}”", query=query)
    inside = f"{page.inside:,} of {service().catalog.n:,} items" if where else f"{page.inside:,} items"
    many = f"the {page.total:,} nearest of {inside}" if page.total < page.inside else inside
    view = replace(view, address=query_path(query, where), where=where, how=page.source, took_ms=page.took_ms)
    meant = f"showing {page.meant} for {page.shown_for} · " if page.meant else ""
    return _show(page, replace(view, note=f"{meant}{many}, most alike first"))


def _random(kind: str, seed: int, where: str, note: str = "") -> Response:
    asked = RandomPageRequest(seed, where, whole("offset", 0), PAGE)
    page = service().more(session_id(), asked) if _is_later_page() else service().random(session_id(), asked)
    place = address("/random", seed=seed, where=where)
    return _show(page, View(kind, "Random items", note, address=place, seed=seed, where=where))


def _show(page: ListPage, view: View) -> Response:
    figures = None if page.distances is None else [t("distance", value=f"{distance:.2f}") for distance in page.distances]
    shown = tiles(page.state, page.ids, figures)
    return show(page.state, replace(view, tiles=shown, total=page.total, offset=page.offset))


def _is_later_page() -> bool:
    """Return whether the request is for tiles of a list that is shown already."""
    return "offset" in request.args
