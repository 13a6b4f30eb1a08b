"""Responses of the page: all of it, its results, or the next tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from flask import Response, make_response, render_template, request
from jinja2_fragments.flask import render_block

from gpubranches.app.app_context import service
from gpubranches.app.language import t, texts
from gpubranches.app.request_values import htmx
from gpubranches.app.views import Listing, View
from gpubranches.catalog.metadata.conditions import MAX_LENGTH
from gpubranches.core.options import LEAST_WEIGHT, MODELS, MOST_RANDOM_NEGATIVES, MOST_WEIGHT
from gpubranches.retrieval.completeness import AUDITED
from gpubranches.retrieval.suggestions import SUGGESTED
from gpubranches.service.export import BOX_FORMATS, formats_of
from gpubranches.service.session_store import Record
from gpubranches.service.target import TARGET
from gpubranches.service.types import SessionState
from gpubranches.service.wording import (
    completeness_in_words,
    intervals,
    new_marks,
    run_summary,
    session_title,
    since_found,
)

PAGE = 60
"""Items of one page of a list."""
NAMES = 2000
"""The largest number of names of the embedder that are offered while a user types."""
LIMITS = {
    "random_negatives": MOST_RANDOM_NEGATIVES,
    "least_weight": LEAST_WEIGHT,
    "most_weight": MOST_WEIGHT,
    "condition": MAX_LENGTH,
}
"""Limits and defaults of form fields."""


def show(state: SessionState, view: View) -> Response:
    """Render the next tiles, the results or the whole page, whichever the request is for."""
    if view.kind in ("matches", "suggest", "audit", "map"):  # these lists come from marks that were made after a query
        view = replace(view, query=state.record.query)
    values = {"view": view, "page": PAGE, "size": _size(view), **frame(state, view.listing)}
    if htmx and not htmx.history_restore_request:
        part = make_response(render_block("index.html", "tiles" if "offset" in request.args else "results", **values))
        if view.kind in ("search", "like", "random", "map"):
            part.headers["HX-Push-Url"] = request.script_root + view.address
        return part
    return make_response(
        render_template(
            "index.html",
            record=state.record,
            options=state.record.options,
            limits=LIMITS,
            names=service().known_texts(NAMES),
            models=MODELS,
            **values,
        )
    )


def frame(state: SessionState, listing: Listing | None = None) -> dict[str, Any]:
    """Return what the templates show of a session beside a list. listing: of an answer; None for another list."""
    listing = listing or Listing()
    answer, ranking, part = state.answer, state.ranking, listing.part
    counts = {} if answer is None or not part else {name: len(held) for name, held in answer.parts.items()}
    return {
        "session_id": state.session,
        "asked": state.record.query,
        "named": title_of(state.record),
        "positive": state.positive,
        "negative": state.negative,
        "ranking": ranking,
        "completeness": "" if ranking is None else completeness_in_words(texts(), ranking, state.checked > 0),
        "intervals": "" if ranking is None else intervals(texts(), ranking),
        "run": "" if ranking is None else run_summary(texts(), ranking),
        "checked": state.checked,
        "since": "" if state.since is None else since_found(texts(), state.since.joined, state.since.left),
        "new_marks": "" if state.since is None else new_marks(texts(), state.since.new_marks),
        "audited": AUDITED,
        "suggested": SUGGESTED,
        "target": TARGET,
        "reached": ranking is not None and ranking.recall is not None and ranking.recall[0] >= TARGET,
        "found_within": state.found_where,
        "part": part,
        "tabs": [
            (name, t("part", part=name), count, matches_address(replace(listing, part=name)))
            for name, count in counts.items()
        ],
        "orders": _orders(listing),
        "estimate_address": address("/completeness", **{**listing.query(), "tier": part}),
        "formats": formats_of(service().catalog),
        "box_formats": BOX_FORMATS,
    }


def title_of(record: Record) -> str:
    """Return the title of a session, "" for none."""
    return session_title(texts(), record.name, record.asked, record.number)


def matches_address(listing: Listing, **query: str | int) -> str:
    """Return the address of a part of an answer."""
    return address("/matches", **listing.query(), **query)


def _orders(listing: Listing) -> list[tuple[str, bool, str]]:
    """Return the switches of a listing: name, whether it is on, and the address that changes it."""
    unsure, review = listing.least_sure_first, listing.least_sure_first and listing.unmarked
    return [
        ("unsure", unsure, matches_address(replace(listing, least_sure_first=not unsure, unmarked=False))),
        ("review", review, matches_address(replace(listing, least_sure_first=not review, unmarked=not review))),
    ]


def _size(view: View) -> str:
    """Return how many items the catalog has, and how many of them the filter of a list admits."""
    total = service().catalog.n
    if not view.where or (view.kind == "matches" and not view.tiles):
        return t("size", count=total)
    return t("size-filtered", inside=service().count(view.where), total=total)


def address(path: str, **query: str | int) -> str:
    """Return the address of a list of items; empty values are left out. A page of it has `offset`, too."""
    given = {name: value for name, value in query.items() if value != ""}
    return f"{path}?{urlencode(given)}" if given else path
