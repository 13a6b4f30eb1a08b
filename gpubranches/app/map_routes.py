"""The map of an answer: its page, its points, and the list of the items within areas of it."""

from __future__ import annotations

import re
from dataclasses import replace

from flask import Blueprint, Response, redirect, request

from gpubranches.app.app_context import service
from gpubranches.app.language import t
from gpubranches.app.rendering import PAGE, address, show
from gpubranches.app.request_values import session_id, whole
from gpubranches.app.views import View, tiles
from gpubranches.errors import UsageError
from gpubranches.service.answer_map import Area

MOST_CORNERS = 1_000
"""Corners of all areas of an address."""
_AREAS = re.compile(r"-?\d{1,6}(_-?\d{1,6})*(~-?\d{1,6}(_-?\d{1,6})*)*", re.ASCII)

routes = Blueprint("map", __name__)


@routes.get("/map")
def answer_map() -> Response:
    """Show the map of the last answer, and below it the items within the areas `area` of the map `version`.

    An area is a polygon: x_y_x_y_x_y, and ~ between two of them. kinds: of the items, by their places in KINDS as
    digits; all by default.
    """
    state = service().sessions.state(session_id())
    if state.answer is None:
        return redirect(address(f"{request.script_root}/matches", session=state.session))  # type: ignore[return-value]
    text, version, kinds = (request.args.get(name, "") for name in ("area", "version", "kinds"))
    place = address("/map", version=version, area=text, kinds=kinds)
    view = View("map", t("map-heading"), where=state.found_where, address=place)
    if not text:
        return show(state, view)
    areas, found = parse_areas(text), service().answer_map(session_id())
    if version != found.version:
        return show(state, view)
    ids, offset = found.within(areas, kinds), whole("offset", 0)
    told = dict(zip(found.ids.tolist(), found.kinds.tolist(), strict=True))
    shown = ids[offset : offset + PAGE]
    figures = [t("map-kind", kind=told[item]) for item in shown.tolist()]
    return show(state, replace(view, tiles=tiles(state, shown, figures), total=len(ids), offset=offset))


@routes.get("/map/points")
def points() -> dict[str, object]:
    """Send the points of the map as JSON, see `AnswerMap.to_json`."""
    return service().answer_map(session_id()).to_json()


def parse_areas(text: str) -> list[Area]:
    """Return the polygons of an address. Raises UsageError."""
    areas = [area.split("_") for area in text.split("~")] if _AREAS.fullmatch(text) else []
    numbers = sum(map(len, areas))
    if not areas or numbers > 2 * MOST_CORNERS or any(len(area) < 6 or len(area) % 2 for area in areas):
        raise UsageError(
            f"area: expected polygons of 3 to {MOST_CORNERS:,} corners as x_y_x_y_x_y, ~ between two, got "
            f"{text!r:.80}; select again on the map"
        )
    return [list(zip(map(int, area[::2]), map(int, area[1::2]), strict=True)) for area in areas]
