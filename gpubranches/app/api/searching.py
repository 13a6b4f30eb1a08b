"""Operations that need no session: what is served, and the nearest items of anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from werkzeug.exceptions import NotFound

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema
from gpubranches.app.request_values import desk
from gpubranches.catalog.metadata.conditions import KINDS, MAX_LENGTH, column_text, value_condition
from gpubranches.catalog.metadata.tables import json_value
from gpubranches.catalog.pictures.decoding import decoded_upload
from gpubranches.core.options import MODELS
from gpubranches.service.export import BOX_FORMATS, FORMATS

if TYPE_CHECKING:
    from gpubranches.retrieval.hits import Hits

MOST = 10_000
"""Nearest items of one search."""
UPLOAD_BYTES = 20 << 20
PICTURES = ("image/jpeg", "image/png", "image/webp", "image/gif", "application/octet-stream")

K: Schema = {"type": "integer", "minimum": 1, "maximum": MOST, "default": 100, "description": "How many items."}
WHERE: Schema = {
    "type": "string",
    "maxLength": MAX_LENGTH,
    "minLength": 1,
    "description": "A condition over the columns of the items, such as caption LIKE '%dog%' AND label IN (1, 2).",
}
ITEM: Schema = {"type": "object", "required": ["id"], "properties": {"id": ID}, "description": "An item's columns."}
NEAREST: Schema = {
    "type": "object",
    "required": ["source", "took_ms", "items"],
    "properties": {
        "source": {"type": "string", "description": "What answered."},
        "took_ms": {"type": "number", "minimum": 0},
        "items": {
            "type": "array",
            "description": "Nearest first.",
            "items": {
                "type": "object",
                "required": ["id", "distance", "item"],
                "properties": {"id": ID, "distance": {"type": "number"}, "item": ITEM},
            },
        },
    },
}
_QUERY: Schema = {
    "type": "object",
    "oneOf": [{"required": [name]} for name in ("text", "item", "vector", "code")],
    "properties": {
        "text": {
            "type": "string",
            "minLength": 1,
            "maxLength": 10_000,
            "description": "Words, or terms added and subtracted, such as dog + #17 - sketch.",
        },
        "item": ID,
        "vector": {
            "type": "array",
            "items": {"type": "number", "minimum": -1e6, "maximum": 1e6},
            "minItems": 1,
            "maxItems": 4096,
            "description": "An image embedding of the catalog's D numbers.",
        },
        "code": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 255},
            "minItems": 1,
            "maxItems": 1024,
            "description": "A code of the catalog's d numbers.",
        },
        "k": K,
        "where": WHERE,
    },
}
_COLUMNS: Schema = {
    "type": "object",
    "required": ["columns"],
    "properties": {
        "columns": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "kind", "values"],
                "properties": {
                    "name": {"type": "string", "description": "As it is written in a condition."},
                    "kind": {"type": "string", "enum": list(KINDS)},
                    "values": {
                        "type": "array",
                        "description": "The most frequent ones first; none where the column holds many.",
                        "items": {
                            "type": "object",
                            "required": ["value", "count", "condition"],
                            "properties": {
                                "count": {"type": "integer", "minimum": 1},
                                "condition": {"type": "string", "description": "What lets these items in."},
                            },
                        },
                    },
                },
            },
        }
    },
}
_COUNT: Schema = {
    "type": "object",
    "required": ["count", "of"],
    "properties": {
        "count": {"type": "integer", "minimum": 0, "description": "Items that the condition lets in."},
        "of": {"type": "integer", "minimum": 0, "description": "Items of the catalog."},
    },
}
_HEALTH: Schema = {
    "type": "object",
    "required": ["status", "items", "generation", "backend"],
    "properties": {
        "status": {"type": "string", "enum": ["ok"]},
        "items": {"type": "integer", "minimum": 0},
        "generation": {"type": "integer", "minimum": 0},
        "backend": {"type": "string"},
    },
}


@operation("GET", "/health", answer=_HEALTH)
def health() -> dict[str, Any]:
    """Tell that the server answers, over what and by what."""
    catalog = desk().catalog
    return {"status": "ok", "items": catalog.n, "generation": catalog.generation, "backend": desk().backend.name}


@operation("GET", "/catalog", answer={"type": "object", "required": ["n", "d", "D", "models", "item_formats"]})
def catalog_info() -> dict[str, Any]:
    """Tell what the catalog holds, and which models and formats can be asked for."""
    at = desk()
    told = {name: value for name, value in at.catalog.info().items() if name != "path"}
    return {
        **told,
        "embedder": at.catalog.embedder.partition(":")[0],
        "backend": at.backend.name,
        "texts": at.embedder is not None,
        "models": list(MODELS),
        "item_formats": list(FORMATS),
        "box_formats": list(BOX_FORMATS),
    }


@operation("GET", "/items/{item}", answer=ITEM)
def item_info(item: int) -> dict[str, Any]:
    """Tell the columns of an item."""
    row = desk().item(item)
    if row is None:
        raise NotFound(f"there is no item {item}")
    return row


@operation("GET", "/columns", answer=_COLUMNS)
def columns() -> dict[str, Any]:
    """Tell the columns that conditions can be about, and the most frequent values of those that hold few."""
    return {
        "columns": [
            {
                "name": column_text(column.name),
                "kind": column.kind,
                "values": [
                    {"value": json_value(value), "count": count, "condition": value_condition(column.name, value)}
                    for value, count in column.values
                ],
            }
            for column in desk().catalog.described_columns()
        ]
    }


@operation("GET", "/count", query={"where": WHERE}, answer=_COUNT)
def count(where: str | None = None) -> dict[str, Any]:
    """Tell how many items a condition lets in."""
    catalog = desk().catalog
    return {"count": catalog.count(None if where is None else catalog.where(where)), "of": catalog.n}


@operation("POST", "/search", body=_QUERY, answer=NEAREST)
def search(body: dict[str, Any]) -> dict[str, Any]:
    """Find the items nearest to a text, an item, an embedding or a code."""
    searcher, k, where = desk().searcher, body["k"], body.get("where")
    if "text" in body:
        return nearest(lambda: searcher.search(body["text"], k, where=where))
    if "item" in body:
        return nearest(lambda: searcher.search(body["item"], k, where=where))
    name, kind = ("vector", np.float32) if "vector" in body else ("code", np.uint8)
    vector: NDArray[Any] = np.array(body[name], kind)
    return nearest(lambda: searcher.search(vector, k, where=where))


@operation("POST", "/search/image", raw=(PICTURES, UPLOAD_BYTES), query={"k": K, "where": WHERE}, answer=NEAREST)
def search_image(body: bytes, k: int, where: str | None = None) -> dict[str, Any]:
    """Find the items nearest to a picture, sent as it is: JPEG, PNG, WebP or GIF, at most 20 MiB and 50 megapixels."""
    with decoded_upload(body) as image:
        return nearest(lambda: desk().searcher.search(image, k, where=where))


def nearest(find: Callable[[], Hits]) -> dict[str, Any]:
    """Return what `find` finds, with the items' columns."""
    start = time.perf_counter()
    found = find()
    took_ms = (time.perf_counter() - start) * 1000
    rows = zip(found, found.items(), strict=True)
    items = [{"id": hit.id, "distance": hit.distance, "item": row} for hit, row in rows]
    return {"source": found.source, "took_ms": took_ms, "items": items}
