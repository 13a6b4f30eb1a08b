"""Pictures: thumbnails of items, the columns of an item, and pictures that are uploaded to search by."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.exceptions import NotFound, UnsupportedMediaType

from gpubranches.app.app_context import service, thumbnails
from gpubranches.app.export_routes import send_original
from gpubranches.app.language import texts
from gpubranches.app.request_values import session_id
from gpubranches.app.views import shortened, tile
from gpubranches.errors import DataError, UsageError
from gpubranches.service.thumbnails import version
from gpubranches.service.uploads import MEDIA_TYPES, MOST_BYTES
from gpubranches.service.video_frames import frames_around
from gpubranches.service.wording import caption

THUMBNAIL_SIZES = {"small": 320, "large": 1280}
FRAMES_EACH_SIDE = 4
MOST_ID = 2**62

routes = Blueprint("pictures", __name__)


@routes.get("/thumbnails/<size>/<int:item>.jpg")
def picture(size: str, item: int) -> Response:
    """Send the picture of an item as JPEG, small or large; 404 for an item without a readable one.

    If the address has the picture's version in `v`, a browser may cache it forever, because another picture under the
    same id has another version.
    """
    if size not in THUMBNAIL_SIZES or item >= 2**63:
        raise NotFound(f"expected an item and a size of {', '.join(THUMBNAIL_SIZES)}, got {item} and {size!r}")
    row = service().item(item)
    found = None if row is None else service().picture(row)
    current = version(found)
    if found is None or not current:
        raise NotFound(f"item {item} has no picture")
    key = f"{current}-{size}"
    try:
        jpeg = b"" if key in request.if_none_match else thumbnails().get(key, found, THUMBNAIL_SIZES[size])
    except (DataError, OSError) as error:
        raise NotFound(f"item {item} has no readable picture: {error}") from error
    response = Response(jpeg, status=200 if jpeg else 304, mimetype="image/jpeg")
    response.set_etag(key)
    named = request.args.get("v") == current
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable" if named else "private, no-cache"
    return response


@routes.get("/originals/<int:item>")
def original(item: int) -> Response:
    """Send the original picture of an item for display, or, with `download` in the address, as a download.

    404 for an item without one, and for a file of a format that is not decoded here.
    """
    return send_original(item, download="download" in request.args)


@routes.get("/items/<int:item>")
def details(item: int) -> Response:
    """Show the columns of an item."""
    row = service().item(item) if item < 2**63 else None
    if row is None:
        raise NotFound(f"there is no item {item}")
    return make_response(render_template("_details.html", item=row, caption=shortened(caption(texts(), row))))


@routes.get("/items/<int:item>/frames")
def frames(item: int) -> Response:
    """Show a frame of a video among those before and after it; an empty answer for an item that is no frame."""
    found = frames_around(service().catalog, item, FRAMES_EACH_SIDE) if item < MOST_ID else []
    shown = [tile(row, 0, "") for row in found]
    return make_response(render_template("_frames.html", frames=shown, item=item) if shown else "")


@routes.post("/pictures")
def send() -> dict[str, Any]:
    """Store the picture in the request body for searches: its embedding and a thumbnail.

    The response has its `name` for queries, as picture:NAME.
    """
    if request.mimetype not in MEDIA_TYPES:
        raise UnsupportedMediaType(f"expected a JPEG, PNG, WebP or GIF, got {request.mimetype!r:.80}")
    service().require_picture_reader()
    request.max_content_length = MOST_BYTES
    return {"name": service().upload(session_id(), request.get_data(cache=False))}


@routes.get("/pictures/<name>.jpg")
def sent(name: str) -> Response:
    """Send the thumbnail of a picture that was uploaded to this session."""
    try:
        upload = service().uploaded(session_id(), name)
    except UsageError as error:
        raise NotFound(str(error)) from error
    response = Response(upload.thumbnail, mimetype="image/jpeg")
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return response
