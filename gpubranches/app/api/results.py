"""What the last refine matched: by pages, as files; and why an item is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from flask import Response
from numpy.typing import NDArray

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema
from gpubranches.app.api.searching import ITEM
from gpubranches.app.api.sessions import hold, marks
from gpubranches.app.export_routes import boxes_file, matches_file
from gpubranches.app.request_values import desk
from gpubranches.core.results import TIERS
from gpubranches.service.answer import PARTS
from gpubranches.service.export import BOX_FORMATS, FORMATS, Format

if TYPE_CHECKING:
    from gpubranches.core.results import Ranking
    from gpubranches.service.app_context import Desk

_MATCH: Schema = {
    "type": "object",
    "required": ["id", "score", "votes", "tier", "item"],
    "properties": {
        "id": ID,
        "score": {"type": "number"},
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
    """Tell one page of the items that match, best first; items deleted since are left out of their page."""
    with marks(session) as held:
        part = held.part(tier)
    return {
        "total": len(part),
        "offset": offset,
        "results": list(_matches(desk(), part.ranking, part.rows[offset : offset + limit])),
    }


@operation(
    "GET",
    "/sessions/{session}/matches.{format}",
    places={"format": {"type": "string", "enum": list(FORMATS)}},
    query=_TIER,
    media=_media(FORMATS.values()),
)
def export_matches(session: str, format: str, tier: str) -> Response:
    """Send all items that match, best first, as a file that is made while it is sent."""
    with marks(session) as held:
        return matches_file(held, format, tier)


@operation(
    "GET",
    "/sessions/{session}/boxes.{format}",
    places={"format": {"type": "string", "enum": list(BOX_FORMATS)}},
    media=_media(BOX_FORMATS.values()),
)
def export_model(session: str, format: str) -> Response:
    """Send the boxes of the last refine as a file."""
    with marks(session) as held:
        return boxes_file(held, format)


@operation(
    "GET", "/sessions/{session}/items/{item}/explanation", answer={"type": "object", "required": ["reason", "verdict"]}
)
def explanation(session: str, item: int) -> dict[str, Any]:
    """Tell why an item is in the last answer or is not: the boxes that hold it, and those it nearly is in."""
    with hold(session) as held:
        return held.explain(item).to_json()


def _matches(at: Desk, ranking: Ranking, rows: NDArray[np.intp]) -> Iterator[dict[str, Any]]:
    alive = rows[at.catalog.alive(ranking.ids[rows])]
    for row, item in zip(alive.tolist(), at.catalog.items(ranking.ids[alive]), strict=True):
        votes = None if ranking.votes is None else int(ranking.votes[row])
        yield {
            "id": int(ranking.ids[row]),
            "score": float(ranking.scores[row]),
            "votes": votes,
            "tier": ranking.tier(row),
            "item": item,
        }
