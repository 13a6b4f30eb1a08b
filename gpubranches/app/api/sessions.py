"""Sessions: create, describe, list, delete."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gpubranches.app.api.operations import SESSION, operation
from gpubranches.app.api.schema import Schema, array, record
from gpubranches.app.app_context import service
from gpubranches.core.results import TIERS

if TYPE_CHECKING:
    from gpubranches.core.results import Interval
    from gpubranches.service.types import SessionState

_COUNT: Schema = {"type": "integer", "minimum": 0}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
INTERVAL: Schema = {
    **record(dict.fromkeys(("low", "middle", "high"), _SHARE), "A 90% interval, null where none is estimated."),
    "type": ["object", "null"],
}
_CHANGES = ("new", "gone")


def _counts(names: tuple[str, ...], description: str) -> Schema:
    return {**record(dict.fromkeys(names, _COUNT), description), "type": ["object", "null"]}


ANSWER = record(
    {
        "total": {**_COUNT, "description": "Items of the whole catalog that match under the marks there are now."},
        "tiers": _counts(TIERS, "What matches by its chance to be right, null where no chance is estimated."),
        "changes": _counts(_CHANGES, "Against what matched in the round before, null in the first."),
        "candidates": {**_COUNT, "description": "Items that the first stage found."},
        "threshold": {"type": ["number", "null"], "description": "The score from which items match."},
        "lean": {"type": "number", "minimum": -1, "maximum": 1},
        "precision": INTERVAL,
        "recall": INTERVAL,
        "source": {"type": "string", "description": "The stages that answered."},
        "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "What the last refine found.",
)
SESSION_STATE = record(
    {
        "session": SESSION,
        "name": {"type": "string"},
        "seed": {"type": "integer"},
        "positive": {**_COUNT, "description": "Items marked right."},
        "negative": {**_COUNT, "description": "Items marked wrong."},
        "answer": {"anyOf": [ANSWER, {"type": "null"}]},
    }
)
_LISTED = record(
    {
        "sessions": array(
            record(
                {
                    "session": {"type": "string"},
                    "name": {"type": "string"},
                    "positive": _COUNT,
                    "negative": _COUNT,
                    "used_s": {"type": "number", "description": "When it was used last, seconds since 1970."},
                }
            )
        )
    }
)
_NEW: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 200, "default": ""},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
    },
}


@operation(
    "GET",
    "/sessions",
    query={"limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200}},
    answer=_LISTED,
)
def sessions(limit: int) -> dict[str, Any]:
    """List the sessions that have a name or a mark, the last used first."""
    return {
        "sessions": [
            {
                "session": record.session,
                "name": record.name,
                "positive": record.positive,
                "negative": record.negative,
                "used_s": record.used_s,
            }
            for record in service().sessions.records(limit)
        ]
    }


@operation("POST", "/sessions", body=_NEW, answer=SESSION_STATE, status=201)
def begin(body: dict[str, Any]) -> dict[str, Any]:
    """Create a session. The same marks and seed give the same answers."""
    return session_info(service().sessions.create(**body))


@operation("GET", "/sessions/{session}", answer=SESSION_STATE)
def session_info(session: str) -> dict[str, Any]:
    """Return how many marks a session has, and the figures of its last answer."""
    state = service().sessions.state(session)
    return {
        "session": session,
        "name": state.record.name,
        "seed": state.seed,
        "positive": state.positive,
        "negative": state.negative,
        "answer": None if state.answer is None else answer_figures(state),
    }


@operation("DELETE", "/sessions/{session}", media=(), status=204)
def delete(session: str) -> str:
    """Delete a session with its marks, for good."""
    service().sessions.delete(session)
    return ""


def answer_figures(state: SessionState) -> dict[str, Any]:
    """Return the figures of a session's last answer, as ANSWER. Raises UsageError before a find all."""
    answer = state.last_answer()
    ranking, parts = answer.current, answer.parts
    return {
        "total": ranking.total,
        "tiers": None if ranking.tiers is None else {name: len(parts[name]) for name in TIERS},
        "changes": None if state.changes is None else dict(zip(_CHANGES, state.changes, strict=True)),
        "candidates": ranking.candidates,
        "threshold": ranking.threshold if math.isfinite(ranking.threshold) else None,
        "lean": ranking.lean,
        "precision": interval(ranking.precision),
        "recall": interval(ranking.recall),
        "source": ranking.source,
        "timings_ms": ranking.timings_ms,
    }


def interval(estimate: Interval | None) -> dict[str, float] | None:
    """Return an interval in the form of the schema INTERVAL."""
    return None if estimate is None else dict(zip(("low", "middle", "high"), estimate, strict=True))
