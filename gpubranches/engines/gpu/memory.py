"""The device memory that a catalog needs, and which of its tiers fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from gpubranches.catalog import TILE, Catalog, Segment
from gpubranches.engines.faiss_index import faiss_bytes
from gpubranches.errors import DeviceMemoryError, UsageError

WORKING_BYTES = 512 << 20
"""Bytes kept free for candidates, searches and sorts."""
MOST_POSITIONS = 1 << 32
"""Positions are 32-bit words on the device."""
DROPPED_FIRST = ("embeddings", "bits")
"""The order in which tiers are dropped if not all fit. The codes are never dropped."""


def bits_words(catalog: Catalog) -> int:
    """Return the number of 32-bit words of a row of bits on the device, padded to whole 16 bytes."""
    return -(-catalog.n_bits // 128) * 4


@dataclass(frozen=True)
class MemoryPlan:
    """The bytes of each part, the free bytes, and the tiers that stay on the device.

    parts: bytes by name of what stays; dropped: bytes of the tiers that do not fit and are read from the host instead,
    a few thousand rows at a time (embeddings) or by the cpu backend (bits); faiss: further bytes that its index of the
    codes takes, if one is requested.
    """

    parts: dict[str, int]
    dropped: dict[str, int]
    free: int
    total: int
    d: int
    words: int
    width: int
    faiss: int = 0

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        free: int,
        total: int,
        *,
        tiers: tuple[str, ...] | None = None,
        new: Sequence[Segment] | None = None,
    ) -> Self:
        """Plan the memory for a catalog on a device with `free` of `total` bytes. tiers: if given, what must stay.

        new: only these segments have to be uploaded. Raises UsageError beyond MOST_POSITIONS.
        """
        every = [s for s in catalog.segments if s.n]
        segments = every if new is None else list(new)
        words, width = bits_words(catalog), catalog.D if catalog.stores_embeddings else 0
        rows, positions = sum(s.n for s in segments), sum(s.tiles for s in every) * TILE
        if positions > MOST_POSITIONS:
            raise UsageError(
                f"expected at most {MOST_POSITIONS:,} rows on one card, got {positions:,}; use the cpu backend, or "
                "split the catalog"
            )
        parts = {"codes": sum(s.tiles for s in segments) * TILE * catalog.d}
        parts |= {"zones": parts["codes"] // 64, "ids": 4 * rows, "directory": 64 * positions // TILE}
        parts |= {"bitmaps": 3 * positions // 8, "working": WORKING_BYTES}
        optional = {"bits": (4 * words + 2) * rows} if words else {}
        optional |= {"embeddings": 2 * width * rows} if width else {}
        dropped = {}
        if tiers is not None:
            dropped = {name: optional.pop(name) for name in list(optional) if name not in tiers}
        else:
            for name in DROPPED_FIRST:
                if name in optional and sum(parts.values()) + sum(optional.values()) > free:
                    dropped[name] = optional.pop(name)
        return cls(parts | optional, dropped, free, total, catalog.d, words, width, faiss_bytes(catalog))

    @property
    def tiers(self) -> tuple[str, ...]:
        """Tiers on the device."""
        return tuple(tier for tier in ("codes", "bits", "embeddings") if tier in self.parts)

    @property
    def needed(self) -> int:
        """Bytes of all parts that stay."""
        return sum(self.parts.values())

    def require(self) -> Self:
        """Return self, or raise DeviceMemoryError if it does not fit."""
        if self.needed > self.free:
            raise DeviceMemoryError(
                f"expected {self.needed:,} bytes of free device memory for {', '.join(self.parts)}, got {self.free:,} "
                f"of {self.total:,}; end other programs that use the card, or use the cpu backend"
            )
        return self

    def segment_bytes(self, segment: Segment) -> int:
        """Return the bytes of a segment that are uploaded."""
        size = segment.tiles * TILE * self.d * 65 // 64 + 4 * segment.n
        if "bits" in self.parts:
            size += (4 * self.words + 2) * segment.n
        if "embeddings" in self.parts:
            size += 2 * self.width * segment.n
        return size

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON, all numbers in bytes."""
        verdict = "fits" if self.needed <= self.free else "does not fit"
        return {
            "parts": self.parts,
            "needed": self.needed,
            "free": self.free,
            "total": self.total,
            "tiers": list(self.tiers),
            "dropped": self.dropped,
            "faiss": self.faiss,
            "verdict": verdict,
        }
