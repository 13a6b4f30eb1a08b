"""Downloads of matches and models, created while they are sent."""

from __future__ import annotations

import math
import os
from pathlib import Path

from flask import Blueprint, Response, make_response, request, send_file
from markupsafe import escape
from werkzeug.exceptions import NotFound

from gpubranches.app.app_context import limits, service
from gpubranches.app.language import t
from gpubranches.app.request_values import session_id
from gpubranches.errors import BackendUnavailableError, DataError
from gpubranches.service.export import BOX_FORMATS, FORMATS
from gpubranches.service.thumbnails import version
from gpubranches.service.types import Download

routes = Blueprint("export", __name__)


@routes.get("/export/matches.<format>")
def export_matches(format: str) -> Response:
    """Send the matches of the last find all, or the part `tier` of its answer, in one of FORMATS."""
    if format not in FORMATS:
        raise NotFound(f"expected one of {', '.join(FORMATS)}, got {format!r}")
    return send(service().export(session_id(), format, request.args.get("tier") or "all"), session_id())


@routes.get("/export/boxes.<format>")
def export_boxes(format: str) -> Response:
    """Send the boxes of the last find all in one of BOX_FORMATS."""
    if format not in BOX_FORMATS:
        raise NotFound(f"expected one of {', '.join(BOX_FORMATS)}, got {format!r}")
    return send(service().export_boxes(session_id(), format), session_id())


@routes.get("/export/zip")
def zip_size() -> Response:
    """Return how many pictures a ZIP file of the part `tier` would contain, its approximate size, and the limit."""
    estimate = service().estimate_zip(session_id(), request.args.get("tier") or "all")
    size_mb = math.ceil(estimate.bytes / 1e6)
    if estimate.pictures > estimate.most:
        told = t("zip-too-many", pictures=estimate.pictures, most=estimate.most)
    else:
        told = t("zip-size", pictures=estimate.pictures, megabytes=size_mb)
    return make_response(escape(told))


def send(file: Download, session: str) -> Response:
    """Return a response that sends a file. Raises TooManyError like `Limits.download`."""
    content = file.content
    if not isinstance(content, bytes):
        content = limits().download(content, session, str(request.remote_addr))
    response = Response(content, mimetype=file.media_type)
    response.headers.set("Content-Disposition", "attachment", filename=file.name)
    return response


def send_original(item: int, *, download: bool) -> Response:
    """Return a response with the original picture of an item; a separate file can be sent in parts (Range)."""
    try:
        found = service().original(item)
        picture = found.picture
        content = picture.path if picture.is_file and isinstance(picture.path, Path) else picture.open()
        response = send_file(
            content,
            found.media_type,
            as_attachment=download,
            download_name=found.name,
            conditional=True,
            etag=version(picture),
        )
    except (DataError, BackendUnavailableError, OSError) as error:  # the file may be removed meanwhile
        raise NotFound(f"item {item} has no picture that can be sent") from error
    if not isinstance(content, Path) and response.status_code == 200:
        response.content_length = content.seek(0, os.SEEK_END)
        content.seek(0)
    if not download:
        response.headers.set("Content-Disposition", "inline", filename=found.name)
    response.headers["Cache-Control"] = "private, no-cache"
    # Nothing in a picture can load or run anything, even if a browser shows it as a page.
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return response
