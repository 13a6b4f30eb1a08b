"""Taking away what was found, as files that are sent while they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from gpubranches.app.limits import sending
from gpubranches.app.request_values import desk, marks_held
from gpubranches.errors import UsageError
from gpubranches.service.export import BOX_FORMATS, FORMATS, Format

if TYPE_CHECKING:
    from gpubranches.service import Session

routes = Blueprint("exporting", __name__)


@routes.get("/export/matches.<format>")
def export_matches(format: str) -> Response:
    """Send the matched items of the last find all, or the part `tier` of its answer, in one of `FORMATS`."""
    if format not in FORMATS:
        raise NotFound(f"expected one of {', '.join(FORMATS)}, got {format!r}")
    with marks_held() as session:
        return matches_file(session, format, request.args.get("tier") or "all")


@routes.get("/export/boxes.<format>")
def export_model(format: str) -> Response:
    """Send the boxes of the last find all in one of `BOX_FORMATS`."""
    if format not in BOX_FORMATS:
        raise NotFound(f"expected one of {', '.join(BOX_FORMATS)}, got {format!r}")
    with marks_held() as session:
        return boxes_file(session, format)


def matches_file(session: Session, format: str, part: str) -> Response:
    """Return an answer that sends a part of what was found; what is sent later needs the session no more.

    Raises UsageError as `Session.part` does, and for a format that these items cannot have; TooManyError as `sending`.
    """
    chosen, table = FORMATS[format], session.part(part).table(reading=desk().following.reading)
    chunks = sending(chosen.write(table), session.labels.session)
    return _attachment("matches" if part == "all" else f"matches-{part}", chosen, chunks)


def boxes_file(session: Session, format: str) -> Response:
    """Return an answer that sends the boxes. Raises UsageError before a find all by a model of boxes."""
    answer, chosen = session.last_answer(), BOX_FORMATS[format]
    if answer.boxes is None:
        raise UsageError("expected a find all (refine) by a model of boxes before this, got none; find all first")
    return _attachment("boxes", chosen, chosen.write(answer.boxes, answer.min_votes))


def _attachment(name: str, format: Format[Any], content: bytes | Iterator[bytes]) -> Response:
    response = Response(content, mimetype=format.media_type)
    response.headers.set("Content-Disposition", "attachment", filename=f"{name}.{format.ending}")
    return response
