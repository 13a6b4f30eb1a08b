"""The addresses of clip-retrieval's back end, so that its clients find a catalog served here.

What they ask by: https://github.com/rom1504/clip-retrieval (clip_client.py). Fields that are not known are passed over,
as there. Aesthetic scores and the models of safety and violence are not part of a catalog, so what is asked of them is
passed over, too, as there where they are not loaded.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from flask import Blueprint, Response, jsonify, request, url_for
from numpy.typing import NDArray
from werkzeug.exceptions import UnsupportedMediaType

from gpubranches.app.api.schema import Schema, check, parse
from gpubranches.app.api.searching import MOST, UPLOAD_BYTES
from gpubranches.app.request_values import desk
from gpubranches.catalog.metadata.columns import url_of
from gpubranches.catalog.pictures.decoding import decoded_upload
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.errors import UsageError
from gpubranches.retrieval.hits import Hits
from gpubranches.service.app_context import caption

ALIKE = 0.94
"""Cosine from which two results are the same picture to clip-retrieval."""
_MOST_COMPARED = 2000
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
    """Tell the names of what can be searched: the one catalog."""
    return jsonify([_name()])


@routes.post("/knn-service")
def knn() -> Response:
    """Find the nearest items: num_result_ids of them, the first num_images with what is known of them."""
    asked = _asked(_KNN)
    if asked["use_mclip"]:
        raise UsageError("use_mclip: the catalog has one text model, which is not the multilingual one; leave it out")
    shown = asked["num_images"]
    count = max(shown, asked.get("num_result_ids", shown))
    found = _nearest(asked, count)
    ids, similar = found.ids, 1 - found.distances
    if asked["deduplicate"]:
        kept = _unlike(ids)
        ids, similar = ids[kept], similar[kept]
    rows = desk().catalog.items(ids[:shown])
    told = [{**_told(row), "similarity": float(similar[place])} for place, row in enumerate(rows)]
    rest = zip(ids[shown:].tolist(), similar[shown:].tolist(), strict=True)
    return jsonify([*told, *({"id": item, "similarity": likeness} for item, likeness in rest)])


@routes.post("/metadata")
def metadata() -> Response:
    """Tell the columns of items."""
    asked = _asked(_METADATA)
    if "ids" not in asked:
        raise UsageError("ids: expected a list of ids, got none")
    rows = desk().catalog.items(asked["ids"])
    return jsonify([{"id": row["id"], "metadata": row} for row in rows])


def _asked(fields: dict[str, Schema]) -> dict[str, Any]:
    """Return the fields of the body that are known and not null. Its type may be left out, as clients do."""
    if request.mimetype not in ("", "application/json"):
        raise UnsupportedMediaType(f"expected Content-Type application/json, got {request.mimetype!r:.80}")
    request.max_content_length = UPLOAD_BYTES * 4 // 3 + (1 << 16)
    body = parse(request.get_data(cache=False))
    if not isinstance(body, dict):
        raise UsageError("body: expected an object, got another value")
    given = {name: value for name, value in body.items() if name in fields and value is not None}
    asked: dict[str, Any] = check({"type": "object", "properties": fields}, given, "body")
    if asked.get("indice_name", _name()) != _name():
        raise UsageError(f"indice_name: expected {_name()}, got {asked['indice_name']!r:.80}; see /indices-list")
    return asked


def _nearest(asked: dict[str, Any], count: int) -> Hits:
    searcher = desk().searcher
    if asked.get("text"):
        return searcher.text(asked["text"], count)
    if asked.get("image"):
        with decoded_upload(_decoded(asked["image"])) as image:
            return searcher.image(image, count)
    if "embedding_input" in asked:
        return searcher.vector(np.array(asked["embedding_input"], np.float32), count)
    if "image_url" in asked:
        raise UsageError("image_url: this server fetches nothing from elsewhere; send the picture itself as image")
    raise UsageError("expected one of text, image and embedding_input, got none")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"image: expected a picture in base64: {error}") from error


def _unlike(ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rows of ids that are not alike one before them. The first 2,000 are compared, the rest is kept.

    Items without embeddings are not compared, nor are decoded ones, which have lost what tells neighbours apart.
    """
    if not desk().catalog.stores_embeddings:
        return np.arange(len(ids))
    vectors = desk().catalog.embeddings(ids[:_MOST_COMPARED])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    alike = vectors @ vectors.T >= ALIKE
    kept: list[int] = []
    for row in range(len(vectors)):
        if not alike[row, kept].any():
            kept.append(row)
    return np.append(np.array(kept, np.intp), np.arange(len(vectors), len(ids)))


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """Return an item as clients read it: its url column, else the address of its picture here."""
    told = {"id": row["id"], "caption": caption(row)}
    url = url_of(row)
    if url is not None:
        return {**told, "url": url}
    if image_file(desk().catalog.source, row) is not None:
        return {**told, "url": url_for("pictures.picture", size="large", item=row["id"], _external=True)}
    return told


def _name() -> str:
    return desk().catalog.path.resolve().name
