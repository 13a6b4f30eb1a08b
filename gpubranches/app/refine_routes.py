"""Find all: train on the marks, cut the list, show what matches and how complete it is."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.app_context import limits, service
from gpubranches.app.rendering import PAGE, address, frame, show
from gpubranches.app.request_values import parse_number, parse_whole, session_id, whole
from gpubranches.app.views import TABS, View, tiles
from gpubranches.core.options import MODELS, NEGATIVE_WEIGHT, RANDOM_NEGATIVES, Model, RefineOptions
from gpubranches.core.results import TIERS
from gpubranches.service.target import TARGET
from gpubranches.service.types import NextStep, Proposal, SessionState, StepRequest
from gpubranches.service.wording import matches_heading, step_in_words

_KINDS = {"suggestion": "suggest", "audit": "audit"}
"""The view of each origin of proposed items."""

routes = Blueprint("refine", __name__)


@routes.post("/refine")
def refine() -> Response:
    """Find all by the options of the form, within the filter `where`; the cut stays as it was."""
    form, session = request.form, session_id()
    options = RefineOptions(
        model=cast(Model, form.get("model", MODELS[0])),
        second_stage="second_stage" in form,
        random_negatives=parse_whole("random_negatives", form.get("random_negatives", str(RANDOM_NEGATIVES))),
        negative_weight=parse_number("negative_weight", form.get("negative_weight", str(NEGATIVE_WEIGHT))),
        where=form.get("where", "").strip() or None,
    )
    with limits().train(session):
        state = service().find_all(session, service().continued(session, options))
    return _pushed(_show_part(state, "all"), "/matches")


@routes.post("/recut")
def recut() -> Response:
    """Cut the last answer's list at another `lean`, -1 to 1, without training; show the part `tier` of it."""
    lean, part = parse_number("lean", request.form.get("lean", "")), request.form.get("tier") or "all"
    return _pushed(_show_part(service().recut(session_id(), lean, part), part), _address(part))


@routes.get("/matches")
def matches() -> Response:
    """Show what the last find all matched, or the part `tier` of its answer."""
    part, offset = request.args.get("tier") or "all", whole("offset", 0)
    at = whole("marks") if "offset" in request.args and "marks" in request.args else None
    state = service().sessions.state(session_id(), at)
    return show(state, _unfound(state)) if state.answer is None else _show_part(state, part, offset)


@routes.get("/suggest")
def suggest() -> Response:
    """Show the items whose marks would teach most."""
    note = "The model is least sure of these, so your marks on them teach it most."
    return _show_proposal(service().suggest(session_id()), "to mark next", note)


@routes.get("/audit")
def audit() -> Response:
    """Show items drawn at random whose marks tell how complete the last answer is."""
    note = "Drawn at random. Mark each right or wrong, as many as you like: that tells how good the answer is."
    return _show_proposal(service().audit(session_id()), "to check", note)


@routes.post("/next")
def next_step() -> Response:
    """Show what to mark next until most of what is right is known to be found; at the end, what matches."""
    session = session_id()
    with limits().train(session):
        found = service().next_step(session, StepRequest())
    return _pushed(_show_step(found), "/matches" if found.step.done else f"/{_KINDS[found.step.kind]}")


@routes.get("/completeness")
def completeness() -> Response:
    """Show how complete the last answer is, by the marks made up to now, above the part `tier` of it.

    If that part is one of the tiers, it holds other items now, and is shown again.
    """
    state, part = service().estimate(session_id()), request.args.get("tier", "")
    if part in TIERS:
        response = _show_part(state, part)
        response.headers.update({"HX-Retarget": "#results", "HX-Reswap": "innerHTML"})
        return response
    return make_response(render_template("_completeness.html", **frame(state, part)))


@routes.get("/completeness/now")
def completeness_now() -> Response:
    """Show how complete the last answer is under the marks there are now; its tiers stay as they were estimated."""
    state = service().sessions.state(session_id())
    state.last_answer()
    return make_response(render_template("_completeness.html", **frame(state, request.args.get("tier", ""))))


@routes.get("/why/<int:item>")
def why(item: int) -> Response:
    """Show why an item is in the last answer or is not."""
    return make_response(render_template("_why.html", explanation=service().explain(session_id(), item)))


def _show_part(state: SessionState, name: str, offset: int = 0) -> Response:
    return show(state, _part(state, name, offset))


def _part(state: SessionState, name: str, offset: int = 0) -> View:
    page, tab = state.part(name, offset, PAGE), TABS[name]
    heading, note = f"{page.total:,} {tab.heading}", tab.note
    if name == "all":
        heading = matches_heading(page.total, state.changes)
    scored = zip(page.scores, page.tiers, strict=True)
    figures = [" · ".join(_figures(score, tier)) for score, tier in scored]
    return View(
        "matches",
        heading,
        note,
        tiles(state, page.ids, figures),
        page.total,
        _address(name, marks=state.version),
        offset,
        origin="suggestion" if tab.near_cut else "user",
        where=state.found_where,
        part=name,
    )


def _figures(score: np.float32, tier: str | None) -> list[str]:
    """Return what a tile of an answer shows: the score, if the item was ranked, and the tier, if it has one."""
    return [f"{score:.3g}"] * (not np.isnan(score)) + ([tier] if tier else [])


def _unfound(state: SessionState) -> View:
    """Return what is shown without an answer: nothing was found yet, or the server has dropped the answer."""
    view = View("matches", "Nothing found yet", where=state.record.where)
    if not state.positive:
        return replace(view, note="Mark at least one item right, then press Find all.")
    if not state.record.has_found:
        return replace(view, note="Find all applies your marks to the whole catalog.", again="Find all")
    note = "The server was started anew, or the catalog changed. Your marks and options are kept."
    return replace(view, heading="The answer is forgotten", note=note, again="Find all again")


def _show_proposal(proposal: Proposal, what_for: str, note: str) -> Response:
    state, shown = proposal.state, tiles(proposal.state, proposal.ids)
    heading, kind = f"{len(shown)} {what_for}", _KINDS[proposal.origin]
    view = View(kind, heading, note, shown, len(shown), origin=proposal.origin, where=state.found_where)
    return show(state, view)


def _show_step(found: NextStep) -> Response:
    """Show the items of a step, or the answer if nothing is left to mark."""
    step, note = found.step, step_in_words(found.step, TARGET)
    if step.done:
        return show(found.state, replace(_part(found.state, "all"), note=note))
    what_for = "to mark next" if step.checks is None else "to check"
    return _show_proposal(Proposal(found.state, step.ids, step.kind), what_for, note)


def _pushed(response: Response, path: str) -> Response:
    """Return a response that puts a path into the browser's address bar."""
    response.headers["HX-Push-Url"] = request.script_root + path
    return response


def _address(part: str, **query: int) -> str:
    return address("/matches", tier="" if part == "all" else part, **query)
