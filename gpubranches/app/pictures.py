"""The pictures of items, as thumbnails, and what is known of an item."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, render_template, request
from werkzeug.exceptions import NotFound

from gpubranches.app.asking import desk
from gpubranches.desk import caption
from gpubranches.errors import DataError
from gpubranches.thumbnails import version

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
    return make_response(render_template("_details.html", item=row, caption=caption(row)))
