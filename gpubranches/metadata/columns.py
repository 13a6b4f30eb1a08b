"""What columns of the metadata mean by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CAPTIONS = ("caption", "label", "class", "title", "text", "name")
"""Columns that say in words what is to be seen, the first that does so first."""
URL = "url"


def caption_of(item: Mapping[str, Any]) -> str | None:
    """Return what an item's columns say of it in words, or None."""
    return next((text for name in CAPTIONS if (text := _text(item.get(name)))), None)


def url_of(item: Mapping[str, Any]) -> str | None:
    """Return where on the web an item's picture is, or None."""
    return item[URL] if _text(item.get(URL)) else None


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
