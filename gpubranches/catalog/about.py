"""Properties of a catalog: counts, dims, files and origins, each read from its present state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.listings import read_listing
from gpubranches.catalog.manifest import file_of
from gpubranches.catalog.segment import Segment, StoredTable
from gpubranches.catalog.state import State
from gpubranches.core.arrays import Bitmap
from gpubranches.core.embedding_space import Space
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer

if TYPE_CHECKING:
    import pyarrow as pa


class About(ABC):
    """Properties of a catalog in a folder."""

    path: Path

    @property
    @abstractmethod
    def _state(self) -> State:
        """The state that the properties are read from."""

    @property
    def generation(self) -> int:
        """Number of the last commit; grows by one with each."""
        return self._state.generation

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in order of position."""
        return self._state.segments

    @property
    def n(self) -> int:
        """Live items."""
        return self._state.n

    @property
    def n_positions(self) -> int:
        """Row positions, including padding."""
        return self._state.n_positions

    @property
    def deleted(self) -> Bitmap | None:
        """Bitmap of deleted rows, not to be changed, or None."""
        return self._state.deleted

    @property
    def n_deleted(self) -> int:
        """Deleted rows that are still on the disk."""
        return self._state.n_deleted

    @property
    def places(self) -> tuple[str, ...]:
        """Names that identify the layout of rows; states with rows at other positions have other names."""
        return self._state.places

    @property
    def next_id(self) -> int:
        """The id that the next item gets."""
        return int(self._state.manifest["next_id"])

    @property
    def d(self) -> int:
        """Code dims."""
        return int(self._state.manifest["d"])

    @property
    def D(self) -> int:
        """Embedding dims, 0 for codes alone."""
        return int(self._state.manifest["D"])

    @property
    def space(self) -> Space:
        """Identities of the models and constants that made the data."""
        return self._state.space

    @property
    def embedder(self) -> str:
        """The spec that opens the embedder, "" for none."""
        return str(self._state.manifest["embedder"])

    @property
    def source(self) -> dict[str, Any]:
        """JSON on the inputs of the catalog, not to be changed."""
        source: dict[str, Any] = self._state.manifest["source"]
        return source

    @property
    def signs(self) -> SignQuantizer | None:
        """The quantizer of the sign bits, or None."""
        return self._state.constants.signs

    @property
    def scalar(self) -> ScalarQuantizer | None:
        """The quantizer from vectors to codes, or None."""
        return self._state.constants.scalar

    @property
    def text_mean(self) -> NDArray[np.float32] | None:
        """Mean of text embeddings, (D,) float32, or None."""
        return self._state.constants.text_mean

    @property
    def keeps_embeddings(self) -> bool:
        """Whether embeddings that are appended are stored."""
        return bool(self._state.manifest.get("keeps_embeddings", True))

    @property
    def has_bits(self) -> bool:
        """Whether the sign bits are stored."""
        return self.D > 0

    @property
    def has_embeddings(self) -> bool:
        """Whether there are embeddings, stored or decoded from the codes."""
        return self._state.has_embeddings

    @property
    def stores_embeddings(self) -> bool:
        """Whether the embeddings are stored."""
        return self._state.stores_embeddings

    @property
    def embeddings_source(self) -> str:
        """The `source` of an answer by embeddings: "embeddings" where they are stored, else "decoded"."""
        return "embeddings" if self.stores_embeddings else "decoded"

    @property
    def coding(self) -> tuple[str, str, int]:
        """The identities of head and quantizer, and d. Boxes are valid for one coding only."""
        state = self._state
        return state.space.head, state.space.quantizer, int(state.manifest["d"])

    @property
    def head_path(self) -> Path | None:
        """Path of the head that made the vectors, or None."""
        name = file_of(self._state.manifest, "head")
        return None if name is None else self.path / name

    def listing(self, name: str) -> pa.Table:
        """Return a list of inputs that one of `source["inputs"]` names; see `read_listing`."""
        return read_listing(self.path / name, self._state.manifest["files"][name])

    @property
    def item_tables(self) -> list[StoredTable]:
        """The metadata, in order of position."""
        return [table for segment in self.segments if (table := segment.table("items.parquet")) is not None]

    @property
    def error_tables(self) -> list[StoredTable]:
        """The inputs that could not be read, in order of position."""
        return [table for segment in self.segments if (table := segment.table("errors.parquet")) is not None]

    @property
    def n_bits(self) -> int:
        """Sign bits an item, D padded to a multiple of 32; 0 without bits."""
        return int(self._state.manifest["n_bits"])
