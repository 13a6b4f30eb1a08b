"""The manifest: the file that names all files of a catalog. See docs/format.md."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gpubranches.catalog.segment import MOST_IDS, SEGMENT_ROWS
from gpubranches.catalog.storage import RESTORE
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.files import parse_json, read_regular, replace_file
from gpubranches.encoders.quantizers import MAX_BITS, SignQuantizer
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, UsageError

FORMAT = "gpubranches-catalog"
VERSION = 2
"""The version that is written. A manifest of version 1 has no checksum of its own; the next commit adds one."""
MOST_DIMS = 1024
"""The largest number of code dims."""
_MOST_ID = (1 << 63) - 1
_SEAL = b',\n "sha256": "'


def new_manifest(
    *,
    space: EmbeddingSpace,
    d: int,
    signs: SignQuantizer | None,
    embedder: str,
    source: dict[str, Any],
    files: dict[str, Any],
    keep_embeddings: bool = True,
    next_id: int = 0,
    parts: Sequence[int] = (),
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
        "next_id": next_id,
        "embedder": embedder,
        "source": source,
        "files": files,
        "segments": [],
        "deleted": None,
        **({} if keep_embeddings else {"keeps_embeddings": False}),
        **({"parts": list(parts)} if parts else {}),
    }


def require_code_dims(d: int) -> None:
    """Raise UsageError unless d is a number of code dims that a catalog can have."""
    if d % 4 or not 4 <= d <= MOST_DIMS:
        raise UsageError(f"d: expected a multiple of 4 from 4 to 1,024, got {d}")


def own_files(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries, by name, of all files of a generation outside of segments."""
    deleted = manifest["deleted"]
    return {**manifest["files"], **({deleted["name"]: deleted} if deleted else {})}


def file_of(manifest: dict[str, Any], stem: str) -> str | None:
    """Return the name of the file of a stem, such as head.safetensors or head-3.safetensors, or None."""
    names = [name for name in manifest["files"] if re.fullmatch(rf"{stem}(-\d+)?\.safetensors", name)]
    return names[0] if names else None


