"""Answers of the page: the whole of it, a fragment of it, or the marks that changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from flask import Response, make_response, render_template, request
from jinja2_fragments.flask import render_block

from gpubranches.app.request_values import desk, htmx
from gpubranches.catalog.metadata.conditions import MAX_LENGTH
from gpubranches.core.options import (
    LEAST_WEIGHT,
    MODELS,
    MOST_RANDOM_NEGATIVES,
    MOST_WEIGHT,
    NEGATIVE_WEIGHT,
    RANDOM_NEGATIVES,
    TITLES,
)
from gpubranches.retrieval.completeness import AUDITED
from gpubranches.service import Session
from gpubranches.service.app_context import TABS, View, describe_completeness, describe_run, in_words
from gpubranches.service.export import BOX_FORMATS, FORMATS
from gpubranches.service.target import TARGET

PAGE = 60
"""Items shown at a time."""
NAMES = 2000
"""Names of the embedder offered while typing, at most."""
OPTIONS = {"model": MODELS[0], "random_negatives": RANDOM_NEGATIVES, "negative_weight": NEGATIVE_WEIGHT}
"""Of find all, where a session has none yet."""
LIMITS = {
    "random_negatives": MOST_RANDOM_NEGATIVES,
    "least_weight": LEAST_WEIGHT,
    "most_weight": MOST_WEIGHT,
    "condition": MAX_LENGTH,
}
"""Of what can be typed."""


def show(session: Session, view: View) -> Response:
    """Render the next tiles, the results, or the whole page, whichever was asked for."""
    record = desk().book.record(session.labels.session)
    if view.kind in ("matches", "suggest", "audit"):  # they answer marks, and marks began with a query
        view = replace(view, query=record.query)
    around = {"view": view, "page": PAGE, **context(session, view.part)}
    if htmx and not htmx.history_restore_request:
        part = make_response(render_block("index.html", "tiles" if "offset" in request.args else "results", **around))
        if view.kind in ("search", "like", "random"):
            part.headers["HX-Push-Url"] = request.script_root + view.address
        return part
    options = {**OPTIONS, **record.settings}
    return make_response(
        render_template(
            "index.html",
            record=record,
            options=options,
            limits=LIMITS,
            names=desk().names(NAMES),
            models=TITLES,
            **around,
        )
    )


def context(session: Session, part: str = "") -> dict[str, Any]:
    """Return what the templates tell of a session. part: of the answer that is shown, "" if another list is."""
    answer, ranking = session.answer, session.ranking
    counts = {} if answer is None or not part else {name: len(held) for name, held in answer.parts.items()}
    return {
        "desk": desk(),
        "session_id": session.labels.session,
        "positive": len(session.positives),
        "negative": len(session.negatives),
        "ranking": ranking,
        "completeness": "" if ranking is None else in_words(ranking),
        "intervals": "" if ranking is None else describe_completeness(ranking),
        "run": "" if ranking is None else describe_run(ranking),
        "checked": session.checked,
        "audited": AUDITED,
        "target": f"{TARGET:.0%}",
        "found_within": session.where,
        "part": part,
        "tabs": [(name, TABS[name].title, count) for name, count in counts.items()],
        "formats": FORMATS,
        "box_formats": BOX_FORMATS,
    }


def changed(session: Session, since: int) -> dict[str, Any]:
    """Return the marks that changed after version `since` of the log, for the page's scripts.

    version: to ask with next time; marks: item id -> 1, -1 or 0; positive, negative: how many there are in all.
    """
    version, marks = session.labels.changes(since)
    return {
        "version": version,
        "marks": {str(item): label for item, label in marks.items()},
        "positive": len(session.positives),
        "negative": len(session.negatives),
    }


def address(path: str, **query: str | int) -> str:
    """Return the address of a list of items; its pages are asked for with `offset` added. Empty parts are left out."""
    given = {name: value for name, value in query.items() if value != ""}
    return f"{path}?{urlencode(given)}" if given else path
