"""Responses of the page: all of it, its results, or the next tiles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from flask import Response, make_response, render_template, request
from jinja2_fragments.flask import render_block

from gpubranches.app.app_context import service
from gpubranches.app.request_values import htmx
from gpubranches.app.views import TABS, View
from gpubranches.catalog.metadata.conditions import MAX_LENGTH
from gpubranches.core.options import LEAST_WEIGHT, MOST_RANDOM_NEGATIVES, MOST_WEIGHT, TITLES
from gpubranches.retrieval.completeness import AUDITED
from gpubranches.service.export import BOX_FORMATS, FORMATS
from gpubranches.service.session_store import UNTITLED
from gpubranches.service.target import TARGET
from gpubranches.service.types import SessionState
from gpubranches.service.wording import completeness_in_words, intervals, new_marks, run_summary, since_found

PAGE = 60
"""Items of one page of a list."""
NAMES = 2000
"""Names that the embedder knows, offered while a user types, at most."""
LIMITS = {
    "random_negatives": MOST_RANDOM_NEGATIVES,
    "least_weight": LEAST_WEIGHT,
    "most_weight": MOST_WEIGHT,
    "condition": MAX_LENGTH,
}
"""Of the fields of forms."""


def show(state: SessionState, view: View) -> Response:
    """Render the next tiles, the results or the whole page, whichever the request is for."""
    if view.kind in ("matches", "suggest", "audit", "map"):  # these lists follow from marks, which began with a query
        view = replace(view, query=state.record.query)
    values = {"view": view, "page": PAGE, **frame(state, view.part)}
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
            models=TITLES,
            **values,
        )
    )


def frame(state: SessionState, part: str = "") -> dict[str, Any]:
    """Return what the templates show of a session beside a list. part: of the answer, "" for another list."""
    answer, ranking = state.answer, state.ranking
    counts = {} if answer is None or not part else {name: len(held) for name, held in answer.parts.items()}
    return {
        "session_id": state.session,
        "asked": state.record.query,
        "named": "" if state.record.title == UNTITLED else state.record.title,
        "positive": state.positive,
        "negative": state.negative,
        "ranking": ranking,
        "completeness": "" if ranking is None else completeness_in_words(ranking),
        "intervals": "" if ranking is None else intervals(ranking),
        "run": "" if ranking is None else run_summary(ranking),
        "checked": state.checked,
        "since": "" if state.since is None else since_found(state.since.joined, state.since.left),
        "new_marks": "" if state.since is None else new_marks(state.since.new_marks),
        "audited": AUDITED,
        "target": f"{TARGET:.0%}",
        "found_within": state.found_where,
        "part": part,
        "tabs": [(name, TABS[name].title, count) for name, count in counts.items()],
        "formats": FORMATS,
        "box_formats": BOX_FORMATS,
    }


def address(path: str, **query: str | int) -> str:
    """Return the address of a list of items; empty values are left out. A page of it has `offset`, too."""
    given = {name: value for name, value in query.items() if value != ""}
    return f"{path}?{urlencode(given)}" if given else path
