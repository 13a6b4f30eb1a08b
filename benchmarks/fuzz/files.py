"""Readers of files to ingest (arrays, metadata, pictures) and of the small files that commands read."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.fuzz import mutations
from benchmarks.fuzz.reader import reader
from benchmarks.fuzz.tables import mutated_table, parquet
from benchmarks.fuzz.world import World, table
from gpubranches import Catalog, VocabularyEmbedder
from gpubranches.catalog.pictures.decoding import open_image, read_image, upright_size
from gpubranches.catalog.pictures.formats import register
from gpubranches.cli.options import parse_ids
from gpubranches.core.results import Ranking
from gpubranches.errors import DataError, UsageError
from gpubranches.ingestion import ingest
from gpubranches.research.quality.groups import read_groups
from gpubranches.service.export import ItemTable, export_items
from gpubranches.service.thumbnails import thumbnail


def ingested(world: World, path: Path, **options: Any) -> Catalog:
    """Ingest a path; return the catalog after reading all its items."""
    out = world.scratch / "out"
    ingest([path], out, d=8, **options)
    catalog = Catalog.open(out)
    catalog.items(catalog.sample_ids(catalog.n, np.random.default_rng(0)))
    catalog.errors()
    return catalog


def _saved(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def _npy(world: World) -> list[bytes]:
    rows = np.load(world.folder / "in/img_emb/img_emb_0.npy")[:20]
    kinds = (
        rows,
        rows.astype(np.float32),
        np.asfortranarray(rows),
        rows.astype(">f4"),
        np.arange(160, dtype=np.uint8).reshape(20, 8),
    )
    return [_saved(rows) for rows in kinds] + [_saved(rows, version=(2, 0))]


@reader("npy", _npy, mutations.mutated_npy, few=10)
def read_npy(world: World, data: bytes) -> None:
    """Ingest a NumPy array."""
    path = world.scratch / "x.npy"
    path.write_bytes(data)
    ingested(world, path)


def _sized(array: np.ndarray[Any, Any]) -> bytes:
    return np.array(array.shape, "<u4").tobytes() + array.tobytes()


@reader("u8bin", lambda world: [_sized(np.arange(160, dtype=np.uint8).reshape(20, 8))], mutations.mutated_sizes, few=20)
def read_u8bin(world: World, data: bytes) -> None:
    """Ingest codes."""
    path = world.scratch / "x.u8bin"
    path.write_bytes(data)
    ingested(world, path)


def _fbin(world: World) -> list[bytes]:
    return [_sized(np.load(world.folder / "in/img_emb/img_emb_0.npy")[:20].astype("<f4"))]


@reader("fbin", _fbin, mutations.mutated_sizes, few=15)
def read_fbin(world: World, data: bytes) -> None:
    """Ingest embeddings in the format of big-ann-benchmarks."""
    path = world.scratch / "x.fbin"
    path.write_bytes(data)
    ingested(world, path)


def _odd_tables() -> list[pa.Table]:
    """Return valid tables that are unusual as metadata."""
    n = 12
    texts = pa.array(["a"] * n)
    return [
        pa.table([texts, texts], names=["caption", "caption"]),
        pa.table({"id": range(n), "error": range(n), "input": texts, "image_path": range(n), "image_target": texts}),
        pa.table({"x": pa.array([2**40] * n, pa.timestamp("s")), "y": pa.array([2**31 - 1] * n, pa.date32())}),
        pa.table({"map": pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())), "nothing": pa.nulls(n)}),
        pa.table(
            {"words": texts.dictionary_encode(), "long": texts.cast(pa.large_string()), "b": texts.cast(pa.binary())}
        ),
        pa.table({"": texts, "a.b": texts, 'q"uote': texts, "SELECT": texts}),
        pa.table({"d": pa.array([1] * n, pa.decimal256(60, 5)), "t": pa.array([1] * n, pa.time64("ns"))}),
        pa.table({"span": pa.array([1] * n, pa.duration("ns")), "half": pa.array(np.ones(n, np.float16))}),
        pa.table({"image_path": ["\0", "/etc/passwd", "../x", "\\xff", ""] + ["a" * 5_000] * (n - 5)}),
        pa.table({"deep": pa.array([[[[{"a": [1]}]]]] * n)}),
    ]


def _parquet(world: World) -> list[bytes]:
    options: Sequence[dict[str, Any]] = (
        {},
        {"compression": "zstd", "row_group_size": 5},
        {"compression": "none", "version": "1.0"},
    )
    return [parquet(table(12), **each) for each in options] + [parquet(odd) for odd in _odd_tables()]


@reader("parquet", _parquet, mutated_table, few=4)
def read_parquet(world: World, data: bytes) -> None:
    """Ingest embeddings with metadata; filter by each column, and export."""
    folder = world.scratch / "in"
    for name in ("img_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    np.save(folder / "img_emb/img_emb_0.npy", np.load(world.folder / "in/img_emb/img_emb_0.npy")[:12])
    (folder / "metadata/metadata_0.parquet").write_bytes(data)
    use_metadata(ingested(world, folder), world.scratch)


def use_metadata(catalog: Catalog, scratch: Path) -> None:
    """Read each column, filter by each value that is offered, and export all items."""
    from gpubranches.catalog.metadata.conditions import value_condition

    for column in catalog.described_columns():
        for value, _ in column.values[:3]:
            catalog.where(value_condition(column.name, value))
    ids = catalog.sample_ids(catalog.n, np.random.default_rng(0))
    ranking = Ranking(ids, np.ones(len(ids), np.float32), np.ones(len(ids), np.bool_), len(ids), len(ids), 0.0)
    for ending in ("csv", "parquet", "jsonl"):
        export_items(ItemTable(catalog, ranking), scratch / f"x.{ending}")


SAVES_ALL = ("PNG", "WEBP", "GIF")
"""Formats whose seeds are saved as sequences, too."""


def pictures() -> list[bytes]:
    """Return a small picture of each format and mode."""
    ramp = np.arange(24 * 16 * 3, dtype=np.uint8).reshape(16, 24, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for format, modes in {
        "PNG": ("RGB", "RGBA", "P", "1", "L", "LA", "I;16"),
        "JPEG": ("RGB", "L", "CMYK"),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("P",),
        "TIFF": ("RGB", "I;16"),
        "BMP": ("RGB", "P"),
        "AVIF": ("RGB", "RGBA"),
        "HEIF": ("RGB",),
        "JXL": ("RGB", "L"),
    }.items():
        register(format)
        for mode in modes:
            image = (
                Image.fromarray(ramp).convert("L").convert("I;16")
                if mode == "I;16"
                else Image.fromarray(ramp).convert("L" if mode == "LA" else mode).convert(mode)
            )
            for options in (
                {},
                {
                    "exif": exif.tobytes(),
                    "progressive": True,
                    "lossless": True,
                    "interlace": 1,
                    "save_all": format in SAVES_ALL,
                },
            ):
                file = io.BytesIO()
                image.save(file, format, **options)
                made.append(file.getvalue())
    return made


@reader("images", lambda world: pictures(), mutations.mutated_image, few=75)
def read_images(world: World, data: bytes) -> None:
    """Decode a picture in all ways, from the disk and as an upload."""
    path = world.scratch / "x.jpg"
    path.write_bytes(data)
    for read in (upright_size, open_image, thumbnail):
        try:
            read(path)
        except DataError:
            continue
    read_image(data)


@reader("names", lambda world: [(world.folder / "names.json").read_bytes()], mutations.mutated_json, few=150)
def read_names(world: World, data: bytes) -> None:
    """Open a vocabulary and query it."""
    path = world.scratch / "names.json"
    path.write_bytes(data)
    VocabularyEmbedder.load(world.folder / "text.npy", path).texts(["teapot"])


_GROUPS = {
    "car": {"query": "a car", "label": [0, "red car"], "photos": "all", "ignore": ["dog"], "distractors": True},
    "pot": {"query": None, "label": [1]},
}


@reader("groups", lambda world: [json.dumps(_GROUPS).encode()], mutations.mutated_json, few=150)
def read_groups_file(world: World, data: bytes) -> None:
    """Read a file of groups of classes."""
    path = world.scratch / "groups.json"
    path.write_bytes(data)
    read_groups(path)


_IDS = ("id", "id,score", '"', ",", "\r\n", "\n", "\t", "1", "-1", "9223372036854775808", "1e5", "\ufeff")


@reader("ids", lambda world: [b"3,17 42\n", b"id,caption\n3,a\n17,b\n"], mutations.mutated_text(_IDS), few=50)
def read_ids(world: World, data: bytes) -> None:
    """Read a file of ids, and look the items up."""
    path = world.scratch / "ids.txt"
    path.write_bytes(data)
    try:
        found = parse_ids(f"@{path}", "ids")
    except UsageError:
        return
    world.opened.items(found.tolist())
