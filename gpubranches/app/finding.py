"""Finding all: train, cut, show what matches, and ask how complete it is."""

from __future__ import annotations

from typing import cast

import numpy as np
from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.asking import desk, held, session_id, whole
from gpubranches.app.limits import training
from gpubranches.app.rendering import PAGE, context, show
from gpubranches.completeness import AUDITED
from gpubranches.desk import View, describe
from gpubranches.errors import UsageError
from gpubranches.models import MODELS, Model
from gpubranches.session import Session

SUGGESTED = 20

routes = Blueprint("finding", __name__)


@routes.post("/refine")
def refine() -> Response:
    """Find all: train on the marks, apply to the whole catalog, show what matches. The lean stays as it was.

    where: the filter within which to look.
    """
    model, second_stage = request.form.get("model", MODELS[0]), "second_stage" in request.form
    where = request.form.get("where", "").strip()
    with training(session_id()), held() as session:
        book, name = desk().book, session.labels.session
        lean = float(book.record(name).settings.get("lean", 0.0))
        session.refine(cast(Model, model), second_stage=second_stage, lean=lean, where=where or None)
        book.note(name, model=model, second_stage=second_stage, lean=lean, where=where)
        response = _matches(session, 0)
    response.headers["HX-Push-Url"] = "/matches"
    return response


@routes.post("/recut")
def recut() -> Response:
    """Cut the last find all's list at another `lean`, -1 to 1, without training; show what matches."""
    text = request.form.get("lean", "")
    try:
        lean = float(text)
    except ValueError:
        raise UsageError(f"lean: expected a number of -1 to 1, got {text!r}") from None
    with held() as session:
        ranking = session.recut(lean)
        desk().book.note(session.labels.session, lean=ranking.lean)
        response = _matches(session, 0)
    response.headers["HX-Push-Url"] = "/matches"
    return response


@routes.get("/matches")
def matches() -> Response:
    """Show what the last find all matched."""
    with held() as session:
        return _matches(session, whole("offset", 0))


@routes.get("/suggest")
def suggest() -> Response:
    """Show the items whose marks would tell most."""
    with held() as session:
        tiles = desk().tiles(session, session.suggest(SUGGESTED))
        note = "nearest to the cut of the last find all, and unlike each other"
        heading = f"{len(tiles)} to mark next"
        view = View("suggest", heading, note, tiles, len(tiles), origin="suggestion", where=session.where)
        return show(session, view)


@routes.get("/audit")
def audit() -> Response:
    """Show items drawn at random whose marks tell how complete the last find all is."""
    with held() as session:
        tiles = desk().tiles(session, session.audit(AUDITED))
        note = "drawn at random, most from around the cut: mark each right or wrong, as many as you like"
        heading = f"{len(tiles)} to check"
        return show(session, View("audit", heading, note, tiles, len(tiles), origin="audit", where=session.where))


@routes.get("/completeness")
def completeness() -> Response:
    """Tell how complete the last find all is, by the marks made up to now."""
    with held() as session:
        session.estimate()
        return make_response(render_template("_completeness.html", **context(session)))


@routes.get("/why/<int:item>")
def why(item: int) -> Response:
    """Tell why an item is in the last find all or is not."""
    with held() as session:
        return make_response(render_template("_why.html", told=session.explain(item)))


def _matches(session: Session, offset: int) -> Response:
    ranking = session.ranking
    if ranking is None:
        note = "Mark at least one item right, then press Find all."
        where = str(desk().book.record(session.labels.session).settings.get("where", ""))
        return show(session, View("matches", "Nothing found yet", note, where=where))
    rows = np.flatnonzero(ranking.matched)
    shown = rows[offset : offset + PAGE]
    figures = [f"{score:.3g}" for score in ranking.scores[shown]]
    tiles = desk().tiles(session, ranking.ids[shown], figures)
    view = View("matches", *describe(ranking), tiles, len(rows), "/matches", offset, where=session.where)
    return show(session, view)
