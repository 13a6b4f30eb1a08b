"""The kinds of inputs, and the scan that finds the kind and the pieces of each path."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from gpubranches.catalog.pictures.folders import FoundPictures, find_pictures, is_hidden
from gpubranches.catalog.pictures.formats import ENDINGS, ending_of
from gpubranches.core import stores
from gpubranches.core.files import escaped_path, parse_json
from gpubranches.errors import CatalogFormatError, CatalogNotFoundError, DataError, UsageError
from gpubranches.ingestion import embedding_tables, picture_folder, picture_tables, tar_shards, videos
from gpubranches.ingestion.datasets import ARRAY, CLIP_RETRIEVAL, is_clip_retrieval
from gpubranches.ingestion.options import IngestOptions
from gpubranches.ingestion.pieces import FileState
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Progress
from gpubranches.ingestion.table_files import unread_table

FOLDERS = (picture_folder.KIND, tar_shards.KIND, embedding_tables.KIND, picture_tables.KIND, videos.KIND)
"""The kinds that a folder can have; its files decide."""
_STORED = tuple(kind for kind in (ARRAY, *FOLDERS[1:]) if kind is not videos.KIND)
"""The kinds of files that are read from stores, beside pictures."""
KINDS = (FOLDERS[0], tar_shards.KIND, videos.KIND, picture_tables.KIND, embedding_tables.KIND, CLIP_RETRIEVAL, ARRAY)
"""All kinds, in the order of the help."""
_ROWS = "write embeddings as .npy, or with their metadata as Parquet with a column `embedding`"
_ADVICE = {
    ending: told
    for told, endings in {
        "give the folder of the picture": " ".join(ENDINGS),
        "give files of embeddings by their own names": " ".join(ARRAY.endings),
        "unpack compressed files first": ".gz .tgz .bz2 .tbz .xz .zst .zip .7z .rar",
        _ROWS: ".npz .pt .pth .bin .safetensors .h5 .hdf5 .mat .pkl .fvecs .zarr .lance .feather",
        f"{_ROWS}; for addresses of pictures give the tars that img2dataset makes of them": ".csv .tsv .json .jsonl "
        ".txt .xlsx",
        "export pictures as JPEG": ".cr2 .cr3 .nef .arw .dng .raf .orf .rw2 .psd .svg .pdf .jp2",
    }.items()
    for ending in endings.split()
}
"""What to do with files of some endings that are not read, or not where they are."""


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
    found = [
        _open_stored(stores.checked_url(str(path)), options, progress)
        if stores.is_url(path)
        else _open(Path(path), options, progress, kept)
        for path in map(stores.without_file_scheme, paths)
    ]
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
        if not path.is_file():
            raise CatalogFormatError(f"{path}: expected a folder or a file, got a pipe, a socket or a device")
        files = ((os.path.basename(place), place),)
        return _file(InputFiles(path, os.path.dirname(place), files, options, progress, kept=kept))
    given = InputFiles(path, place, (), options, progress, kept=kept)
    if is_clip_retrieval(path):
        return _opened(CLIP_RETRIEVAL, given)
    return _folder(given, find_pictures(path, is_catalog, [ending for kind in FOLDERS[1:] for ending in kind.endings]))


def _open_stored(url: str, options: IngestOptions, progress: Progress) -> Input:
    """Open a file or folder of a store: a file if the address ends like one."""
    ending = ending_of(stores.name_of(url))
    if ending in videos.KIND.endings:
        raise CatalogFormatError(f"{escaped_path(url)}: expected no video in a store; copy it to a folder")
    if ending in ENDINGS:
        raise CatalogFormatError(f"{escaped_path(url)}: expected a folder of pictures; give the folder of the picture")
    if ending in {ending for kind in _STORED for ending in kind.endings}:
        state = FileState.of_stored(stores.stat(url))
        files = ((stores.name_of(url), url),)
        return _file(InputFiles(url, stores.folder_of(url), files, options, progress, {url: state}))
    listed = stores.listed(url)
    if not listed and ending and stores.exists(url):
        return _file(InputFiles(url, stores.folder_of(url), (), options, progress))  # it refuses the ending
    if not listed:
        raise CatalogNotFoundError(f"{escaped_path(url)}: expected a file or folder to ingest, found none")
    if any(name.startswith("img_emb/") for name in listed):
        raise CatalogFormatError(
            f"{escaped_path(url)}: expected no folder of clip-retrieval in a store; copy it to a folder of this machine"
        )
    found = FoundPictures()
    for name, file in listed.items():
        if not is_hidden(name):
            found.add(name, file.url, {ending for kind in _STORED for ending in kind.endings})
    states = {file.url: FileState.of_stored(file) for file in listed.values()}
    return _folder(InputFiles(url, url, (), options, progress, states), found)


def _opened(kind: Kind, given: InputFiles) -> Input:
    found = kind.open(given)
    if found is None:
        raise CatalogFormatError(f"{escaped_path(str(given.path))}: expected {kind.given}")
    return found


def _file(given: InputFiles) -> Input:
    name, path = os.path.basename(str(given.path)), escaped_path(str(given.path))
    name = stores.name_of(str(given.path)) if stores.is_url(given.path) else name
    kinds = [kind for kind in (ARRAY, *FOLDERS[1:]) if ending_of(name) in kind.endings]
    for kind in kinds:
        if (found := kind.open(given)) is not None:
            return found
    if kinds:
        raise CatalogFormatError(unread_table(given.files[0][1]))
    known = ", ".join(dict.fromkeys(ending for kind in (ARRAY, *FOLDERS[1:]) for ending in kind.endings))
    raise CatalogFormatError(
        f"{path}: expected a folder, or a file that ends in {known}, got {Path(name).suffix or 'no ending'!r}"
        + "".join(f"; {each}" for each in _advice([ending_of(name)]))
    )


def _folder(folder: InputFiles, found: FoundPictures) -> Input:
    """Open a folder as the kind with the most bytes; the notes count files of other kinds.

    Videos are read only if there are no pictures, because a camera's videos are fewer but larger than its pictures.
    """
    files = {FOLDERS[0].endings: found.pictures}
    for kind in FOLDERS[1:]:
        files[kind.endings] = [each for each in found.others if ending_of(each[0]) in kind.endings]
    tables = picture_tables.KIND.endings
    files[tables], saved = _of_saved(folder.place, files[tables])
    placed = {
        group: tuple((name, target or os.path.join(folder.place, name)) for name, target in files[group])
        for group in files
    }
    sizes = {group: sum(folder.state(file).size for _, file in placed[group]) for group in placed}
    if found.pictures:
        sizes[videos.KIND.endings] = 0
    for kind in sorted(FOLDERS, key=lambda kind: -sizes[kind.endings]):
        given = replace(folder, files=placed[kind.endings])
        if given.files and (opened := kind.open(given)) is not None:
            opened = replace(opened, notes=(*opened.notes, *(saved if kind.endings == tables else ())))
            return _with_notes(opened, str(folder.path), found, {name for name, _ in given.files})
    if placed[tables]:
        raise CatalogFormatError(unread_table(placed[tables][0][1]))
    return _with_notes(_opened(FOLDERS[0], folder), str(folder.path), found, set())


def _of_saved(place: str, files: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the files that a saved Hugging Face data set names, without others such as its caches, and notes.

    A note tells of files that are missing, and of a selection of rows, which older versions kept in a file of its own.
    """
    kept, notes = list[tuple[str, str]](), list[str]()
    by_folder: dict[str, list[tuple[str, str]]] = {}
    for each in files:
        by_folder.setdefault(os.path.dirname(each[0]), []).append(each)
    for folder, own in by_folder.items():
        try:
            state = parse_json(_content(place, f"{folder}/state.json".lstrip("/")))
            named = {str(each["filename"]) for each in state["_data_files"]}
        except (OSError, DataError, ValueError, KeyError, TypeError):
            kept += own
            continue
        here = {os.path.basename(name): (name, target) for name, target in own}
        kept += [each for name, each in here.items() if name in named]
        shown = escaped_path(folder or ".")
        if missing := sorted(named - here.keys()):
            notes.append(
                f"{shown}: {len(missing):,} of {len(named):,} files of the saved data set are missing, such as "
                f"{escaped_path(missing[0])}"
            )
        if state.get("_indices_data_files"):
            notes.append(f"{shown}: the data set selects rows by indices, and all rows are read; save it anew")
    return sorted(kept), notes


