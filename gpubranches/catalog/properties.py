"""The properties of a catalog: counts, dims, files and origins, each read from one snapshot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.codec import Codec
from gpubranches.catalog.listings import read_listing
from gpubranches.catalog.manifest import file_of
from gpubranches.catalog.pictures.places import Place, picture_source, place_named
from gpubranches.catalog.segment import Segment
from gpubranches.catalog.snapshot import Snapshot
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer

if TYPE_CHECKING:
    import pyarrow as pa


class CatalogProperties(ABC):
    """The properties of a catalog in a folder."""

    path: Path
    _named_places: tuple[Place, ...] = ()

    @property
    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The snapshot that calls of this thread read."""

    @property
    def generation(self) -> int:
        """Number of the last commit; grows by one with each."""
        return self.snapshot.generation

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in order of position."""
        return self.snapshot.segments

    @property
    def n(self) -> int:
        """Live items."""
        return self.snapshot.n

    @property
    def n_positions(self) -> int:
        """Row positions, including padding."""
        return self.snapshot.n_positions

    @property
    def deleted(self) -> Bitmap | None:
        """Bitmap of deleted rows, not to be changed, or None."""
        return self.snapshot.deleted

    @property
    def n_deleted(self) -> int:
        """Deleted rows that are still on the disk."""
        return self.snapshot.n_deleted

    @property
    def layout(self) -> tuple[str, ...]:
        """Names that identify the layout of rows; snapshots with rows at other positions have different names."""
        return self.snapshot.layout

    @property
    def next_id(self) -> int:
        """The id that the next item gets."""
        return int(self.snapshot.manifest["next_id"])

    @property
    def d(self) -> int:
        """Code dims."""
        return int(self.snapshot.manifest["d"])

    @property
    def D(self) -> int:
        """Embedding dims, 0 for codes alone."""
        return int(self.snapshot.manifest["D"])

    @property
    def space(self) -> EmbeddingSpace:
        """Identities of the models and statistics that made the data."""
        return self.snapshot.space

    @property
    def embedder(self) -> str:
        """The spec that opens the embedder, "" for none; of two models the JSON list of their specs."""
        return str(self.snapshot.manifest["embedder"])

    @property
    def parts(self) -> tuple[slice, ...]:
        """The dims of each model in an embedding: two slices for two models, else one."""
        ends = np.cumsum([0, *self.snapshot.manifest.get("parts", [self.D])]).tolist()
        return tuple(slice(start, stop) for start, stop in pairwise(ends))

    @property
    def source(self) -> dict[str, Any]:
        """JSON that describes the inputs of the catalog, not to be changed."""
        source: dict[str, Any] = self.snapshot.manifest["source"]
        return source

    def name_pictures(self, *places: str) -> None:
        """Look for pictures in the given places, each `ROOT` or `INPUT=ROOT`, as long as this object is used.

        ROOT is a folder, or an address such as s3://bucket/photos; a store is read only if it is named here. INPUT is
        needed if the catalog has pictures of several inputs. Nothing is written. Raises UsageError for a missing
        folder, an unknown scheme, and a missing or unknown INPUT.
        """
        self._named_places = tuple(place_named(self.source, place) for place in places)

    @property
    def picture_source(self) -> dict[str, Any]:
        """Return `source` with the places that `name_pictures` was given."""
        return picture_source(self.source, self._named_places)

    @property
    def signs(self) -> SignQuantizer | None:
        """The quantizer of the sign bits, or None."""
        return self.snapshot.statistics.signs

    @property
    def scalar(self) -> ScalarQuantizer | None:
        """The quantizer from vectors to codes, or None."""
        return self.snapshot.statistics.scalar

    @property
    def text_mean(self) -> NDArray[np.float32] | None:
        """Mean of text embeddings, (D,) float32, or None."""
        return self.snapshot.statistics.text_mean

    @property
    def keeps_embeddings(self) -> bool:
        """Whether embeddings that are appended are stored."""
        return bool(self.snapshot.manifest.get("keeps_embeddings", True))

    @property
    def has_bits(self) -> bool:
        """Whether the sign bits are stored."""
        return self.D > 0

    @property
    def has_embeddings(self) -> bool:
        """Whether there are embeddings, stored or decoded from the codes."""
        return self.snapshot.has_embeddings

    @property
    def stores_embeddings(self) -> bool:
        """Whether the embeddings are stored."""
        return self.snapshot.stores_embeddings

    @property
    def embeddings_source(self) -> str:
        """The `source` of an answer by embeddings: "embeddings" if they are stored, else "decoded"."""
        return "embeddings" if self.stores_embeddings else "decoded"

    @property
    def coding(self) -> tuple[str, str, int]:
        """The identities of head and quantizer, and d. Boxes are valid for one coding only."""
        snapshot = self.snapshot
        return snapshot.space.head, snapshot.space.quantizer, int(snapshot.manifest["d"])

    @property
    def head_path(self) -> Path | None:
        """Path of the head that made the vectors, or None."""
        name = file_of(self.snapshot.manifest, "head")
        return None if name is None else self.path / name

    @property
    def codec(self) -> Codec | None:
        """The head and the quantizer that made the codes, read from the disk; None for a catalog of codes alone."""
        snapshot = self.snapshot
        name = file_of(snapshot.manifest, "head")
        return Codec.load(None if name is None else self.path / name, snapshot.statistics.scalar)

    def listing(self, name: str) -> pa.Table:
        """Return a list of inputs that one of `source["inputs"]` names; see `read_listing`."""
        return read_listing(self.path / name, self.snapshot.manifest["files"][name])

    @property
    def n_bits(self) -> int:
        """Sign bits per item: D padded to a multiple of 32, or 0 without bits."""
        return int(self.snapshot.manifest["n_bits"])