def listings(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the entries of all listings of inputs by name; those of every generation are kept."""
    return {name: entry for name, entry in manifest["files"].items() if re.fullmatch(r"inputs-\d+\.parquet", name)}


def numbered(stem: str, generation: int) -> str:
    """Return the name of a file of a stem that is first named by a generation."""
    return f"{stem}-{generation}.safetensors" if generation else f"{stem}.safetensors"


def is_numbered(name: str) -> bool:
    """Return whether a manifest can name a file outside segments by this name, or by that of its partial file."""
    named = r"((head|constants)(-\d+)?\.safetensors|deleted-\d+\.bitmap|inputs-\d+\.parquet)(\.partial)?"
    return re.fullmatch(named, name) is not None


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Commit a manifest: from now on the files that it names are the catalog. Raises OSError."""
    body = json.dumps({**manifest, "version": VERSION}, indent=1).encode().removesuffix(b"\n}")
    seal = hashlib.sha256(body).hexdigest().encode()
    replace_file(folder / "manifest.json", body + _SEAL + seal + b'"\n}\n')


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a catalog. Raises CatalogNotFoundError or CatalogFormatError."""
    path = folder / "manifest.json"
    try:
        content = read_regular(path)
    except OSError as error:
        raise CatalogNotFoundError(f"{path}: cannot read: {error.strerror}; {RESTORE}") from error
    try:
        manifest: dict[str, Any] = parse_json(content)
        format, version = manifest["format"], manifest["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogFormatError(
            f"{path}: expected the JSON of a catalog's manifest: {_short(error)}; {RESTORE}"
        ) from error
    if format != FORMAT or version not in (1, VERSION):
        raise CatalogFormatError(
            f"{path}: expected {FORMAT} version 1 or {VERSION}, got {_short(format)} version {_short(version)}; "
            "open it with the version of gpubranches that wrote it"
        )
    if version != 1:
        body, seal, rest = content.rpartition(_SEAL)
        if not seal or rest != hashlib.sha256(body).hexdigest().encode() + b'"\n}\n':
            raise CatalogFormatError(f"{path}: its content is damaged (SHA-256 differs); {RESTORE}")
        del manifest["sha256"]
    problem = _problem(manifest)
    if problem:
        raise CatalogFormatError(f"{path}: {problem}; {RESTORE}")
    return manifest


def manifest_stamp(folder: Path) -> tuple[int, int, int]:
    """Return inode, time and size of the manifest, which differ between two commits; zeros if it is missing."""
    try:
        stat = (folder / "manifest.json").stat()
    except OSError:
        return 0, 0, 0
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


# Required entries of a manifest: by name, the check of a single value

Check = Callable[[Any], bool]


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _text(pattern: str = r"[\s\S]*") -> Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_ENTRY: dict[str, Check] = {"bytes": _whole(0, _MOST_ID), "sha256": _text(r"[0-9a-f]{64}")}
_SEGMENT: dict[str, Check] = {
    "name": _text(r"segments/[\w-]+"),
    "n": _whole(0, SEGMENT_ROWS),
    "first_id": _whole(0, _MOST_ID),
    "last_id": _whole(-1, _MOST_ID),
    "files": lambda value: _is_files(value, r"\w+\.\w+"),
}
_SPACE = {field.name for field in fields(EmbeddingSpace)}


def _is_move(value: object) -> bool:
    if isinstance(value, dict):
        return _has({"from": 0, **value}, _RENAMING)
    return _is_list(value, _is_path) and isinstance(value, list) and len(value) == 2


_RENAMING: dict[str, Check] = {
    "from": _whole(0, _MOST_ID),
    "below": _whole(0, _MOST_ID),
    "paths": lambda value: isinstance(value, dict) and all(_is_path(path) for pair in value.items() for path in pair),
}
_RECORD: dict[str, Check] = {
    "paths": lambda value: _is_list(value, _is_path),
    "listing": _text(r"(inputs-\d+\.parquet)?"),
    "base": _whole(0, _MOST_ID),
    "n": _whole(0, _MOST_ID),
    "mended": lambda value: _is_list(value, _whole(0, _MOST_ID)),
}
_SOURCE: dict[str, Check] = {
    "roots": lambda value: isinstance(value, dict) and all(map(_is_path, value.values())),
    "appends": lambda value: _is_list(value, lambda one: isinstance(one, dict)),
    "inputs": lambda value: _is_list(value, lambda one: _has(one, _RECORD)),
    "moved": lambda value: _is_list(value, _is_move),
    "removed": lambda value: _is_list(value, lambda one: _is_list(one, _whole(0, _MOST_ID)) and len(one) == 2),
    "made_with": lambda value: isinstance(value, dict) and _text(r"\d{1,9}/\d{1,9}")(value.get("shard", "1/1")),
}
_MANIFEST: dict[str, Check] = {
    "generation": _whole(0, _MOST_ID),
    "space": lambda value: isinstance(value, dict) and all(name in _SPACE and _text()(value[name]) for name in value),
    "d": lambda value: _whole(4, MOST_DIMS)(value) and value % 4 == 0,
    "D": _whole(0, MAX_BITS),
    "n_bits": _whole(0, MAX_BITS),
    "next_id": _whole(0, _MOST_ID),
    "embedder": _text(),
    "source": lambda value: (
        isinstance(value, dict) and all(_SOURCE[name](value[name]) for name in _SOURCE.keys() & value)
    ),
    "files": lambda value: _is_files(value, r"(constants|head)(-\d+)?\.safetensors|inputs-\d+\.parquet"),
    "segments": lambda value: isinstance(value, list) and all(_has(one, _SEGMENT) for one in value),
    "deleted": lambda value: value is None or _has(value, {**_ENTRY, "name": _text(r"deleted-\d+\.bitmap")}),
    "keeps_embeddings": lambda value: isinstance(value, bool),
    "parts": lambda value: _is_list(value, _whole(1, MAX_BITS)) and len(value) > 1,
}
_OPTIONAL = {"keeps_embeddings", "parts"}


def _problem(manifest: dict[str, Any]) -> str:
    """Return the first problem of a manifest, "" for none; single entries are checked before their relations."""
    for name, fits in _MANIFEST.items():
        if name not in manifest and name not in _OPTIONAL:
            return f"{name}: expected a value, got none"
        if name in manifest and not fits(manifest[name]):
            return f"{name}: expected a value of another type or range, got {_short(manifest[name])}"
    if manifest["n_bits"] != -(-manifest["D"] // 32) * 32:
        return f"n_bits: expected D = {manifest['D']} rounded up to a multiple of 32, got {manifest['n_bits']}"
    if "parts" in manifest and sum(manifest["parts"]) != manifest["D"]:
        return f"parts: expected dims that sum to D = {manifest['D']}, got {_short(manifest['parts'])}"
    others = manifest["files"].keys() - listings(manifest).keys()
    if file_of(manifest, "constants") is None or len(others) > 2:
        return f"files: expected constants and at most one head, got {_short(list(manifest['files']))}"
    return _problem_of_inputs(manifest) or _problem_of_segments(manifest)


def _problem_of_inputs(manifest: dict[str, Any]) -> str:
    records = manifest["source"].get("inputs", [])
    if "made_with" in manifest["source"] and not records:
        return "source: expected the inputs that were ingested, got none"
    last = 0
    for record in records:
        if record["listing"] and record["listing"] not in manifest["files"]:
            return f"source: expected {record['listing']} among the files, got none"
        if not last <= record["base"] <= manifest["next_id"]:
            return f"source: expected inputs of ids that ascend to {manifest['next_id']}, got ids from {record['base']}"
        last = record["base"]
    return ""


def _problem_of_segments(manifest: dict[str, Any]) -> str:
    last, names = -1, set()
    for segment in manifest["segments"]:
        name, n, first = segment["name"], segment["n"], segment["first_id"]
        if name in names:
            return f"segments: {name} is named twice"
        names.add(name)
        if n:
            if not last < first <= segment["last_id"] < manifest["next_id"]:
                return f"segments: {name}: expected ids that ascend to {manifest['next_id'] - 1}, got ids from {first}"
            last = segment["last_id"]
            if not n <= last - first + 1 <= MOST_IDS:
                return f"segments: {name}: expected {n:,} ids or more and at most {MOST_IDS:,}, got {first} to {last}"
    return ""


def _has(value: Any, checks: dict[str, Check]) -> bool:
    return isinstance(value, dict) and all(name in value and fits(value[name]) for name, fits in checks.items())


def _is_files(value: Any, pattern: str) -> bool:
    fits = _text(pattern)
    return isinstance(value, dict) and all(fits(name) and _has(entry, _ENTRY) for name, entry in value.items())


def _is_list(value: Any, fits: Check) -> bool:
    return isinstance(value, list) and all(map(fits, value))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, Exception) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
