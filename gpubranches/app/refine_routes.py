"""Finding all: train, cut, show what matches, and ask how complete it is."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, cast

from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.limits import training
from gpubranches.app.rendering import PAGE, address, context, show
from gpubranches.app.request_values import desk, held, parse_number, parse_whole, session_id, whole
from gpubranches.core.options import MODELS, NEGATIVE_WEIGHT, RANDOM_NEGATIVES, Model
from gpubranches.core.results import TIERS
from gpubranches.errors import UsageError
from gpubranches.retrieval.completeness import AUDITED
from gpubranches.service import Session
from gpubranches.service.app_context import TABS, UNKNOWN, View, describe
from gpubranches.service.session_store import Record
from gpubranches.service.target import TARGET, Step

_log = logging.getLogger(__name__)

SUGGESTED = 20
_VIEWS = {"suggestion": "suggest", "audit": "audit"}

routes = Blueprint("finding", __name__)


@routes.post("/refine")
def refine() -> Response:
    """Find all: train on the marks, apply to the whole catalog, show what matches. The lean stays as it was.

    where: the filter within which to look.
    """
    form = request.form
    model, second_stage = form.get("model", MODELS[0]), "second_stage" in form
    negatives = parse_whole("random_negatives", form.get("random_negatives", str(RANDOM_NEGATIVES)))
    weight = parse_number("negative_weight", form.get("negative_weight", str(NEGATIVE_WEIGHT)))
    where = form.get("where", "").strip()
    options: dict[str, Any] = {"second_stage": second_stage, "random_negatives": negatives, "negative_weight": weight}
    with training(session_id()), held() as session:
        book, name = desk().book, session.labels.session
        record = book.record(name)
        lean = float(record.settings.get("lean", 0.0))
        session.refine(cast(Model, model), lean=lean, where=where or None, query=_words(session, record), **options)
        book.remember(name, model=model, lean=lean, where=where, **options)
        response = _matches(session, "all", 0)
    response.headers["HX-Push-Url"] = f"{request.script_root}/matches"
    return response


def _words(session: Session, record: Record) -> str | None:
    """Return the words that were asked last, None where they cannot be read any more.

    An item they name may be gone, or the session may come from a server that reads other texts.
    """
    try:
        session.searcher.words(record.words)
    except UsageError as error:
        _log.info("find all goes without the words %r: %s", record.words, error)
        return None
    return record.words


@routes.post("/recut")
def recut() -> Response:
    """Cut the last find all's list at another `lean`, -1 to 1, without training; show the part of it that was open."""
    lean, part = parse_number("lean", request.form.get("lean", "")), request.form.get("tier") or "all"
    with held() as session:
        if session.answer is not None:
            session.part(part)
        ranking = session.recut(lean)
        desk().book.remember(session.labels.session, lean=ranking.lean)
        response = _matches(session, part, 0)
    response.headers["HX-Push-Url"] = request.script_root + _address(part)
    return response


@routes.get("/matches")
def matches() -> Response:
    """Show what the last find all matched, or the part `tier` of its answer."""
    with held() as session:
        return _matches(session, request.args.get("tier") or "all", whole("offset", 0))


@routes.get("/suggest")
def suggest() -> Response:
    """Show the items whose marks would tell most."""
    with held() as session:
        tiles = desk().tiles(session, session.suggest(SUGGESTED))
        note = "The model is least sure of these, so your marks on them teach it most."
        heading = f"{len(tiles)} to mark next"
        view = View("suggest", heading, note, tiles, len(tiles), origin="suggestion", where=session.where)
        return show(session, view)


@routes.get("/audit")
def audit() -> Response:
    """Show items drawn at random whose marks tell how complete the last find all is."""
    with held() as session:
        tiles = desk().tiles(session, session.audit(AUDITED))
        note = "Drawn at random. Mark each right or wrong, as many as you like: that tells how good the answer is."
        heading = f"{len(tiles)} to check"
        return show(session, View("audit", heading, note, tiles, len(tiles), origin="audit", where=session.where))


