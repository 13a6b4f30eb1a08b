"""Find all: train on the marks, cut the list, show the matches and how complete they are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import cast

import numpy as np
from flask import Blueprint, Response, make_response, render_template, request

from gpubranches.app.app_context import limits, service
from gpubranches.app.language import t, texts
from gpubranches.app.rendering import PAGE, frame, matches_address, show
from gpubranches.app.request_values import EVENT_NAME, parse_number, parse_whole, session_id, whole
from gpubranches.app.views import NEAR_CUT, UNSURE, Listing, View, tiles
from gpubranches.core.options import MODELS, NEGATIVE_WEIGHT, RANDOM_NEGATIVES, Model, RefineOptions
from gpubranches.core.results import TIERS
from gpubranches.errors import UsageError
from gpubranches.service.session_store import new_session_name
from gpubranches.service.target import TARGET
from gpubranches.service.types import NextStep, PartPage, Proposal, SessionState, StepRequest
from gpubranches.service.wording import matches_heading, reason, step_in_words, verdict

_KINDS = {"suggestion": "suggest", "audit": "audit"}
"""The view of each origin of proposed items."""

routes = Blueprint("refine", __name__)


@routes.post("/refine")
def refine() -> Response:
    """Find all by the options of the form, within the filter `where`; the cut stays as it was.

    task: a name for `/tasks/<name>`, which returns the stage and can cancel the task.
    """
    form, session = request.form, session_id()
    options = RefineOptions(
        model=cast(Model, form.get("model", MODELS[0])),
        second_stage="second_stage" in form,
        random_negatives=parse_whole("random_negatives", form.get("random_negatives", str(RANDOM_NEGATIVES))),
        negative_weight=parse_number("negative_weight", form.get("negative_weight", str(NEGATIVE_WEIGHT))),
        where=form.get("where", "").strip() or None,
    )
    with _task(session), limits().train(session):
        state = service().find_all(session, service().continued(session, options))
    return _pushed(_show_part(state, Listing("all")), "/matches")


@routes.post("/recut")
def recut() -> Response:
    """Move the cut of the last answer to `lean`, -1 to 1, without training; show the part `tier` from the cut on."""
    lean, part = parse_number("lean", request.form.get("lean", "")), request.form.get("tier") or "all"
    listing = Listing(part, least_sure_first=True)
    return _pushed(_show_part(service().recut(session_id(), lean, part), listing), matches_address(listing))


@routes.get("/matches")
def matches() -> Response:
    """Show the matches of the last find all, or the part `tier` of its answer.

    unmarked: only items without a mark; order: "unsure", the nearest to the cut first, else the best first.
    """
    offset = whole("offset", 0)
    at = whole("marks") if "offset" in request.args and "marks" in request.args else None
    state = service().sessions.state(session_id(), at)
    return show(state, _unfound(state)) if state.answer is None else _show_part(state, _listing("all"), offset)


@routes.get("/suggest")
def suggest() -> Response:
    """Show the items whose marks would improve the model most."""
    return _show_proposal(service().suggest(session_id()), t("suggest-note"))


@routes.get("/audit")
def audit() -> Response:
    """Show random items whose marks show how complete the last answer is."""
    return _show_proposal(service().audit(session_id()), t("audit-note"))


@routes.post("/next")
def next_step() -> Response:
    """Show what to mark next until a share of the right items is known to be found; at the end, show the matches."""
    session = session_id()
    with _task(session), limits().train(session):
        found = service().next_step(session, StepRequest())
    return _pushed(_show_step(found), "/matches" if found.step.done else f"/{_KINDS[found.step.kind]}")


@routes.get("/completeness")
def completeness() -> Response:
    """Show how complete the last answer is, by the present marks, above the part `tier` of it.

    If that part is one of the tiers, it holds other items now, and is shown again.
    """
    state, listing = service().estimate(session_id()), _listing()
    if listing.part in TIERS:
        response = _show_part(state, listing)
        response.headers.update({"HX-Retarget": "#results", "HX-Reswap": "innerHTML"})
        return response
    return make_response(render_template("_completeness.html", **frame(state, listing)))


@routes.get("/completeness/now")
def completeness_now() -> Response:
    """Show how complete the last answer is by the present marks; its tiers stay as they were estimated."""
    state = service().sessions.state(session_id())
    state.last_answer()
    return make_response(render_template("_completeness.html", **frame(state, _listing())))


@routes.get("/why/<int:item>")
def why(item: int) -> Response:
    """Show why an item is in the last answer or is not."""
    told = service().explain(session_id(), item)
    sentences = {"reason": reason(texts(), told), "verdict": verdict(texts(), told)}
    return make_response(render_template("_why.html", explanation=told, **sentences))


@routes.get("/tasks/<name>")
def task(name: str) -> dict[str, str]:
    """Return the `stage` of a find all of the session, or "" if no task of that name is running."""
    return {"stage": service().tasks.stage(session_id(), _task_name(name))}


@routes.post("/tasks/<name>/cancel")
def cancel(name: str) -> dict[str, str]:
    """Stop a find all of the session at its next stage; the previous answer stays."""
    service().tasks.cancel(session_id(), _task_name(name))
    return {"stage": ""}


def _task(session: str) -> AbstractContextManager[None]:
    return service().tasks.running(session, _task_name(request.form.get("task") or new_session_name()))


def _task_name(name: str) -> str:
    if not EVENT_NAME.fullmatch(name):
        raise UsageError(f"task: expected 8 to 64 letters, digits, - and _, got {name!r:.80}")
    return name


def _listing(part: str = "") -> Listing:
    """Return the listing that the address requests. part: the default part."""
    asked = request.args
    return Listing(asked.get("tier") or part, asked.get("unmarked") == "1", asked.get("order") == UNSURE)


def _show_part(state: SessionState, listing: Listing, offset: int = 0) -> Response:
    return show(state, _part(state, listing, offset))


def _part(state: SessionState, listing: Listing, offset: int = 0) -> View:
    name = listing.part
    page = state.part(name, offset, PAGE, unmarked=listing.unmarked, least_sure_first=listing.least_sure_first)
    if listing.unmarked:
        heading, note = t("review-heading", count=page.total), t("review-note")
    elif name == "all":
        heading, note = matches_heading(texts(), page.total, state.changes), ""
    else:
        heading, note = t("part.heading", part=name, count=page.total), t("part.note", part=name)
    return View(
        "matches",
        heading,
        note,
        tiles(state, page.ids, _figures(page)),
        page.total,
        matches_address(listing, marks=state.version),
        offset,
        origin="suggestion" if name in NEAR_CUT else "user",
        where=state.found_where,
        listing=listing,
    )


def _figures(page: PartPage) -> list[str]:
    """Return the number on each tile of an answer: the chance to be right, or the score if there is no chance.

    Items that are marked or were not ranked show neither.
    """
    marks = page.state.marks
    shown = [not np.isnan(score) and int(item) not in marks for item, score in zip(page.ids, page.scores, strict=True)]
    if page.chances is None:
        figures = [t("score", value=f"{score:.3g}") for score in page.scores]
    else:
        figures = [
            t("chance", percent=0 if np.isnan(chance) else round(100 * chance)) for chance in page.chances.tolist()
        ]
    return [figure if known else "" for figure, known in zip(figures, shown, strict=True)]


def _unfound(state: SessionState) -> View:
    """Return the page without an answer: nothing was found yet, or the server has dropped the answer."""
    view = View("matches", t("unfound"), where=state.record.where)
    if not state.positive:
        return replace(view, note=t("unfound.unmarked"))
    if not state.record.has_found:
        return replace(view, note=t("unfound.marked"), again=t("find-all"))
    return replace(view, heading=t("unfound.forgotten"), note=t("unfound.kept"), again=t("find-again"))


def _show_proposal(proposal: Proposal, note: str, step: bool = False) -> Response:
    state, shown = proposal.state, tiles(proposal.state, proposal.ids)
    kind = _KINDS[proposal.origin]
    heading = t("to-check", count=len(shown)) if kind == "audit" else t("to-mark", count=len(shown))
    view = View(kind, heading, note, shown, len(shown), origin=proposal.origin, where=state.found_where, step=step)
    return show(state, view)


def _show_step(found: NextStep) -> Response:
    """Show the items of a step, or the answer if nothing is left to mark."""
    step, note = found.step, step_in_words(texts(), found.step, TARGET)
    if step.done:
        return show(found.state, replace(_part(found.state, Listing("all")), note=note))
    return _show_proposal(Proposal(found.state, step.ids, step.kind), note, step=True)


def _pushed(response: Response, path: str) -> Response:
    """Return a response that puts a path into the browser's address bar."""
    response.headers["HX-Push-Url"] = request.script_root + path
    return response
