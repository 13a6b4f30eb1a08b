"""The kinds of inputs, and the scan that finds the kind and the pieces of each path."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpubranches.catalog.pictures.folders import FoundPictures, find_pictures
from gpubranches.catalog.pictures.formats import ENDINGS, ending_of
from gpubranches.core.files import escaped_path, parse_json
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, DataError, UsageError
from gpubranches.ingestion import embedding_tables, picture_folder, picture_tables, tar_shards, videos
from gpubranches.ingestion.datasets import ARRAY, CLIP_RETRIEVAL, is_clip_retrieval
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Progress

FOLDERS = (picture_folder.KIND, tar_shards.KIND, embedding_tables.KIND, picture_tables.KIND, videos.KIND)
"""The kinds that a folder can have; its files decide."""
KINDS = (FOLDERS[0], tar_shards.KIND, videos.KIND, picture_tables.KIND, embedding_tables.KIND, CLIP_RETRIEVAL, ARRAY)
"""All kinds, in the order of the help."""


def scan(
    paths: Sequence[str | Path],
    options: IngestOptions | None = None,
    progress: Progress | None = None,
    catalog: Path | None = None,
) -> list[Input]:
    """Return the inputs at some paths, without reading pictures or embeddings.

    catalog: the folder of the catalog, whose folder `scenes` keeps the times of scenes in videos; None: they are not
    kept.
    Raises CatalogNotFoundError, CatalogFormatError or DataError for an input that cannot be used, UsageError for a
    repeated input.
    """
    options, progress = options or IngestOptions(), progress or (lambda stage, done, total: None)
    kept = None if catalog is None else catalog / "scenes"
    found = [_open(Path(path), options, progress, kept) for path in paths]
    owners: dict[str, Input] = {}
    for each in found:
        for place in {piece.path for piece in each.pieces}:
            if place in owners:
                both = f"{escaped_path(owners[place].path)} and {escaped_path(each.path)}"
                raise UsageError(
                    f"inputs: expected each file once, {escaped_path(place)} is in {both}; leave one of them out"
                )
            owners[place] = each
    return found


def _open(path: Path, options: IngestOptions, progress: Progress, kept: Path | None) -> Input:
    if not path.exists():
        raise CatalogNotFoundError(f"{escaped_path(str(path))}: expected a file or folder to ingest, found none")
    place = os.path.realpath(path)
    if not path.is_dir():
        files = ((os.path.basename(place), place),)
        return _file(path, InputFiles(path, os.path.dirname(place), files, options, progress, kept))
    given = InputFiles(path, place, (), options, progress, kept)
    return _opened(CLIP_RETRIEVAL, given) if is_clip_retrieval(path) else _folder(path, place, given)


def _opened(kind: Kind, given: InputFiles) -> Input:
    found = kind.open(given)
    if found is None:
        raise CatalogFormatError(f"{escaped_path(str(given.path))}: expected {kind.given}")
    return found


def _file(path: Path, given: InputFiles) -> Input:
    if not path.is_file():
        raise CatalogFormatError(f"{path}: expected a folder or a file, got a pipe, a socket or a device")
    kinds = [kind for kind in (ARRAY, *FOLDERS[1:]) if ending_of(path.name) in kind.endings]
    for kind in kinds:
        if (found := kind.open(given)) is not None:
            return found
    if kinds:
        columns = "pictures (a struct of bytes and path, or bytes) or of embeddings (lists of floats)"
        raise CatalogFormatError(f"{escaped_path(str(path))}: expected a column of {columns}, found none")
    known = ", ".join(dict.fromkeys(ending for kind in (ARRAY, *FOLDERS[1:]) for ending in kind.endings))
    raise CatalogFormatError(
        f"{escaped_path(str(path))}: expected a folder, or a file that ends in {known}, got "
        f"{path.suffix or 'no ending'!r}"
        + ("; give the folder of the picture" if ending_of(path.name) in ENDINGS else "")
    )


def _folder(path: Path, place: str, empty: InputFiles) -> Input:
    """Open a folder as the kind with the most bytes; the notes count files of other kinds. empty: without its files.

    Videos are read only if there are no pictures, because a camera's videos are fewer but larger than its pictures.
    """
    found = find_pictures(path, is_catalog, [ending for kind in FOLDERS[1:] for ending in kind.endings])
    files = {FOLDERS[0].endings: found.pictures}
    for kind in FOLDERS[1:]:
        files[kind.endings] = _of_saved(place, [each for each in found.others if ending_of(each[0]) in kind.endings])
    placed = {
        group: tuple((name, target or os.path.join(place, name)) for name, target in files[group]) for group in files
    }
    sizes = {group: sum(_size(file) for _, file in placed[group]) for group in placed}
    if found.pictures:
        sizes[videos.KIND.endings] = 0
    for kind in sorted(FOLDERS, key=lambda kind: -sizes[kind.endings]):
        given = replace(empty, files=placed[kind.endings])
        if given.files and (opened := kind.open(given)) is not None:
            return _with_notes(opened, path, found, {name for name, _ in given.files})
    return _with_notes(_opened(FOLDERS[0], empty), path, found, set())


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise DataError(f"{escaped_path(path)}: cannot read: {error.strerror}") from error


def _of_saved(place: str, files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the files that a saved Hugging Face data set names, without others such as its caches."""
    named: dict[str, set[str] | None] = {}
    for folder in {os.path.dirname(name) for name, _ in files}:
        try:
            state = parse_json(Path(place, folder, "state.json").read_bytes())
            named[folder] = {str(each["filename"]) for each in state["_data_files"]}
        except (OSError, ValueError, KeyError, TypeError):
            named[folder] = None
    return [each for each in files if _is_named(each[0], named)]


def _is_named(name: str, named: dict[str, set[str] | None]) -> bool:
    known = named[os.path.dirname(name)]
    return known is None or os.path.basename(name) in known


def _with_notes(opened: Input, path: Path, found: FoundPictures, used: set[str]) -> Input:
    """Return an input with one note for each kind of skipped files."""
    names = [name for name, _ in (*found.pictures, *found.others)]
    left = Counter(found.other_files)
    left += Counter(ending_of(name) or "without ending" for name in names if name not in used)
    notes = [f"{escaped_path(str(path))}: skipped {phrase}" for phrase in found.skipped(left)]
    if not used:
        notes.append(f"{escaped_path(str(path))}: pictures end in {', '.join(ENDINGS)}")
    return replace(opened, notes=(*notes, *opened.notes))


def is_catalog(folder: Path) -> bool:
    """Return whether a folder is a catalog, whose thumbnails must not be ingested."""
    manifest = folder / "manifest.json"
    try:
        content = parse_json(manifest.read_bytes()) if manifest.is_file() else None
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("format", "")).startswith("gpubranches-")
