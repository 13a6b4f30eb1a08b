"""Lists to look through: random items, and the items nearest to a text or to an item, within a filter."""

from __future__ import annotations

import secrets
from dataclasses import replace

from flask import Blueprint, Response, request

from gpubranches.app.app_context import service
from gpubranches.app.language import t, texts, told
from gpubranches.app.rendering import PAGE, address, show
from gpubranches.app.request_values import session_id, where_of_address, whole
from gpubranches.app.views import View, chips, tiles
from gpubranches.catalog.pictures.places import unread_stores
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
        return _random("home", seed, where, _about_pictures())
    except UsageError as error:  # the catalog has lost a column since
        return _random("home", seed, "", t("filter-lost", error=told(error).text))


@routes.get("/random")
def random_page() -> Response:
    """Show random items, drawn by `seed`."""
    return _random("random", whole("seed", 0), where_of_address())


@routes.get("/search")
def search() -> Response:
    """Show the items nearest to the text `q`."""
    text = request.args.get("q", "").strip()
    query = parse(text)
    heading = t("nearest", query=text)
    if isinstance(query.single, Picture):
        heading = t("nearest.picture")
    if isinstance(query.single, Item):
        heading = query_in_words(texts(), text)
    return _nearest(View("search", heading, query=text, terms=chips(text)), text)


@routes.get("/like")
def like() -> Response:
    """Show the items nearest to the item `id`."""
    item = whole("id")
    return _nearest(View("like", query_in_words(texts(), item), query=f"#{item}"), item)


def _nearest(view: View, query: str | int) -> Response:
    asked = NearestPageRequest(query, where_of_address(), whole("offset", 0), PAGE)
    page = service().more(session_id(), asked) if _is_later_page() else service().search(session_id(), asked)
    where = asked.where
    if page.meant:
        query = page.meant
        view = replace(view, heading=t("nearest", query=str(query)), query=query)
    many = _how_many(page, where)
    view = replace(view, address=query_path(query, where), where=where, how=page.source, took_ms=page.took_ms)
    meant = t("nearest-meant", meant=page.meant, text=page.shown_for) if page.meant else ""
    return _show(page, replace(view, note=" · ".join(filter(None, (meant, many)))))


def _how_many(page: ListPage, where: str) -> str:
    """Return the three counts: items in the list, items that the filter admits, items in the catalog."""
    inside, total = page.inside, service().catalog.n
    if page.total < inside:
        if where:
            return t("nearest-some-filtered", count=page.total, inside=inside, total=total)
        return t("nearest-some", count=page.total, inside=inside)
    return t("nearest-all-filtered", inside=inside, total=total) if where else t("nearest-all", count=inside)


def _random(kind: str, seed: int, where: str, note: str = "") -> Response:
    asked = RandomPageRequest(seed, where, whole("offset", 0), PAGE)
    page = service().more(session_id(), asked) if _is_later_page() else service().random(session_id(), asked)
    place = address("/random", seed=seed, where=where)
    return _show(page, View(kind, t("random"), note, address=place, seed=seed, where=where))


def _about_pictures() -> str:
    """Return which pictures are missing or not read, and what to do; "" if there are none."""
    notes = [t("pictures-unread", store=store) for store in unread_stores(service().catalog.picture_source)]
    found = service().missing_pictures()
    if found.missing:
        notes.append(t("pictures-missing", looked=found.looked_at, missing=found.missing))
    return " ".join(notes)


def _show(page: ListPage, view: View) -> Response:
    figures = (
        None if page.distances is None else [t("distance", value=f"{distance:.2f}") for distance in page.distances]
    )
    shown = tiles(page.state, page.ids, figures)
    return show(page.state, replace(view, tiles=shown, total=page.total, offset=page.offset))


def _is_later_page() -> bool:
    """Return whether the request is for tiles of a list that is shown already."""
    return "offset" in request.args
