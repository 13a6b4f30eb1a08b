"""What the last refine matched, by pages and as files, and why an item is in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Response

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema
from gpubranches.app.api.search import ITEM
from gpubranches.app.app_context import service
from gpubranches.app.export_routes import send
from gpubranches.core.results import TIERS
from gpubranches.service.answer import PARTS
from gpubranches.service.export import BOX_FORMATS, FORMATS, Format
from gpubranches.service.types import PartPage
from gpubranches.service.wording import explanation_to_json

_MATCH: Schema = {
    "type": "object",
    "required": ["id", "score", "votes", "tier", "item"],
    "properties": {
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
    },
}
_PAGE: Schema = {
    "type": "object",
    "required": ["total", "offset", "results"],
    "properties": {
        "total": {"type": "integer", "minimum": 0},
        "offset": {"type": "integer", "minimum": 0},
        "results": {"type": "array", "items": _MATCH, "description": "Best first."},
    },
}
_TIER: dict[str, Schema] = {
    "tier": {
        "type": "string",
        "enum": list(PARTS),
        "default": PARTS[0],
        "description": "Which items: all that match; of these the sure, likely or borderline ones; those just below "
        "the cut; those that are new since the round before, or gone, which are told as they were then.",
    }
}
_SLICE: dict[str, Schema] = {
    **_TIER,
    "offset": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 0},
    "limit": {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 100},
}


def _media(formats: Iterable[Format[Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(format.media_type for format in formats))


@operation("GET", "/sessions/{session}/results", query=_SLICE, answer=_PAGE)
def results(session: str, tier: str, offset: int, limit: int) -> dict[str, Any]:
    """Return one page of the items that match, best first; items deleted since are left out of their page."""
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
    """Return why an item is in the last answer or is not: the boxes that hold it, and those it nearly is in."""
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