@routes.post("/next")
def next_step() -> Response:
    """Show what to mark next until most of what is right is known to be found; at the end, what matches."""
    with training(session_id()), held() as session:
        step = session.next(TARGET, SUGGESTED)
        desk().book.remember(session.labels.session, lean=session.last_answer().ranking.lean)
        response = _step(session, step)
    shown = "matches" if step.done else _VIEWS[step.kind]
    response.headers["HX-Push-Url"] = f"{request.script_root}/{shown}"
    return response


def _step(session: Session, step: Step) -> Response:
    """Show the items of a step, or the answer where there is nothing left to mark."""
    low, _, high = (0.0, 0.0, 1.0) if step.recall is None else step.recall
    known = f"at least {low:.0%} are found" if high - low <= UNKNOWN else "how many are found is not known yet"
    if step.done:
        view = _part(session, "all", 0)
        reached = step.kind == "reached"
        note = f"{known.capitalize()}, nine times in ten." if reached else f"Nothing is left to mark: {known}."
        return show(session, replace(view, note=note))
    tiles = desk().tiles(session, step.ids)
    note = f"So far {known}. Mark these right or wrong, then press Find {TARGET:.0%} again."
    heading = f"{len(tiles)} to mark next"
    view = View(_VIEWS[step.kind], heading, note, tiles, len(tiles), origin=step.kind, where=session.where)
    return show(session, view)


@routes.get("/completeness")
def completeness() -> Response:
    """Tell how complete the last find all is, by the marks made up to now, above the part `tier` of it.

    Where this part is one of the tiers, whose items are others by now, it is shown anew.
    """
    with held() as session:
        session.estimate()
        part = request.args.get("tier", "")
        if part in TIERS:
            response = _matches(session, part, 0)
            response.headers.update({"HX-Retarget": "#results", "HX-Reswap": "innerHTML"})
            return response
        return make_response(render_template("_completeness.html", **context(session, part)))


@routes.get("/why/<int:item>")
def why(item: int) -> Response:
    """Tell why an item is in the last find all or is not."""
    with held() as session:
        return make_response(render_template("_why.html", told=session.explain(item)))


def _matches(session: Session, name: str, offset: int) -> Response:
    """Show a part of the last answer, or how to get one."""
    if session.answer is None:
        where = str(desk().book.record(session.labels.session).settings.get("where", ""))
        return show(session, replace(_unfound(session), where=where))
    return show(session, _part(session, name, offset))


def _part(session: Session, name: str, offset: int) -> View:
    """Return the view of a part of the last answer."""
    answer, part, tab = session.last_answer(), session.part(name), TABS[name]
    parts = answer.parts
    changes = (len(parts["new"]), len(parts["gone"])) if "new" in parts else None
    heading, note = describe(answer.ranking, changes), ""
    if name != "all":
        heading, note = f"{len(part):,} {tab.heading}", tab.note
    rows = part.rows[offset : offset + PAGE]
    scores, tiers = part.ranking.scores[rows], [part.ranking.tier(row) for row in rows]
    figures = [f"{score:.3g} · {tier}" if tier else f"{score:.3g}" for score, tier in zip(scores, tiers, strict=True)]
    tiles = desk().tiles(session, part.ranking.ids[rows], figures)
    origin = "suggestion" if tab.near_cut else "user"
    view = View("matches", heading, note, tiles, len(part), _address(name), offset, origin=origin, part=name)
    return replace(view, where=session.where)


def _unfound(session: Session) -> View:
    """Return what is shown where there is no answer: none was asked for, or the server forgot it."""
    if not len(session.positives):
        return View("matches", "Nothing found yet", "Mark at least one item right, then press Find all.")
    if "model" not in desk().book.record(session.labels.session).settings:
        return View(
            "matches", "Nothing found yet", "Find all applies your marks to the whole catalog.", again="Find all"
        )
    note = "The server was started anew, or the catalog changed. Your marks and options are kept."
    return View("matches", "The answer is forgotten", note, again="Find all again")


def _address(part: str) -> str:
    return "/matches" if part == "all" else address("/matches", tier=part)
