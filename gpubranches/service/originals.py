"""The original pictures of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpubranches.catalog.pictures.decoding import picture_format
from gpubranches.catalog.pictures.image_files import Picture, picture_of
from gpubranches.errors import DataError
from gpubranches.service.export.pictures import safe_name, with_ending


@dataclass(frozen=True)
class Original:
    """An original picture. name: the name of its download, with the ending of its format."""

    picture: Picture
    name: str
    media_type: str


def original(source: dict[str, Any], item: dict[str, Any]) -> Original:
    """Return the picture of an item, given by its columns. source: of the catalog.

    Raises DataError for an item without a picture, and for a file that is no picture of a known format.
    """
    picture = picture_of(source, item)
    if picture is None:
        raise DataError(f"item {item['id']} has no picture")
    format = picture_format(picture)
    return Original(picture, with_ending(f"{item['id']}_{safe_name(picture.name)}", format), f"image/{format.lower()}")
