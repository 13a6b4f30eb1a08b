"""Answers of the page: the whole of it, a fragment of it, or the marks that changed."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import numpy as np
from flask import Response, make_response, render_template
from jinja2_fragments.flask import render_block
from numpy.typing import NDArray

from gpubranches.app.asking import desk, htmx
from gpubranches.completeness import AUDITED
from gpubranches.desk import View, describe_completeness
from gpubranches.models import TITLES
from gpubranches.session import Session

PAGE = 60
"""Items shown at a time."""
REDRAWN = 1000
"""Items of one undo whose marks are drawn anew; a reload shows the rest."""
NAMES = 2000
"""Names of the embedder offered while typing, at most."""


def show(session: Session, view: View) -> Response:
    """Render the next tiles, the results, or the whole page, whichever was asked for."""
    around = {"view": view, **context(session)}
    if htmx and not htmx.history_restore_request:
        return make_response(render_block("index.html", "tiles" if view.offset else "results", **around))
    at = desk()
    return make_response(render_template("index.html", desk=at, names=at.names(NAMES), models=TITLES, **around))


def marked(session: Session, ids: NDArray[np.int64], said: str) -> Response:
    """Render the marks of items, the counts, and what was done."""
    current = session.labels.current()
    marks = [(item, current.get(item, 0)) for item in ids[:REDRAWN].tolist()]
    return make_response(render_template("_marked.html", marks=marks, said=said, **context(session)))


def context(session: Session) -> dict[str, Any]:
    """Return what the templates tell of a session."""
    ranking = session.ranking
    return {
        "positive": len(session.positives),
        "negative": len(session.negatives),
        "ranking": ranking,
        "completeness": "" if ranking is None else describe_completeness(ranking),
        "audited": AUDITED,
    }


def more(path: str, offset: int, total: int, **query: str | int) -> str | None:
    """Return the address of the page after the one at `offset`, None after the last."""
    return f"{path}?{urlencode({**query, 'offset': offset + PAGE})}" if offset + PAGE < total else None
