"""Joining catalogs with disjoint ids and the same codec: files are linked or copied, and nothing is encoded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpubranches.catalog.listings import listing_schema, read_listing, write_listing
from gpubranches.catalog.manifest import file_of, new_manifest, write_manifest
from gpubranches.catalog.reader import CatalogReader
from gpubranches.catalog.segment import Segment
from gpubranches.catalog.snapshot import Snapshot
from gpubranches.catalog.storage import copy_file, link_file, read_content, require_space
from gpubranches.catalog.tiles import TILE
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.files import escaped_path, make_folder, replace_file, sync_folder
from gpubranches.errors import ShardError

_SAME_HEAD = "make all parts by ingest --codec-from with one catalog"
_Placed = tuple[Snapshot, Segment]


def merge_into(folder: Path, paths: Sequence[Path], report: Callable[[int, int], None]) -> int:
    """Join catalogs into one in an empty folder; return the number of copied bytes.

    Ids do not change. On one file system the immutable files of the segments are hard-linked; otherwise they are copied
    and compared with their checksums. report: called with (done, total) segments. Raises ShardError for parts that do
    not form one catalog, CatalogNotFoundError or CatalogFormatError for a part that cannot be opened, DataError if the
    disk has no space.
    """
    parts = [CatalogReader.open(path).snapshot for path in paths]
    _require_one_codec(parts)
    _require_all_shards(parts)
    placed = _in_order(parts)
    source, listed = _source(parts)
    first = parts[0].manifest
    manifest = new_manifest(
        space=parts[0].space,
        d=first["d"],
        signs=parts[0].statistics.signs,
        embedder=first["embedder"],
        parts=first.get("parts", ()),
        source=source,
        files={},
        keep_embeddings=first.get("keeps_embeddings", True),
    )
    for name, content in {**_statistics(parts[0]), **listed}.items():
        manifest["files"][name] = replace_file(folder / name, content)
    manifest["next_id"] = max(part.manifest["next_id"] for part in parts)
    manifest["segments"], copied = _segments(folder, placed, report)
    if (flags := _deleted(placed)) is not None:
        manifest["deleted"] = {"name": "deleted-0.bitmap", **replace_file(folder / "deleted-0.bitmap", flags.tobytes())}
    write_manifest(folder, manifest)
    return copied


# Checks


def _require_one_codec(parts: Sequence[Snapshot]) -> None:
    """Raise ShardError unless all parts have the same head, quantizers, means, dims and tiers."""
    first = parts[0]
    for part in parts[1:]:
        ours, theirs = part.space.to_json(), first.space.to_json()
        for name in ("d", "D", "n_bits"):
            ours[name], theirs[name] = part.manifest[name], first.manifest[name]
        ours["stored embeddings"] = part.manifest.get("keeps_embeddings", True)
        theirs["stored embeddings"] = first.manifest.get("keeps_embeddings", True)
        other = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        if not other and not _equal(part.statistics.text_mean, first.statistics.text_mean):
            other = ["mean of texts"]
        if other:
            raise ShardError(
                f"{_place(part)}: expected what {_place(first)} has, got another {', '.join(other)}; {_SAME_HEAD}"
            )


def _equal(one: Any, other: Any) -> bool:
    return (one is None) == (other is None) and (one is None or np.array_equal(one, other))


@dataclass(frozen=True)
class _Shard:
    """A part that `ingest --shard` made: its number, the number of parts, its first id, and the id after its last."""

    part: Snapshot
    number: int
    of: int
    base: int
    end: int


def _require_all_shards(parts: Sequence[Snapshot]) -> None:
    """Raise ShardError unless the parts made by `ingest --shard` are complete, all present, and of one input."""
    shards = sorted(_shards(parts), key=lambda shard: shard.number)
    if not shards:
        return
    of = shards[0].of
    for before, shard in zip([None, *shards], shards, strict=False):
        if shard.of != of:
            raise ShardError(
                f"{_place(shard.part)}: expected one of {of} shards as {_place(shards[0].part)} is, got one of "
                f"{shard.of}; make all with the same n of --shard i/n"
            )
        if before is not None and shard.number == before.number:
            raise ShardError(
                f"{_place(shard.part)}: expected each shard once, {_place(before.part)} is shard "
                f"{shard.number}/{of} too; leave one of them out"
            )
        if shard.part.manifest["next_id"] < shard.end:
            raise ShardError(
                f"{_place(shard.part)}: expected {shard.end - shard.base:,} rows of shard {shard.number}/{of}, got "
                f"{shard.part.manifest['next_id'] - shard.base:,}; finish it by the ingest that made it"
            )
    missing = [f"{number}/{of}" for number in sorted({*range(1, of + 1)} - {shard.number for shard in shards})]
    if missing:
        raise ShardError(
            f"expected {of} shards, got {len(shards)}: {', '.join(missing[:5])}"
            f"{' and others are' if len(missing) > 5 else ' is' if len(missing) == 1 else ' are'} missing; "
            "make them by ingest --shard, and name their folders too"
        )
    for before, shard in zip([None, *shards], shards, strict=False):
        begin = 0 if before is None else before.end
        if shard.base != begin:
            raise ShardError(
                f"{_place(shard.part)}: expected shard {shard.number}/{of} to begin at id {begin:,}, got "
                f"{shard.base:,}; make all shards of the same input"
            )


def _shards(parts: Sequence[Snapshot]) -> Iterator[_Shard]:
    for part in parts:
        source = part.manifest["source"]
        if "shard" in (made_with := source.get("made_with", {})):
            number, of = map(int, made_with["shard"].split("/"))
            record = source["inputs"][0]
            yield _Shard(part, number, of, record["base"], record["base"] + record["n"])


def _in_order(parts: Sequence[Snapshot]) -> list[_Placed]:
    """Return all segments by their ids, each with its part. Raises ShardError if the ids of two parts overlap."""
    every: list[tuple[int, _Placed]] = []
    for part in parts:
        after = -1
        for segment in part.segments:
            after = segment.first_id if segment.n else after
            every.append((after, (part, segment)))
    every.sort(key=lambda one: one[0])
    placed = [one for _, one in every]
    filled = [one for one in placed if one[1].n]
    for (one, before), (other, segment) in itertools.pairwise(filled):
        if segment.first_id <= before.last_id:
            raise ShardError(
                f"{_place(other)}: expected ids that {_place(one)} does not have, got {segment.first_id:,} to "
                f"{segment.last_id:,} beside {before.first_id:,} to {before.last_id:,}; make parts of one input by "
                "ingest --shard, or append the input of one part to the other"
            )
    return placed


# What the new manifest names


def _statistics(part: Snapshot) -> dict[str, bytes]:
    """Return the fitted statistics and, if there is one, the head: content by name."""
    named = {f"{stem}.safetensors": file_of(part.manifest, stem) for stem in ("constants", "head")}
    files = part.manifest["files"]
    return {name: read_content(part.path / old, files[old]) for name, old in named.items() if old is not None}


def _source(parts: Sequence[Snapshot]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the JSON of the inputs of all parts, and the listings that it names: content by name."""
    source: dict[str, Any] = {}
    roots: dict[str, str] = {}
    records: list[tuple[Snapshot, dict[str, Any]]] = []
    for part in parts:
        own = part.manifest["source"]
        for name, root in own.get("roots", {}).items():
            if roots.setdefault(name, root) != root:
                raise ShardError(
                    f"{_place(part)}: expected its pictures in {roots[name]}, as those of another part, got {root}; "
                    "append the input of one part to the other"
                )
        for moves in ("moved", "removed", "appends"):
            for entry in own.get(moves, []):
                if entry not in source.setdefault(moves, []):
                    source[moves].append(entry)
        records += [(part, record) for record in own.get("inputs", [])]
    if any("roots" in part.manifest["source"] for part in parts):
        source["roots"] = roots
    shards = [shard.part for shard in sorted(_shards(parts), key=lambda shard: shard.base)]
    listed: dict[str, bytes] = {}
    if shards:
        whole = _one_record([(part, part.manifest["source"]["inputs"][0]) for part in shards])
        listed["inputs-0.parquet"] = _joined_listing(shards)
        source["inputs"] = [{**whole, "listing": "inputs-0.parquet"}]
        records = [(part, record) for part, record in records if part not in shards]
    records.sort(key=lambda one: one[1]["base"])
    for number, (part, record) in enumerate(records, len(listed)):
        name = f"inputs-{number}.parquet" if record["listing"] else ""
        if name:
            listed[name] = read_content(part.path / record["listing"], part.manifest["files"][record["listing"]])
        source.setdefault("inputs", []).append({**record, "listing": name})
    source.get("inputs", []).sort(key=lambda record: record["base"])
    made_with = [
        {name: value for name, value in part.manifest["source"].get("made_with", {}).items() if name != "shard"}
        for part in parts
    ]
    if made_with[0] and all(each == made_with[0] for each in made_with):
        source["made_with"] = made_with[0]
    return source, listed