def _content(place: str, name: str) -> bytes:
    if stores.is_url(place):
        with stores.copy(stores.stat(f"{place}/{name}")) as file:
            return file.read()
    return Path(place, name).read_bytes()


def _with_notes(opened: Input, path: str, found: FoundPictures, used: set[str]) -> Input:
    """Return an input with one note for each kind of skipped files."""
    names = [name for name, _ in (*found.pictures, *found.others)]
    left = Counter(found.other_files)
    left += Counter(ending_of(name) or "without ending" for name in names if name not in used)
    notes = [f"{escaped_path(path)}: skipped {phrase}" for phrase in found.skipped(left)]
    if not used:
        notes.append(f"{escaped_path(path)}: pictures end in {', '.join(ENDINGS)}")
        notes += _advice(left)
        if stores.is_url(path) and not left.keys().isdisjoint(videos.KIND.endings):
            notes.append("copy videos from a store to a folder of this machine")
    return replace(opened, notes=(*notes, *opened.notes))


def _advice(endings: Iterable[str]) -> list[str]:
    """Return what to do with files of these endings, which are not read."""
    return list(dict.fromkeys(_ADVICE[ending] for ending in endings if ending in _ADVICE))


def is_catalog(folder: Path) -> bool:
    """Return whether a folder is a catalog, whose thumbnails must not be ingested."""
    manifest = folder / "manifest.json"
    try:
        content = parse_json(manifest.read_bytes()) if manifest.is_file() else None
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("format", "")).startswith("gpubranches-")
