"""The boxes of a model as text."""

from __future__ import annotations

import json

from gpubranches.core.boxes import Boxes


def boxes_sql(boxes: Boxes, min_votes: int) -> bytes:
    """Return a query over a table `codes` with columns id, c0, c1, ... that selects the items in the boxes."""
    return f"{boxes.to_sql('codes', min_votes=min_votes)};\n".encode()


def boxes_json(boxes: Boxes, min_votes: int) -> bytes:
    """Return the arrays of the boxes, and the votes that an item needs, as one JSON object."""
    return json.dumps({**boxes.to_json(), "min_votes": min_votes}).encode() + b"\n"