def _one_record(records: Sequence[tuple[Snapshot, dict[str, Any]]]) -> dict[str, Any]:
    """Return the entries of shards in the list of inputs as the entry of a single ingest."""
    first = records[0][1]
    for part, record in records:
        if record["paths"] != first["paths"]:
            raise ShardError(
                f"{_place(part)}: expected a shard of {', '.join(first['paths'])}, got one of "
                f"{', '.join(record['paths'])}; make all shards of the same input"
            )
    return {**first, "n": sum(record["n"] for _, record in records)}


def _joined_listing(shards: Sequence[Snapshot]) -> bytes:
    """Return the listings of shards as one listing, in which a file that was divided among shards has one row."""
    groups: list[list[dict[str, Any]]] = []
    for part in shards:
        record = part.manifest["source"]["inputs"][0]
        own: list[list[dict[str, Any]]] = []
        for row in read_listing(part.path / record["listing"], part.manifest["files"][record["listing"]]).to_pylist():
            own += [] if row["beside"] else [[]]
            own[-1].append({**row, "first": row["first"] + record["base"]})
        if groups and own and own[0][0]["place"] == groups[-1][0]["place"]:
            _extend(groups[-1], own.pop(0), part)
        groups += own
    import pyarrow as pa

    rows = [row for group in groups for row in group]
    return write_listing(pa.Table.from_pylist(rows, schema=listing_schema()))


