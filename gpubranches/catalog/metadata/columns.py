"""What columns of the metadata mean by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

CAPTIONS = ("caption", "label", "class", "title", "text", "name")
"""Columns that say in words what is to be seen, the first that does so first."""
URL = "url"
OWN = ("id", "error", "input", "image_target")
"""Columns that the program writes or has written; a user's columns of these names are renamed."""


def kept_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the new names of a user's columns that have the program's names, such as `source_id` for `id`."""
    taken, names = set(columns), {}
    for name in OWN:
        if name in taken:
            free = (f"source_{name}{end}" for end in ("", *(f"_{number}" for number in range(2, len(taken) + 3))))
            names[name] = next(other for other in free if other not in taken)
    return names


def repeated(columns: Iterable[str]) -> list[str]:
    """Return the names that more than one column has."""
    return [name for name, count in Counter(columns).items() if count > 1]


def caption_of(item: Mapping[str, Any]) -> str | None:
    """Return what an item's columns say of it in words, or None."""
    return next((text for name in CAPTIONS if (text := _text(item.get(name)))), None)


def url_of(item: Mapping[str, Any]) -> str | None:
    """Return where on the web an item's picture is, or None."""
    return item[URL] if _text(item.get(URL)) else None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
