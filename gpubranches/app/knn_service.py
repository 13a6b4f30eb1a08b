"""The HTTP interface of clip-retrieval's back end, so that its clients can search a catalog served here.

It is described by https://github.com/rom1504/clip-retrieval (clip_client.py). Unknown fields are ignored, as there. A
catalog has no aesthetic scores and no models of safety and violence, so fields that ask for them are ignored, too, as
clip-retrieval does if it has not loaded them.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.exceptions import UnsupportedMediaType

from gpubranches.app.api.schema import Schema, check, parse
from gpubranches.app.api.search import MOST
from gpubranches.app.app_context import service
from gpubranches.catalog.metadata.columns import url_of
from gpubranches.catalog.pictures.decoding import decoded_upload
from gpubranches.errors import UsageError
from gpubranches.retrieval.hits import Hits
from gpubranches.retrieval.near_duplicates import without_near_duplicates
from gpubranches.retrieval.queries import Words
from gpubranches.service.texts import texts_in
from gpubranches.service.types import SearchRequest
from gpubranches.service.uploads import MOST_BYTES
from gpubranches.service.wording import caption

_ID: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_KNN: dict[str, Schema] = {
    "text": {"type": "string", "maxLength": 10_000},
    "image": {"type": "string"},
    "image_url": {"type": "string"},
    "embedding_input": {
        "type": "array",
        "items": {"type": "number", "minimum": -1e6, "maximum": 1e6},
        "minItems": 1,
        "maxItems": 4096,
    },
    "modality": {"type": "string", "enum": ["image"], "default": "image"},
    "num_images": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 100},
    "num_result_ids": {"type": "integer", "minimum": 1, "maximum": MOST},
    "indice_name": {"type": "string"},
    "use_mclip": {"type": "boolean", "default": False},
    "deduplicate": {"type": "boolean", "default": False},
}
_METADATA: dict[str, Schema] = {
    "ids": {"type": "array", "items": _ID, "minItems": 0, "maxItems": MOST},
    "indice_name": {"type": "string"},
}

routes = Blueprint("knn_service", __name__)


@routes.get("/indices-list")
def indices() -> Response:
    """Return the names of what can be searched: the one catalog."""
    return jsonify([_name()])


@routes.post("/knn-service")
def knn() -> Response:
    """Return the nearest items: num_result_ids of them, the first num_images with caption and url."""
    asked = _asked(_KNN)
    if asked["use_mclip"]:
        raise UsageError(
            "use_mclip: expected no multilingual model, because the catalog has only its own text model; leave it out"
        )
    shown = asked["num_images"]
    count = max(shown, asked.get("num_result_ids", shown))
    found = _nearest(asked, count)
    ids, similar = found.ids, 1 - found.distances
    if asked["deduplicate"]:
        kept = without_near_duplicates(service().catalog, ids)
        ids, similar = ids[kept], similar[kept]
    rows = service().items(ids[:shown])
    shown_items = [{**_described(row), "similarity": float(similar[place])} for place, row in enumerate(rows)]
    rest = zip(ids[shown:].tolist(), similar[shown:].tolist(), strict=True)
    return jsonify([*shown_items, *({"id": item, "similarity": likeness} for item, likeness in rest)])


@routes.post("/metadata")
def metadata() -> Response:
    """Return the columns of items."""
    asked = _asked(_METADATA)
    if "ids" not in asked:
        raise UsageError("ids: expected a list of ids, got none")
    rows = service().items(asked["ids"])
    return jsonify([{"id": row["id"], "metadata": row} for row in rows])


def _asked(fields: dict[str, Schema]) -> dict[str, Any]:
    """Return the known fields of the body that are not null. Content-Type may be missing, as some clients send none."""
    if request.mimetype not in ("", "application/json"):
        raise UnsupportedMediaType(f"expected Content-Type application/json, got {request.mimetype!r:.80}")
    request.max_content_length = MOST_BYTES * 4 // 3 + (1 << 16)
    body = parse(request.get_data(cache=False))
    if not isinstance(body, dict):
        raise UsageError("body: expected an object, got another value")
    given = {name: value for name, value in body.items() if name in fields and value is not None}
    asked: dict[str, Any] = check({"type": "object", "properties": fields}, given, "body")
    if asked.get("indice_name", _name()) != _name():
        raise UsageError(f"indice_name: expected {_name()}, got {asked['indice_name']!r:.80}; see /indices-list")
    return asked


def _nearest(asked: dict[str, Any], count: int) -> Hits:
    if asked.get("text"):
        return service().nearest(SearchRequest(Words(asked["text"]), count)).hits
    if asked.get("image"):
        with decoded_upload(_decoded(asked["image"])) as image:
            return service().nearest(SearchRequest(image, count)).hits
    if "embedding_input" in asked:
        return service().nearest(SearchRequest(np.array(asked["embedding_input"], np.float32), count)).hits
    if "image_url" in asked:
        raise UsageError("image_url: this server does not fetch URLs; send the picture itself as image")
    raise UsageError("expected one of text, image and embedding_input, got none")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"image: expected a picture in base64: {error}") from error


def _described(row: dict[str, Any]) -> dict[str, Any]:
    """Return an item in the clients' format: with its url column, or with the address of its picture on this server."""
    described = {"id": row["id"], "caption": caption(texts_in(), row)}
    url = url_of(row)
    if url is not None:
        return {**described, "url": url}
    if service().picture(row) is not None:
        return {**described, "url": url_for("pictures.picture", size="large", item=row["id"], _external=True)}
    return described


def _name() -> str:
    return service().catalog.path.resolve().name