def _extend(before: list[dict[str, Any]], group: list[dict[str, Any]], part: Snapshot) -> None:
    """Add the rows of a file in the next shard to its rows in the shard before."""
    state = ("place", "size", "mtime_ns", "ctime_ns")
    if [[row[name] for name in state] for row in group] != [[row[name] for name in state] for row in before]:
        raise ShardError(
            f"{_place(part)}: expected {group[0]['place']} as the shard before had it, it has changed since; make both "
            "shards again"
        )
    for row, more in zip(before, group, strict=True):
        row["rows"] += more["rows"]


def _segments(
    folder: Path, placed: Sequence[_Placed], report: Callable[[int, int], None]
) -> tuple[list[dict[str, Any]], int]:
    """Link or copy the files of all segments; return their entries in the manifest, and the bytes that were copied."""
    entries, copied = [], 0
    make_folder(folder / "segments")
    for number, (_, segment) in enumerate(placed):
        report(number, len(placed))
        name = f"segments/{number:06d}-{segment.folder.name.rpartition('-')[2]}"
        (folder / name).mkdir()
        for file, entry in segment.files.items():
            if not link_file(segment.folder / file, entry, folder / name / file):
                require_space(folder, entry["bytes"], f"a copy of {segment.folder / file}")
                copied += copy_file(segment.folder / file, entry, folder / name / file).size
        sync_folder(folder / name)
        first, last = (segment.first_id, segment.last_id) if segment.n else (0, -1)
        entries.append({"name": name, "n": segment.n, "first_id": first, "last_id": last, "files": segment.files})
    sync_folder(folder / "segments")
    report(len(placed), len(placed))
    return entries, copied


def _deleted(placed: Sequence[_Placed]) -> Bitmap | None:
    """Return the bitmap of deleted rows by their new positions, or None if none is deleted."""
    parts = [np.zeros(0, np.uint8)]
    for part, segment in placed:
        own = slice(segment.start // 8, (segment.start + segment.tiles * TILE) // 8)
        parts.append(np.zeros(own.stop - own.start, np.uint8) if part.deleted is None else part.deleted[own])
    flags = np.concatenate(parts)
    return flags if flags.any() else None


def _place(part: Snapshot) -> str:
    return escaped_path(str(part.path))
