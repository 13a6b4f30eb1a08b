"""What a catalog holds, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpubranches.catalog.manifest import VERSION

if TYPE_CHECKING:
    from gpubranches.catalog.reader import CatalogReader


def info_of(catalog: CatalogReader) -> dict[str, Any]:
    """Return counts, dims, tiers, space and bytes of a catalog."""
    held = {"codes": True, "bits": catalog.has_bits, "embeddings": catalog.stores_embeddings}
    return {
        "path": str(catalog.path),
        "version": VERSION,
        "n": catalog.n,
        "deleted": catalog.n_deleted,
        "broken": catalog.n_errors,
        "d": catalog.d,
        "D": catalog.D,
        "tiers": [tier for tier, there in held.items() if there],
        "embeddings": "stored" if catalog.stores_embeddings else "decoded" if catalog.has_embeddings else "none",
        "columns": catalog.columns if catalog.item_tables else [],
        "embedder": catalog.embedder,
        "space": catalog.space.to_json(),
        "segments": len(catalog.segments),
        "generation": catalog.generation,
        "bytes": sum(entry["bytes"] for segment in catalog.segments for entry in segment.files.values()),
    }
