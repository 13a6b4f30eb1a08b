"""Operations without a session: the served catalog, its items, and nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from flask import Response
from numpy.typing import NDArray
from werkzeug.exceptions import NotFound

from gpubranches.app.api.operations import ID, operation
from gpubranches.app.api.schema import Schema, array, record
from gpubranches.app.app_context import service
from gpubranches.app.export_routes import send_original
from gpubranches.catalog.metadata.conditions import KINDS, MAX_LENGTH, column_text, value_condition
from gpubranches.catalog.metadata.tables import json_value
from gpubranches.catalog.pictures.decoding import decoded_upload
from gpubranches.catalog.pictures.formats import FORMATS as PICTURE_FORMATS
from gpubranches.core.options import MODELS
from gpubranches.encoders.joint import split
from gpubranches.service.export import BOX_FORMATS, formats_of
from gpubranches.service.types import SearchRequest
from gpubranches.service.uploads import MEDIA_TYPES, MOST_BYTES

MOST = 10_000
"""Nearest items of one search."""

K: Schema = {"type": "integer", "minimum": 1, "maximum": MOST, "default": 100, "description": "How many items."}
WHERE: Schema = {
    "type": "string",
    "maxLength": MAX_LENGTH,
    "minLength": 1,
    "description": "A condition over the columns of the items, such as caption LIKE '%dog%' AND label IN (1, 2).",
}
ITEM: Schema = {"type": "object", "required": ["id"], "properties": {"id": ID}, "description": "An item's columns."}
NEAREST = record(
    {
        "source": {"type": "string", "description": "What answered."},
        "took_ms": {"type": "number", "minimum": 0},
        "items": array(record({"id": ID, "distance": {"type": "number"}, "item": ITEM}), "Nearest first."),
    }
)
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
_VALUE: Schema = {
    "type": "object",
    "required": ["value", "count", "condition"],
    "properties": {
        "count": {"type": "integer", "minimum": 1},
        "condition": {"type": "string", "description": "What lets these items in."},
    },
}
_COLUMN = record(
    {
        "name": {"type": "string", "description": "As it is written in a condition."},
        "kind": {"type": "string", "enum": list(KINDS)},
        "values": array(_VALUE, "The most frequent ones first; none where the column holds many."),
    }
)
_COLUMNS = record({"columns": array(_COLUMN)})
_COUNT = record(
    {
        "count": {"type": "integer", "minimum": 0, "description": "Items that the condition lets in."},
        "of": {"type": "integer", "minimum": 0, "description": "Items of the catalog."},
    }
)
_HEALTH = record(
    {
        "status": {"type": "string", "enum": ["ok"]},
        "items": {"type": "integer", "minimum": 0},
        "generation": {"type": "integer", "minimum": 0},
        "backend": {"type": "string"},
    }
)


@operation("GET", "/health", answer=_HEALTH)
def health() -> dict[str, Any]:
    """Report that the server answers, the number of items, the generation and the backend."""
    catalog = service().catalog
    return {"status": "ok", "items": catalog.n, "generation": catalog.generation, "backend": service().backend.name}


@operation("GET", "/catalog", answer={"type": "object", "required": ["n", "d", "D", "models", "item_formats"]})
def catalog_info() -> dict[str, Any]:
    """Return what the catalog holds, and the available models and formats."""
    catalog = service().catalog
    kinds = [spec.partition(":")[0] for spec in split(catalog.embedder)]
    return {
        **{name: value for name, value in catalog.info().items() if name != "path"},
        "embedder": kinds[0] if len(kinds) == 1 else kinds,
        "backend": service().backend.name,
        "texts": service().reads_texts,
        "models": list(MODELS),
        "item_formats": list(formats_of(catalog)),
        "box_formats": list(BOX_FORMATS),
    }


@operation("GET", "/items/{item}", answer=ITEM)
def item_info(item: int) -> dict[str, Any]:
    """Return the columns of an item."""
    row = service().item(item)
    if row is None:
        raise NotFound(f"there is no item {item}")
    return row


@operation("GET", "/items/{item}/picture", media=tuple(f"image/{format.lower()}" for format in PICTURE_FORMATS))
def item_picture(item: int) -> Response:
    """Send the original picture of an item."""
    return send_original(item, download=True)


@operation("GET", "/columns", answer=_COLUMNS)
def columns() -> dict[str, Any]:
    """Return the columns that conditions can use, and the most frequent values of columns with few distinct ones."""
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
            for column in service().columns()
        ]
    }


@operation("GET", "/count", query={"where": WHERE}, answer=_COUNT)
def count(where: str = "") -> dict[str, Any]:
    """Return how many items meet a condition."""
    return {"count": service().count(where), "of": service().catalog.n}


@operation("POST", "/search", body=_QUERY, answer=NEAREST)
def search(body: dict[str, Any]) -> dict[str, Any]:
    """Find the items nearest to a text, an item, an embedding or a code."""
    return _nearest(SearchRequest(_query(body), body["k"], body.get("where")))


@operation("POST", "/search/image", raw=(MEDIA_TYPES, MOST_BYTES), query={"k": K, "where": WHERE}, answer=NEAREST)
def search_image(body: bytes, k: int, where: str | None = None) -> dict[str, Any]:
    """Find the items nearest to the picture in the body: JPEG, PNG, WebP or GIF, at most 20 MiB and 50 megapixels."""
    with decoded_upload(body) as image:
        return _nearest(SearchRequest(image, k, where))


def _query(body: dict[str, Any]) -> str | int | NDArray[Any]:
    if "text" in body:
        return str(body["text"])
    if "item" in body:
        return int(body["item"])
    return np.array(body["vector"], np.float32) if "vector" in body else np.array(body["code"], np.uint8)


def _nearest(request: SearchRequest) -> dict[str, Any]:
    found = service().nearest(request)
    rows = zip(found.hits, found.hits.items(), strict=True)
    items = [{"id": hit.id, "distance": hit.distance, "item": row} for hit, row in rows]
    return {"source": found.hits.source, "took_ms": found.took_ms, "items": items}
