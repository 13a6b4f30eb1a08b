"""The matches of the last refine, by pages and as files, and the explanation of an item."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from flask import Response

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema, array, record
from gpubranches.app.api.search import ITEM
from gpubranches.app.app_context import service
from gpubranches.app.export_routes import send
from gpubranches.core.results import TIERS
from gpubranches.service.answer import PARTS
from gpubranches.service.answer_map import KINDS, MOST_POINTS
from gpubranches.service.export import BOX_FORMATS, FORMATS, Format
from gpubranches.service.types import PartPage
from gpubranches.service.wording import explanation_to_json

_MATCH = record(
    {
        "id": ID,
        "score": {
            "type": ["number", "null"],
            "description": "Null for an item that was marked right since the refine and that it had not ranked.",
        },
        "votes": {"type": ["integer", "null"], "minimum": 0},
        "tier": {
            "type": ["string", "null"],
            "enum": [*TIERS, None],
            "description": "By its chance to be right; null where it does not match or no chance is estimated.",
        },
        "item": ITEM,
    }
)
_COUNT: Schema = {"type": "integer", "minimum": 0}
_PAGE = record({"total": _COUNT, "offset": _COUNT, "results": array(_MATCH, "Best first.")})
_TIER: dict[str, Schema] = {
    "tier": {
        "type": "string",
        "enum": list(PARTS),
        "default": PARTS[0],
        "description": "Which items: all that match; of these the sure, likely or borderline ones; those just below "
        "the cut; those that are new since the round before, or gone, which are told as they were then.",
    }
}
_ZIP = record(
    {
        "pictures": {**_COUNT, "description": "About how many there are."},
        "bytes": {**_COUNT, "description": "About how many the file has."},
        "most": {"type": "integer", "description": "More pictures are refused."},
    }
)
_POINTS: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": MOST_POINTS,
    "default": 10_000,
    "description": "How many, at most, beside marked items.",
}
_MAP = record(
    {
        "version": {"type": "string", "description": "Names the places: the same one, the same places."},
        "kind_names": array({"type": "string", "enum": list(KINDS)}),
        "totals": record(
            {"matches": _COUNT, "below": _COUNT, "rest": _COUNT},
            "How many items there are, drawn or not: matches, ranked without a match, others.",
        ),
        "ids": array(ID, "Of the points: ranked items best first, then others."),
        "x": array({"type": "integer"}),
        "y": array({"type": "integer"}),
        "kinds": array({**_COUNT, "maximum": len(KINDS) - 1}, "What each point is, as a place in kind_names."),
    }
)
_SLICE: dict[str, Schema] = {
    **_TIER,
    "offset": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 0},
    "limit": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100},
}


def _media(formats: Iterable[Format[Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(format.media_type for format in formats))


@operation("GET", "/sessions/{session}/results", query=_SLICE, answer=_PAGE)
def results(session: str, tier: str, offset: int, limit: int) -> dict[str, Any]:
    """Return one page of the matches, best first; deleted items are missing from their page."""
    page = service().part(session, tier, offset, limit)
    return {"total": page.total, "offset": offset, "results": list(_matches(page))}


@operation(
    "GET",
    "/sessions/{session}/matches.{format}",
    path_parameters={"format": {"type": "string", "enum": list(FORMATS)}},
    query=_TIER,
    media=_media(FORMATS.values()),
)
def export_matches(session: str, format: str, tier: str) -> Response:
    """Send all items that match, best first, as a file that is made while it is sent."""
    return send(service().export(session, format, tier), session)


@operation("GET", "/sessions/{session}/pictures", query=_TIER, answer=_ZIP)
def zip_estimate(session: str, tier: str) -> dict[str, Any]:
    """Estimate how large `matches.zip` would be, by the sizes of some of its files."""
    return asdict(service().estimate_zip(session, tier))


@operation("GET", "/sessions/{session}/map", query={"points": _POINTS}, answer=_MAP)
def answer_map(session: str, points: int) -> dict[str, Any]:
    """Return the answer and other items as points in the plane: items that look alike are close together.

    The points are an even sample of the matches, an even sample of the rest of the catalog, the best ranked items that
    do not match, and all marked items.
    """
    return service().answer_map(session, points).to_json()


@operation(
    "GET",
    "/sessions/{session}/boxes.{format}",
    path_parameters={"format": {"type": "string", "enum": list(BOX_FORMATS)}},
    media=_media(BOX_FORMATS.values()),
)
def export_model(session: str, format: str) -> Response:
    """Send the boxes of the last refine as a file."""
    return send(service().export_boxes(session, format), session)


@operation(
    "GET", "/sessions/{session}/items/{item}/explanation", answer={"type": "object", "required": ["reason", "verdict"]}
)
def explanation(session: str, item: int) -> dict[str, Any]:
    """Explain why an item is in the last answer or is not: the boxes that contain it, and those that nearly do."""
    return explanation_to_json(service().explain(session, item))


def _matches(page: PartPage) -> Iterator[dict[str, Any]]:
    rows, items = service().live_items(page.ids)
    for row, item in zip(rows.tolist(), items, strict=True):
        yield {
            "id": int(page.ids[row]),
            "score": None if math.isnan(page.scores[row]) else float(page.scores[row]),
            "votes": None if page.votes is None else int(page.votes[row]),
            "tier": page.tiers[row],
            "item": item,
        }
