"""The original pictures of items, and how many are missing."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gpubranches.catalog.metadata.columns import IMAGE_OFFSET, IMAGE_ROW, URL, https_url_of
from gpubranches.catalog.pictures.decoding import picture_format
from gpubranches.catalog.pictures.image_files import Picture, picture_of, stored_address
from gpubranches.catalog.pictures.places import MissingPictures, missing_pictures
from gpubranches.core import stores
from gpubranches.errors import DataError
from gpubranches.service.export.pictures import safe_name, with_ending

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

_SAMPLED = 1000
"""Items of a sample whose pictures are looked for."""
_BATCH = 10_000


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


def https_address(source: dict[str, Any], item: dict[str, Any]) -> str:
    """Return the https address from which a browser may load the picture of an item, or "".

    It is that of the column `url`, or of a picture file in a store of https. source: of the catalog.
    """
    is_file = item.get(IMAGE_OFFSET) is None and item.get(IMAGE_ROW) is None
    stored = stored_address(source, item) if is_file else None
    return https_url_of(item) or https_url_of({URL: stored}) or ""


def look_for_pictures(
    catalog: Catalog,
    *,
    whole: bool = False,
    ask_stores: bool = True,
    most_s: float = 2.0,
) -> MissingPictures:
    """Return how many items have no picture where the catalog looks for it.

    whole: look at all items; otherwise at a random sample of up to 1,000, for at most `most_s` seconds. ask_stores:
    whether to look into the stores that the user has named, too. Raises StoreError if a store does not answer.
    """
    source, n = catalog.picture_source, catalog.n
    rng = np.random.default_rng(0)
    ids = catalog.sample_ids(n if whole else min(_SAMPLED, n), rng)
    known = {file.url for place in source["stores"] for file in stores.listed(place).values()} if whole else set()
    is_stored = functools.cache(lambda url: url in known or stores.exists(url)) if ask_stores else None
    began = time.monotonic()
    looked_at, missing, far = 0, 0, 0
    for part in np.array_split(ids if whole else rng.permutation(ids), range(_BATCH, len(ids), _BATCH)):
        for lacks, looked in missing_pictures(source, catalog.items(part), is_stored):
            looked_at, missing, far = looked_at + looked, missing + lacks, far + (not looked)
            if not whole and time.monotonic() - began > most_s:
                break
    return MissingPictures(looked_at, missing, far, whole or (len(ids) == n and looked_at + far == n))
