"""A folder of picture files; each file is a piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpubranches.catalog.metadata.columns import IMAGE_PATH, IMAGE_TARGET
from gpubranches.catalog.pictures.formats import ENDINGS
from gpubranches.core.files import escaped_path
from gpubranches.ingestion.pieces import Piece
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Opener, Part

if TYPE_CHECKING:
    import pyarrow as pa


class PictureFolder:
    """The pictures of a folder. Items have `image_path`, and `image_target` if a link led out of the folder."""

    whole_files = True

    def __init__(self, root: str, pieces: Sequence[Piece]):
        self.root = root
        self._links = any(self._target(piece) for piece in pieces)

    def openers(self, piece: Piece, rows: Sequence[int]) -> Iterator[Opener]:
        """Yield the opener of the only picture of a piece."""
        yield Opener(piece.path, lambda: piece.files[0].open()[0])

    def items(self, parts: Sequence[Part]) -> pa.Table:
        """Return the metadata of pieces."""
        import pyarrow as pa

        pieces = [piece for piece, _, _ in parts]
        columns = {IMAGE_PATH: pa.array([escaped_path(piece.name) for piece in pieces], pa.string())}
        if self._links:
            columns[IMAGE_TARGET] = pa.array([self._target(piece) for piece in pieces], pa.string())
        return pa.table(columns)

    def _target(self, piece: Piece) -> str | None:
        inside = piece.path.startswith(f"{self.root.rstrip('/')}/")
        return None if inside else escaped_path(piece.path)


def _open_input(given: InputFiles) -> Input:
    pieces = tuple(Piece(name, (given.state(path),), row, 1) for row, (name, path) in enumerate(given.files))
    return Input(given.place, pieces, pictures=PictureFolder(given.place, pieces))


KIND = Kind(
    "pictures",
    "a folder of JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF files, and with [formats] of HEIC and JPEG XL",
    ENDINGS,
    _open_input,
)
