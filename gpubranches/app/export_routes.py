"""Downloads of what was found, made while they are sent."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from gpubranches.app.app_context import limits, service
from gpubranches.app.request_values import session_id
from gpubranches.service.export import BOX_FORMATS, FORMATS
from gpubranches.service.types import Download

routes = Blueprint("export", __name__)


@routes.get("/export/matches.<format>")
def export_matches(format: str) -> Response:
    """Send what the last find all matched, or the part `tier` of its answer, in one of FORMATS."""
    if format not in FORMATS:
        raise NotFound(f"expected one of {', '.join(FORMATS)}, got {format!r}")
    return send(service().export(session_id(), format, request.args.get("tier") or "all"), session_id())


@routes.get("/export/boxes.<format>")
def export_boxes(format: str) -> Response:
    """Send the boxes of the last find all in one of BOX_FORMATS."""
    if format not in BOX_FORMATS:
        raise NotFound(f"expected one of {', '.join(BOX_FORMATS)}, got {format!r}")
    return send(service().export_boxes(session_id(), format), session_id())


def send(file: Download, session: str) -> Response:
    """Return a response that sends a file. Raises TooManyError as `Limits.download` does."""
    content = file.content
    if not isinstance(content, bytes):
        content = limits().download(content, session, str(request.remote_addr))
    response = Response(content, mimetype=file.media_type)
    response.headers.set("Content-Disposition", "attachment", filename=file.name)
    return response
