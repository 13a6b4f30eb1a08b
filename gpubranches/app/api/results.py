"""What the last refine matched: by pages, whole as JSON lines, as files; and why an item is in it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from flask import Response, send_file
from numpy.typing import NDArray

from gpubranches.answer import PARTS, Part
from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema
from gpubranches.app.api.searching import ITEM
from gpubranches.app.api.sessions import hold, marks
from gpubranches.app.asking import desk
from gpubranches.errors import UsageError
from gpubranches.export import BOX_FORMATS, ITEM_FORMATS, export_boxes
from gpubranches.results import TIERS

if TYPE_CHECKING:
    from gpubranches.desk import Desk
    from gpubranches.results import Ranking

_AT_ONCE = 10_000
"""Items whose columns are in memory while all are sent."""
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
_FILES = {
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "sql": "application/sql",
}


def _media(formats: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_FILES.get(name, "application/octet-stream") for name in formats)


@operation("GET", "/sessions/{session}/results", query=_SLICE, answer=_PAGE)
def results(session: str, tier: str, offset: int, limit: int) -> dict[str, Any]:
    """Tell one page of the items that match, best first; items deleted since are left out of their page."""
    part = _part(session, tier)
    return {
        "total": len(part),
        "offset": offset,
        "results": list(_matches(desk(), part.ranking, part.rows[offset : offset + limit])),
    }


@operation("GET", "/sessions/{session}/results.jsonl", query=_TIER, media=("application/jsonl",))
def results_lines(session: str, tier: str) -> Response:
    """Send all items that match, best first, one JSON object a line."""
    at, listed = desk(), _part(session, tier)

    def lines() -> Iterator[str]:
        for start in range(0, len(listed), _AT_ONCE):
            with at.following.reading():
                some = list(_matches(at, listed.ranking, listed.rows[start : start + _AT_ONCE]))
            yield from (json.dumps(match) + "\n" for match in some)

    return Response(lines(), mimetype="application/jsonl")


@operation(
    "GET",
    "/sessions/{session}/matches.{format}",
    places={"format": {"type": "string", "enum": list(ITEM_FORMATS)}},
    media=_media(ITEM_FORMATS),
)
def export_matches(session: str, format: str) -> Response:
    """Send the items that match as a file."""
    with hold(session) as held:
        return _file(f"matches.{format}", held.export)


@operation(
    "GET",
    "/sessions/{session}/boxes.{format}",
    places={"format": {"type": "string", "enum": list(BOX_FORMATS)}},
    media=_media(BOX_FORMATS),
)
def export_model(session: str, format: str) -> Response:
    """Send the boxes of the last refine as a file."""
    with hold(session) as held:
        boxes, min_votes = held.boxes, held.min_votes
    if boxes is None:
        raise UsageError("expected a refine by a model of boxes before this, got none; mark items and refine first")
    return _file(f"boxes.{format}", lambda path: export_boxes(boxes, path, min_votes=min_votes))


@operation("GET", "/sessions/{session}/items/{item}/explanation", answer={"type": "object", "required": ["verdict"]})
def explanation(session: str, item: int) -> dict[str, Any]:
    """Tell why an item is in the last answer or is not: the boxes that hold it, and those it nearly is in."""
    with hold(session) as held:
        return held.explain(item).to_json()


def _part(session: str, name: str) -> Part:
    with marks(session) as held:
        return held.part(name)


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


def _file(name: str, write: Callable[[Path], object]) -> Response:
    """Send what `write` puts into a file of that name; the file is gone when the response is."""
    with tempfile.TemporaryDirectory(prefix="gpubranches-") as folder:
        path = Path(folder) / name
        write(path)
        media = _FILES.get(path.suffix[1:], "application/octet-stream")
        return send_file(path.open("rb"), media, as_attachment=True, download_name=name)
