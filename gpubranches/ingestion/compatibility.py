"""What the inputs, the options, the embedder and a catalog of an ingest must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpubranches.catalog import Catalog
from gpubranches.catalog.codec import require_decoder
from gpubranches.core.embedding_space import EmbeddingSpace, digest
from gpubranches.core.files import escaped_path
from gpubranches.encoders import Embedder, open_embedder
from gpubranches.encoders.heads import open_head
from gpubranches.encoders.quantizers import require_dims
from gpubranches.errors import UsageError
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.protocol import Input
from gpubranches.ingestion.run import IngestRun
from gpubranches.ingestion.shards import Shard


def codec_catalog(path: Path) -> Catalog:
    """Open the catalog of `codec_from`. Raises UsageError if it has no head."""
    catalog = Catalog.open(path)
    if catalog.codec is None:
        raise UsageError(f"--codec-from: expected a catalog with a head, but {path} has only codes")
    return catalog


def require_codec(run: IngestRun, scanned: Sequence[Input], options: IngestOptions, model: Catalog | None) -> None:
    """Raise UsageError if the rows of the inputs do not fit the options on the codec."""
    shapes = [run.shape_of(each) for each in scanned]
    if any(kind == "codes" for kind, _ in shapes):
        if model is not None or options.fit_only:
            option = "--fit-only" if options.fit_only else "--codec-from"
            raise UsageError(f"{option}: expected embeddings or pictures, got codes, which are stored unchanged")
        return
    if options.shard is not None and model is None:
        raise UsageError(
            "--shard: expected --codec-from too, so that all shards have one head; make a catalog for it of the same "
            "inputs by ingest --fit-only"
        )
    other = [dim for _, dim in shapes if model is not None and dim != model.D]
    if model is not None and other:
        raise UsageError(f"--codec-from: expected embeddings of {model.D} dims as in {model.path}, got {other[0]}")


def made_with_of(embedder: Embedder | None, options: IngestOptions, model: Catalog | None) -> dict[str, Any]:
    """Return the options that distinguish catalogs of the same input, with digests in place of files and catalogs.

    Raises UsageError for options that do not fit together.
    """
    frames = {"frames_every": options.frames_every, "frames_at": options.frames_at}
    part = {} if options.shard is None else {"shard": str(Shard.parse(options.shard))}
    if model is not None:
        known = "" if embedder is None else embedder.identity
        space = model.space.to_json()
        return {"embedder": known or space["embedder"], "codec_from": digest(*space.values()), **part}
    head, fitted = open_head(options.head, d=options.d) if options.head else (None, False)
    if not options.keep_embeddings:
        require_decoder(head if fitted else None, options.head)
    return {
        "embedder": "" if embedder is None else embedder.identity,
        "head": head.identity if head is not None and fitted else options.head or "",
        "dims": options.d,
        "quantizer": options.quantizer or "",
        "embeddings": options.keep_embeddings,
        **part,
        **{name: value for name, value in frames.items() if value != getattr(IngestOptions, name)},
    }


def identity_in(folder: Path) -> str:
    """Return the identity of the embedder of the catalog in a folder, or "" without a catalog with rows."""
    if not (folder / "manifest.json").exists():
        return ""
    catalog = Catalog.open(folder)
    return catalog.space.embedder if catalog.next_id else ""


def opened_embedder(embedder: Embedder | str | Sequence[str] | None, identity: str) -> Embedder | None:
    """Return an embedder; a spec is opened. Raises UsageError for an embedder with too many dims.

    identity: as for `open_embedder`.
    """
    opened = open_embedder(embedder, identity=identity) if isinstance(embedder, Sequence) else embedder
    if opened is not None:
        require_dims(opened.D, "the embedder")
    return opened


def require_no_shard(catalog: Catalog, command: str) -> None:
    """Raise UsageError if a catalog is a shard, because the next ids belong to another shard."""
    if shard := catalog.source.get("made_with", {}).get("shard"):
        raise UsageError(
            f"{command}: {catalog.path} is shard {shard}, and the ids after its own belong to other shards; use the "
            "catalog that merge makes of all shards"
        )


def options_of(catalog: Catalog, options: IngestOptions) -> IngestOptions:
    """Return the options of an append, completed by those that the catalog has fixed."""
    made_with = catalog.source.get("made_with", {})
    names = ("frames_every", "frames_at")
    return replace(options, **{name: made_with[name] for name in names if name in made_with}).validate()


def embedder_of(
    catalog: Catalog, scanned: Sequence[Input], embedder: Embedder | str | Sequence[str] | None
) -> Embedder | None:
    """Return the embedder for the pictures of the inputs, or None if there are no pictures to embed."""
    spec = embedder if embedder is not None else catalog.embedder
    if not spec or (embedder is None and all(each.source is not None for each in scanned)):
        return None
    opened = open_embedder(spec, identity=catalog.space.embedder) if isinstance(spec, Sequence) else spec
    catalog.space.require(EmbeddingSpace(embedder=opened.identity))
    return opened


def require_embeddable(scanned: Sequence[Input], embedder: Embedder | None) -> None:
    """Raise UsageError for pictures without an embedder, and for inputs without rows and pictures."""
    require_rows(scanned)
    for each in scanned:
        if each.pictures is not None and embedder is None:
            raise UsageError(f"{escaped_path(each.path)}: pictures need a model; pass --embedder open_clip:MODEL/TAG")


def require_rows(scanned: Sequence[Input]) -> None:
    """Raise UsageError for an input without rows and pictures."""
    if not any(piece.rows for each in scanned for piece in each.pieces):
        notes = "".join(f"; {note}" for each in scanned for note in each.notes)
        paths = ", ".join(escaped_path(each.path) for each in scanned)
        raise UsageError(f"expected at least one row or picture in {paths}, found none{notes}")
