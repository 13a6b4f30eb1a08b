"""The pictures of items as they are on the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubranches.catalog.metadata.columns import IMAGE_PATH
from gpubranches.catalog.pictures.decoding import FORMATS, picture_format
from gpubranches.catalog.pictures.image_files import image_file
from gpubranches.errors import DataError
from gpubranches.service.export.pictures import safe_name


@dataclass(frozen=True)
class Original:
    """A picture as it is on the disk. name: what a download is called, with the ending of its format."""

    path: Path
    name: str
    media_type: str


def original(source: dict[str, Any], item: dict[str, Any]) -> Original:
    """Return the picture of an item, given by its columns. source: of the catalog.

    Raises DataError for an item without a picture, and for a file that is no picture of a known format.
    """
    path = image_file(source, item)
    if path is None:
        raise DataError(f"item {item['id']} has no picture")
    format = picture_format(path)
    name = Path(f"{item['id']}_{safe_name(str(item.get(IMAGE_PATH) or path))}")
    ending = name.suffix if name.suffix.lower() in FORMATS[format] else FORMATS[format][0]
    return Original(path, f"{name.stem}{ending}", f"image/{format.lower()}")
