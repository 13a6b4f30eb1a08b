"""Finding all, cutting anew, what to mark next, and how complete the answer is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema
from gpubranches.app.api.searching import ITEM, WHERE
from gpubranches.app.api.sessions import ANSWER, INTERVAL, hold, interval, told
from gpubranches.app.limits import training
from gpubranches.app.request_values import desk
from gpubranches.core.options import (
    LEAST_WEIGHT,
    MODELS,
    MOST_RANDOM_NEGATIVES,
    MOST_WEIGHT,
    NEGATIVE_WEIGHT,
    RANDOM_NEGATIVES,
)
from gpubranches.retrieval.completeness import AUDITED
from gpubranches.retrieval.queries import LONGEST
from gpubranches.service.target import KINDS, TARGET

_LEAN: Schema = {
    "type": "number",
    "minimum": -1,
    "maximum": 1,
    "default": 0,
    "description": "Where the list is cut: -1 for precision, 0 the model's own cut, 1 for recall.",
}
_QUERY: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST,
    "description": "What was asked for, as in a search: its words help as far as the marks agree.",
}
_REFINE: Schema = {
    "type": "object",
    "properties": {
        "model": {"type": "string", "enum": list(MODELS), "default": MODELS[0]},
        "second_stage": {
            "type": "boolean",
            "description": "Rank by a linear model on the embeddings; by default wherever the catalog has them.",
        },
        "random_negatives": {
            "type": "integer",
            "minimum": 0,
            "maximum": MOST_RANDOM_NEGATIVES,
            "default": RANDOM_NEGATIVES,
            "description": "Items drawn from the catalog that serve as wrong unchecked, at most a tenth of it.",
        },
        "negative_weight": {
            "type": "number",
            "minimum": LEAST_WEIGHT,
            "maximum": MOST_WEIGHT,
            "default": NEGATIVE_WEIGHT,
            "description": "What an item marked wrong counts in the second stage, in random negatives.",
        },
        "lean": _LEAN,
        "where": WHERE,
        "query": _QUERY,
    },
}
_RECUT: Schema = {"type": "object", "required": ["lean"], "properties": {"lean": _LEAN}}
COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 1000, "default": AUDITED}
_COUNT: Schema = {"type": "object", "properties": {"count": COUNT}}
_NEXT: Schema = {
    "type": "object",
    "properties": {
        "target_recall": {
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
            "default": TARGET,
            "description": "The share of all that is right that is to be found.",
        },
        "count": COUNT,
    },
}
_ITEMS: Schema = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {
            "type": "array",
            "items": {"type": "object", "required": ["id", "item"], "properties": {"id": ID, "item": ITEM}},
        }
    },
}
_STEP: Schema = {
    "type": "object",
    "required": ["kind", "recall", "items"],
    "properties": {
        "kind": {
            "type": "string",
            "enum": list(KINDS),
            "description": "suggestion or audit: the origin to mark the items with; reached or exhausted: the end.",
        },
        "recall": INTERVAL,
        **_ITEMS["properties"],
    },
}


@operation("POST", "/sessions/{session}/refine", body=_REFINE, answer=ANSWER)
def refine(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Train a model on the marks and apply it to the whole catalog.

    A session that trains too often is told to wait, with 429 and Retry-After.
    """
    weights = {name: body[name] for name in ("random_negatives", "negative_weight")}
    with training(session), hold(session) as held:
        ranking = held.refine(
            body["model"],
            second_stage=body.get("second_stage"),
            lean=body["lean"],
            where=body.get("where"),
            query=body.get("query"),
            **weights,
        )
        second_stage = not ranking.by_votes
        settings: dict[str, Any] = {"second_stage": second_stage, "lean": ranking.lean, "where": held.where, **weights}
        desk().book.remember(session, model=body["model"], **settings)
        return told(held.last_answer())


@operation("POST", "/sessions/{session}/recut", body=_RECUT, answer=ANSWER)
def recut(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Cut the last refine's list elsewhere, without training."""
    with hold(session) as held:
        ranking = held.recut(body["lean"])
        desk().book.remember(session, lean=ranking.lean)
        return told(held.last_answer())


@operation("GET", "/sessions/{session}/suggestions", query={"count": COUNT}, answer=_ITEMS)
def suggestions(session: str, count: int) -> dict[str, Any]:
    """Tell the unmarked items whose marks would tell most; mark them with the origin "suggestion"."""
    with hold(session) as held:
        return _items(held.suggest(count))


@operation("POST", "/sessions/{session}/audit", body=_COUNT, answer=_ITEMS)
def audit(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Draw items whose marks tell how complete the answer is; mark them with the origin "audit"."""
    with hold(session) as held:
        return _items(held.audit(body["count"]))


@operation("POST", "/sessions/{session}/next", body=_NEXT, answer=_STEP)
def next_step(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Tell what to mark until a share of all that is right is known to be found; refines where marks are to be learnt.

    Mark the items with the kind as origin and ask again, until it is "reached". The cut may move towards recall.
    """
    with training(session), hold(session) as held:
        step = held.next(body["target_recall"], body["count"])
        desk().book.remember(session, lean=held.last_answer().ranking.lean)
        return {"kind": step.kind, "recall": interval(step.recall), **_items(step.ids)}


@operation("POST", "/sessions/{session}/estimate", body={"type": "object"}, answer=ANSWER)
def estimate(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Estimate precision and recall of the answer anew, by the marks made since."""
    with hold(session) as held:
        held.estimate()
        return told(held.last_answer())


def _items(ids: NDArray[np.int64]) -> dict[str, Any]:
    rows = zip(ids.tolist(), desk().catalog.items(ids), strict=True)
    return {"items": [{"id": item, "item": row} for item, row in rows]}
