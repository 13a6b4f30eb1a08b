"""Pictures: those of items, as thumbnails, with what is known of them, and those that are sent to be searched by."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.exceptions import NotFound, UnsupportedMediaType

from gpubranches.app.api.searching import PICTURES, UPLOAD_BYTES
from gpubranches.app.request_values import desk, session_id
from gpubranches.catalog.pictures.decoding import decoded_upload, small_jpeg
from gpubranches.errors import DataError, UsageError
from gpubranches.retrieval.queries import unit
from gpubranches.service.app_context import caption, shortened
from gpubranches.service.thumbnails import version
from gpubranches.service.uploads import SENT_SIZE

THUMBNAIL_SIZES = {"small": 320, "large": 1280}

routes = Blueprint("pictures", __name__)


@routes.get("/thumbnails/<size>/<int:item>.jpg")
def picture(size: str, item: int) -> Response:
    """Send the picture of an item as JPEG, small or large; 404 for an item without a readable one.

    An address that names the picture's version in `v` may be kept for ever: another catalog, or another picture
    under the same id, has another address.
    """
    if size not in THUMBNAIL_SIZES or item >= 2**63:
        raise NotFound(f"expected an item and a size of {', '.join(THUMBNAIL_SIZES)}, got {item} and {size!r}")
    path = desk().picture_path(item)
    current = version(path)
    if path is None or not current:
        raise NotFound(f"item {item} has no picture")
    key = f"{current}-{size}"
    try:
        jpeg = b"" if key in request.if_none_match else desk().thumbnails.get(key, path, THUMBNAIL_SIZES[size])
    except (DataError, OSError) as error:
        raise NotFound(f"item {item} has no readable picture: {error}") from error
    response = Response(jpeg, status=200 if jpeg else 304, mimetype="image/jpeg")
    response.set_etag(key)
    named = request.args.get("v") == current
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if named else "private, no-cache"
    return response


@routes.get("/items/<int:item>")
def details(item: int) -> Response:
    """Show the columns of an item."""
    row = desk().item(item) if item < 2**63 else None
    if row is None:
        raise NotFound(f"there is no item {item}")
    return make_response(render_template("_details.html", item=row, caption=shortened(caption(row))))


@routes.post("/pictures")
def send() -> dict[str, Any]:
    """Take a picture, sent as it is, to be searched by: what is kept is its embedding and a thumbnail.

    Answers with the `name` that queries call it by, as picture:NAME.
    """
    at = desk()
    if request.mimetype not in PICTURES:
        raise UnsupportedMediaType(f"expected a JPEG, PNG, WebP or GIF, got {request.mimetype!r:.80}")
    if at.embedder is None or not at.embedder.reads_images:
        raise UsageError("the model of this catalog reads no pictures; search by a text or an item")
    request.max_content_length = UPLOAD_BYTES
    session, sent = session_id(), request.get_data(cache=False)
    with decoded_upload(sent) as image:
        embedding, small = unit(at.embedder.images([image]))[0], small_jpeg(image, SENT_SIZE)
    return {"name": at.uploads.keep(session, embedding, small)}


@routes.get("/pictures/<name>.jpg")
def sent(name: str) -> Response:
    """Send the thumbnail of a picture that was sent to the session that asks."""
    try:
        upload = desk().uploads.get(session_id(), name)
    except UsageError as error:
        raise NotFound(str(error)) from error
    response = Response(upload.thumbnail, mimetype="image/jpeg")
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return response
