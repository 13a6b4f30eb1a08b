"""Taking away what was found, as files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from flask import Blueprint, Response, send_file
from werkzeug.exceptions import NotFound

from gpubranches.app.asking import held
from gpubranches.errors import UsageError
from gpubranches.export import BOX_FORMATS, ITEM_FORMATS, export_boxes

routes = Blueprint("exporting", __name__)


@routes.get("/export/matches.<format>")
def export_matches(format: str) -> Response:
    """Send the matched items of the last find all as csv, parquet or json."""
    if format not in ITEM_FORMATS:
        raise NotFound(f"expected one of {', '.join(ITEM_FORMATS)}, got {format!r}")
    with held() as session:
        return _download(f"matches.{format}", session.export)


@routes.get("/export/boxes.<format>")
def export_model(format: str) -> Response:
    """Send the boxes of the last find all as sql or json."""
    if format not in BOX_FORMATS:
        raise NotFound(f"expected one of {', '.join(BOX_FORMATS)}, got {format!r}")
    with held() as session:
        boxes, min_votes = session.boxes, session.min_votes
    if boxes is None:
        raise UsageError("expected a find all by a model of boxes before this, got none; mark items and find all first")
    return _download(f"boxes.{format}", lambda path: export_boxes(boxes, path, min_votes=min_votes))


def _download(name: str, write: Callable[[Path], object]) -> Response:
    """Send what `write` puts into a file of that name; the file is gone when the response is."""
    with tempfile.TemporaryDirectory(prefix="gpubranches-") as folder:
        path = Path(folder) / name
        write(path)
        return send_file(path.open("rb"), as_attachment=True, download_name=name)
