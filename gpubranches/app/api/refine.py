"""Find all, cut again, propose what to mark next, and estimate how complete the answer is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema, array, record
from gpubranches.app.api.search import ITEM, WHERE
from gpubranches.app.api.sessions import ANSWER, INTERVAL, answer_figures, interval
from gpubranches.app.app_context import limits, service
from gpubranches.core.options import (
    LEAST_WEIGHT,
    MODELS,
    MOST_RANDOM_NEGATIVES,
    MOST_WEIGHT,
    NEGATIVE_WEIGHT,
    RANDOM_NEGATIVES,
    RefineOptions,
)
from gpubranches.retrieval.completeness import AUDITED
from gpubranches.retrieval.queries import LONGEST
from gpubranches.service.target import CHECKS, KINDS, TARGET
from gpubranches.service.types import StepRequest

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
        "checks": {
            "type": "integer",
            "minimum": 0,
            "default": CHECKS,
            "description": "The most random items to look at, to show that nothing unlike the marks is missing.",
        },
    },
}
_ITEMS = record({"items": array(record({"id": ID, "item": ITEM}))})
_STEP = record(
    {
        "kind": {
            "type": "string",
            "enum": list(KINDS),
            "description": "suggestion or audit: the origin to mark the items with. The end: reached, for all right "
            "items; alike, for those that resemble the marks; or exhausted.",
        },
        "recall": INTERVAL,
        "checks": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "Once recall is at the target: how many more random items, all wrong, show the same of all "
            "right items.",
        },
        **_ITEMS["properties"],
    }
)


@operation("POST", "/sessions/{session}/refine", body=_REFINE, answer=ANSWER)
def refine(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Train a model on the marks and apply it to the whole catalog.

    A session that trains too often gets status 429 with Retry-After.
    """
    with limits().train(session):
        return answer_figures(service().find_all(session, RefineOptions(**body)))


@operation("POST", "/sessions/{session}/recut", body=_RECUT, answer=ANSWER)
def recut(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Move the cut of the last refine, without training."""
    return answer_figures(service().recut(session, body["lean"]))


@operation("GET", "/sessions/{session}/suggestions", query={"count": COUNT}, answer=_ITEMS)
def suggestions(session: str, count: int) -> dict[str, Any]:
    """Return the unmarked items whose marks would improve the model most; mark them with the origin "suggestion"."""
    return _items(service().suggest(session, count).ids)


@operation("POST", "/sessions/{session}/audit", body=_COUNT, answer=_ITEMS)
def audit(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Draw items to check how complete the answer is; mark them with the origin "audit"."""
    return _items(service().audit(session, body["count"]).ids)


@operation("POST", "/sessions/{session}/next", body=_NEXT, answer=_STEP)
def next_step(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return what to mark until a share of all right items is known to be found; refines if the model has to learn.

    Mark the items with the kind as origin and call this again, until there are none. The cut may move towards recall.
    """
    with limits().train(session):
        step = service().next_step(session, StepRequest(**body)).step
    return {"kind": step.kind, "recall": interval(step.recall), "checks": step.checks, **_items(step.ids)}


@operation("POST", "/sessions/{session}/estimate", body={"type": "object"}, answer=ANSWER)
def estimate(session: str, body: dict[str, Any]) -> dict[str, Any]:
    """Estimate precision and recall of the answer again, with the newest marks."""
    return answer_figures(service().estimate(session))


def _items(ids: NDArray[np.int64]) -> dict[str, Any]:
    rows = zip(ids.tolist(), service().items(ids), strict=True)
    return {"items": [{"id": item, "item": row} for item, row in rows]}
