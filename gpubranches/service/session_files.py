"""A session as one JSON file: its queries, marks and options, so that it can be repeated elsewhere."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Any

import numpy as np

from gpubranches.catalog.metadata.conditions import MAX_LENGTH, parse
from gpubranches.catalog.pictures.decoding import decoded_upload
from gpubranches.core.arrays import unit
from gpubranches.core.files import is_text, parse_json
from gpubranches.core.options import (
    LEAST_WEIGHT,
    MODELS,
    MOST_RANDOM_NEGATIVES,
    MOST_WEIGHT,
    NEGATIVE_WEIGHT,
    RANDOM_NEGATIVES,
)
from gpubranches.errors import UsageError
from gpubranches.retrieval.queries import PICTURE_NAME
from gpubranches.service import Session
from gpubranches.service.labels import ORIGINS
from gpubranches.service.session_store import Record, SessionStore
from gpubranches.service.thumbnails import small_jpeg
from gpubranches.service.uploads import MOST_A_SESSION, SENT_SIZE, Upload, Uploads

FORMAT = "gpubranches-session"
VERSION = 1

_ADDRESS = re.compile(r"/(search\?q|like\?id)=[^&\s\\]*(&where=[^&\s\\]*)?")


def pack(record: Record, session: Session, uploads: Uploads) -> dict[str, Any]:
    """Return a session as a dict for JSON.

    Marks are in the order they were made. Of the uploaded pictures, those that the last queries name are included.
    """
    options = record.options
    origins = session.labels.origins()
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": record.name,
        "asked": record.asked,
        "query": record.path,
        "where": record.where,
        "words": record.words,
        "seed": session.seed,
        "model": options.model,
        "second_stage": options.second_stage,
        "random_negatives": options.random_negatives,
        "negative_weight": options.negative_weight,
        "lean": options.lean,
        "marks": [
            {"id": item, "label": label, "origin": origins[item] if origins.get(item) in ORIGINS else "user"}
            for item, label in session.labels.current().items()
        ],
        "pictures": [
            {
                "name": sent.name,
                "embedding": b64encode(sent.embedding.astype("<f4").tobytes()).decode(),
                "thumbnail": b64encode(sent.thumbnail).decode(),
            }
            for sent in uploads.all(record.session)
            if sent.name in record.path + record.words
        ],
    }


def unpack(text: bytes | str) -> dict[str, Any]:
    """Read the JSON of a dict that `pack` made, also one of an older release. Raises UsageError for anything else."""
    try:
        packed = parse_json(text)
    except ValueError as error:
        raise UsageError(f"session: expected a JSON file of a session, got another: {error}") from error
    if not isinstance(packed, dict) or packed.get("format") != FORMAT or packed.get("version") != VERSION:
        raise UsageError(f"session: expected format {FORMAT!r}, version {VERSION}; export a session and import that")
    packed = {**_ADDED, "pictures": [], **packed}
    for name, kinds, fits in _FIELDS:
        if name not in packed:
            raise UsageError(f"{name}: expected a value, got none; export a session and import that file")
        value = packed[name]
        if not isinstance(value, kinds) or isinstance(value, bool) != (kinds is _SWITCH and value is not None):
            raise UsageError(f"{name}: expected {' or '.join(k.__name__ for k in kinds)}, got {value!r:.80}")
        if not fits(value) or (isinstance(value, str) and not is_text(value)):
            raise UsageError(f"{name}: {value!r:.80} is out of range")
    for mark in packed["marks"]:
        if not (
            isinstance(mark, dict)
            and type(mark.get("id")) is int
            and 0 <= mark["id"] < 2**63
            and mark.get("label") in (-1, 1)
            and mark.get("origin") in ORIGINS
        ):
            raise UsageError(f"marks: expected id, label (1 or -1) and origin ({', '.join(ORIGINS)}), got {mark!r:.80}")
    if packed["where"]:
        parse(packed["where"])
    for sent in packed["pictures"]:
        if not (isinstance(sent, dict) and all(isinstance(sent.get(name), str) for name in _PICTURE)):
            raise UsageError(f"pictures: expected {', '.join(_PICTURE)}, got {sent!r:.80}")
    return packed


def restore(packed: dict[str, Any], session: Session, store: SessionStore, uploads: Uploads) -> None:
    """Write a dict that `unpack` read into a new session, in one transaction.

    Marks of deleted items are kept. Raises UsageError for items that the catalog never had, and for invalid pictures.
    """
    marks, pictures = packed["marks"], [_picture(sent, session.catalog.D) for sent in packed["pictures"]]
    unknown = next((mark["id"] for mark in marks if mark["id"] >= session.catalog.next_id), None)
    if unknown is not None:
        raise UsageError(
            f"marks: expected ids below {session.catalog.next_id:,}, which this catalog has used, got {unknown}; "
            "import the session where it was exported"
        ).because("session-file-elsewhere")
    session.seed = packed["seed"]
    settings = {name: packed[name] for name in ("asked", "query", "seed", "model", "second_stage", "lean", *_ADDED)}
    with store.database.writing():
        session.labels.bring([(mark["id"], mark["label"], mark["origin"]) for mark in marks])
        for sent in pictures:
            uploads.keep(session.labels.session, sent.embedding, sent.thumbnail, sent.name)
        store.update(session.labels.session, name=packed["name"], **settings)


def _picture(sent: dict[str, str], D: int) -> Upload:
    """Return a picture of a file. The thumbnail is encoded again, so that a browser only ever gets a JPEG."""
    try:
        embedding = np.frombuffer(b64decode(sent["embedding"], validate=True), "<f4").astype(np.float32)
        thumbnail = b64decode(sent["thumbnail"], validate=True)
    except ValueError as error:
        raise UsageError(f"pictures: expected base64: {error}") from error
    if not re.fullmatch(PICTURE_NAME, sent["name"]) or embedding.shape != (D,) or not np.isfinite(embedding).all():
        raise UsageError(
            f"pictures: expected a name and {D} finite numbers, got {sent['name']!r:.40}, {len(embedding)}"
        )
    with decoded_upload(thumbnail, max_pixels=SENT_SIZE**2) as image:
        return Upload(sent["name"], unit(embedding[None])[0], small_jpeg(image, SENT_SIZE))


_PICTURE = ("name", "embedding", "thumbnail")
_ADDED = {"where": "", "words": "", "random_negatives": RANDOM_NEGATIVES, "negative_weight": NEGATIVE_WEIGHT}
"""Fields that files of older releases lack, with the values that held then."""
_SWITCH = (bool, type(None))
_FIELDS: tuple[tuple[str, tuple[type, ...], Any], ...] = (
    ("name", (str,), lambda value: len(value) <= 200),
    ("asked", (str,), lambda value: len(value) <= 20_000),
    ("query", (str,), lambda value: not value or (_ADDRESS.fullmatch(value) and len(value) <= 300_000)),
    ("words", (str,), lambda value: len(value) <= MAX_LENGTH),
    ("where", (str,), lambda value: len(value) <= MAX_LENGTH),
    ("seed", (int,), lambda value: 0 <= value < 2**63),
    ("model", (str,), lambda value: value in MODELS),
    ("second_stage", _SWITCH, lambda value: True),
    ("random_negatives", (int,), lambda value: 0 <= value <= MOST_RANDOM_NEGATIVES),
    ("negative_weight", (int, float), lambda value: LEAST_WEIGHT <= value <= MOST_WEIGHT),
    ("lean", (int, float), lambda value: -1 <= value <= 1),
    ("marks", (list,), lambda value: len(value) <= 1_000_000),
    ("pictures", (list,), lambda value: len(value) <= MOST_A_SESSION),
)
