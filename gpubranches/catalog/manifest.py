"""The manifest: the one file that says what a catalog is made of. See docs/format.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpubranches.catalog.order import TILE
from gpubranches.catalog.segment import Segment
from gpubranches.catalog.storage import Lease, checksum, replace_file
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError
from gpubranches.quantize import SignQuantizer
from gpubranches.space import Space

FORMAT = "gpubranches-catalog"
VERSION = 1
_TYPES = {
    **dict.fromkeys(("generation", "d", "D", "n_bits", "next_id"), int),
    **dict.fromkeys(("space", "source", "files"), dict),
    "segments": list,
    "embedder": str,
}


def new_manifest(
    *,
    space: Space,
    d: int,
    signs: SignQuantizer | None,
    embedder: str,
    source: dict[str, Any],
    files: dict[str, Any],
    keep_embeddings: bool = True,
) -> dict[str, Any]:
    """Return the manifest of an empty catalog; see Catalog.create."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "generation": 0,
        "space": space.to_json(),
        "d": d,
        "D": 0 if signs is None else len(signs.mean_),
        "n_bits": 0 if signs is None else signs.n_bits,
        "next_id": 0,
        "embedder": embedder,
        "source": source,
        "files": files,
        "segments": [],
        "deleted": None,
        **({} if keep_embeddings else {"keeps_embeddings": False}),
    }


def open_segments(folder: Path, manifest: dict[str, Any]) -> Iterator[Segment]:
    """Yield the segments of a manifest, in order of position, each held by a lease as long as it is used."""
    start = 0
    for entry in manifest["segments"]:
        segment = Segment(
            folder=folder / entry["name"],
            start=start,
            n=entry["n"],
            d=manifest["d"],
            n_bits=manifest["n_bits"],
            D=manifest["D"],
            first_id=entry["first_id"],
            last_id=entry["last_id"],
            files=entry["files"],
            lease=Lease(folder / entry["name"]),
        )
        yield segment
        start += segment.tiles * TILE


def own_files(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries, by name, of all files of a generation that lie in no segment."""
    deleted = manifest["deleted"]
    return {**manifest["files"], **({deleted["name"]: deleted} if deleted else {})}


def file_of(manifest: dict[str, Any], stem: str) -> str | None:
    """Return the name of the file of a stem, such as head.safetensors or head-3.safetensors, or None."""
    names = [name for name in manifest["files"] if re.fullmatch(rf"{stem}(-\d+)?\.safetensors", name)]
    return names[0] if names else None


def listings(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries, by name, of the files that list what was taken in: those of every generation are kept."""
    return {name: entry for name, entry in manifest["files"].items() if re.fullmatch(r"inputs-\d+\.parquet", name)}


def numbered(stem: str, generation: int) -> str:
    """Return the name of a file of a stem that is first named by a generation."""
    return f"{stem}-{generation}.safetensors" if generation else f"{stem}.safetensors"


def is_numbered(name: str) -> bool:
    """Return whether a file in a catalog's folder is, or would have become, one that only its manifest makes valid."""
    named = r"((head|constants)(-\d+)?\.safetensors|deleted-\d+\.bitmap|inputs-\d+\.parquet)(\.partial)?"
    return re.fullmatch(named, name) is not None


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Commit a manifest: what it names is the catalog from now on."""
    replace_file(folder / "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a catalog. Raises CatalogNotFoundError or CatalogFormatError."""
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        known = manifest["format"] == FORMAT and manifest["version"] == VERSION
    except OSError as error:
        raise CatalogNotFoundError(f"{path}: cannot read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogFormatError(f"{path}: expected the JSON of a catalog's manifest: {error}") from error
    if not known:
        raise CatalogFormatError(
            f"{path}: expected {FORMAT} version {VERSION}, got {manifest['format']!r} version {manifest['version']!r}; "
            "open it with the version of gpubranches that wrote it"
        )
    for name, kind in _TYPES.items():
        value = manifest.get(name)
        if not isinstance(value, kind):
            raise CatalogFormatError(f"{path}: {name}: expected {kind.__name__}, got {value!r}; restore it from a copy")
    return manifest


def looks_of(folder: Path) -> tuple[int, int, int]:
    """Return what tells one manifest from the next without reading it."""
    try:
        stat = (folder / "manifest.json").stat()
    except OSError:
        return 0, 0, 0
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def problems(folder: Path, manifest: dict[str, Any], segments: Sequence[Segment]) -> list[str]:
    """Check every file that a manifest names, and its segments against each other; one line a problem."""
    found = [
        f"{folder / name}: its content is not what was written (SHA-256 differs)"
        for name, entry in own_files(manifest).items()
        if checksum(folder / name) != entry["sha256"]
    ]
    last = -1
    for segment in segments:
        found += segment.problems()
        if segment.n and segment.first_id <= last:
            found.append(f"{segment.folder}: ids overlap those of the segment before")
        last = max(last, segment.last_id)
    return found
