"""Columns of the metadata that have a meaning by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import pyarrow as pa

CAPTIONS = ("caption", "label", "class", "title", "text", "name")
"""Columns that describe an item in words; the first with a text is shown."""
URL = "url"
IMAGE_PATH = "image_path"
"""The path of an item's picture, relative to the folder of its input, or absolute."""
IMAGE_TARGET = "image_target"
"""The file that a link led to at ingest, if that is not in the folder of the input."""
IMAGE_MEMBER = "image_member"
"""The name of an item's picture inside the file `IMAGE_PATH`, if that file contains many pictures."""
IMAGE_OFFSET, IMAGE_SIZE = "image_offset", "image_size"
"""The position of the picture's first byte in that file, and its number of bytes."""
IMAGE_ROW = "image_row"
"""The row of the picture in that file, a Parquet file."""
IMAGE_SECONDS = "image_seconds"
"""The time of the picture in that file, a video, in seconds."""
PARTS = (IMAGE_MEMBER, IMAGE_OFFSET, IMAGE_SIZE, IMAGE_ROW, IMAGE_SECONDS)
_URL_LETTERS = 4096
"""Longest address that a browser is given."""
OWN = ("id", "error", "input", IMAGE_TARGET, *PARTS)
"""Columns that this or an earlier version writes; a user's columns of these names are renamed."""


def renamed_columns(columns: Iterable[str]) -> dict[str, str]:
    """Return the new names of a user's columns that have the program's names, such as `source_id` for `id`."""
    taken, names = set(columns), {}
    for name in OWN:
        if name in taken:
            free = (f"source_{name}{end}" for end in ("", *(f"_{number}" for number in range(2, len(taken) + 3))))
            names[name] = next(other for other in free if other not in taken)
    return names


def repeated_column(schema: pa.Schema) -> str | None:
    """Return the first name that two columns have, or two fields of one column, such as `a.b`; None if all differ."""
    levels = [("", list(schema))]
    while levels:
        above, fields = levels.pop()
        for name, count in Counter(field.name for field in fields).items():
            if count > 1:
                return f"{above}{name}"
        for field in fields:
            inner = [field.type.field(at) for at in range(field.type.num_fields)]
            levels.append((f"{above}{field.name}.", inner))
    return None


def caption_of(item: Mapping[str, Any]) -> str | None:
    """Return the text that describes an item, or None."""
    return next((text for name in CAPTIONS if (text := _text(item.get(name)))), None)


def url_of(item: Mapping[str, Any]) -> str | None:
    """Return the web address of an item's picture, or None."""
    return item[URL] if _text(item.get(URL)) else None


def https_url_of(item: Mapping[str, Any]) -> str | None:
    """Return the web address of an item's picture if a browser may load it: https, with a host, without a user."""
    url = (url_of(item) or "").strip()
    try:
        parts = urlsplit(url)
        safe = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return None
    return url if safe and url.isprintable() and " " not in url and len(url) <= _URL_LETTERS else None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
