"""Tar files of pictures (WebDataset, img2dataset), read in place, with the texts and JSON beside each picture."""

from __future__ import annotations

import functools
import os
import tarfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog.metadata.columns import (
    IMAGE_MEMBER,
    IMAGE_OFFSET,
    IMAGE_PATH,
    IMAGE_SIZE,
    renamed_columns,
)
from gpubranches.catalog.pictures.folders import by_ending, is_hidden
from gpubranches.catalog.pictures.formats import ENDINGS, ending_of
from gpubranches.catalog.pictures.parts import open_range
from gpubranches.core import stores
from gpubranches.core.files import escaped_path, is_text, parse_json
from gpubranches.errors import DataError
from gpubranches.ingestion.pieces import FileState, Piece
from gpubranches.ingestion.protocol import Input, InputFiles, Kind, Opener, Part

if TYPE_CHECKING:
    import pyarrow as pa

MOST_TEXT_BYTES = 1 << 20
"""The largest text or JSON beside a picture that is read."""
MOST_COLUMNS = 256
"""The largest number of columns from the JSON of one tar; further keys are left out."""
_TEXTS = {".txt": "caption", ".cls": "cls"}
"""The columns for text files, by their ending."""
_JSON = ".json"
_HELD = 4
"""Number of tars whose members are cached."""
_BLOCK_BYTES = 512
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"(\xb5/\xfd": "unzstd", b"PK": "unzip"}
"""The first bytes of compressed files, with the program that unpacks them."""


@dataclass
class Members:
    """The pictures of a tar, in order.

    names: of the members; starts, sizes: int64, the positions of their bytes; beside: for each picture the texts and
    JSON with the same key, as {ending: (start, size)}; broken: why the tar is truncated, or ""; others: the number of
    all further files, by ending, and of links to files.
    """

    names: list[str] = field(default_factory=list)
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    beside: list[Mapping[str, tuple[int, int]]] = field(default_factory=list)
    broken: str = ""
    others: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """The number of rows: one per picture, and one more for a truncated tar."""
        return len(self.names) + bool(self.broken)


def read_members(file: FileState) -> Members:
    """Return the pictures of a tar; only its headers are read, of a tar in a store all. Raises OSError as `open`."""
    members, spans, texts = Members(), [], _Texts()
    try:
        with _opened(file) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            while (entry := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # it would keep all of them
                ending, span = ending_of(entry.name), (entry.offset_data, entry.size)
                if entry.isdir() or is_hidden(entry.name):
                    continue
                if not entry.isreg() or entry.issparse():
                    members.others["links" if entry.islnk() or entry.issym() else "special"] += 1
                elif ending in ENDINGS:
                    members.names.append(entry.name)
                    spans.append(span)
                elif ending == _JSON or ending in _TEXTS:
                    texts.add(entry.name, ending, span)
                else:
                    members.others[ending or "without ending"] += 1
            members.broken = _broken_end(opened, tar.offset, len(members.names))
    except tarfile.TarError as error:
        members.broken = _compressed(file) or (
            f"the tar cannot be read behind {len(members.names):,} pictures: {error}"
        )
    members.starts, members.sizes = np.array(spans, np.int64).reshape(-1, 2).T
    members.beside = texts.of(members.names)
    return members


def _opened(file: FileState) -> IO[bytes]:
    return open_range(file.path, 0, file.size) if file.is_stored else open(file.path, "rb")


def _broken_end(file: IO[bytes], end: int, pictures: int) -> str:
    """Return why a tar whose members end at a byte is truncated, or "" if zeros follow its last member."""
    file.seek(end)
    block = file.read(_BLOCK_BYTES)
    if block and not any(block):
        return ""
    what = "a header is damaged" if block else "it is cut off"
    return f"the tar is not complete: {what} behind {pictures:,} pictures; restore or download it again"


def _compressed(file: FileState) -> str:
    """Return that a tar is compressed, and what unpacks it, or "" if it is not."""
    with _opened(file) as opened:
        head = opened.read(_BLOCK_BYTES)
    program = next((program for magic, program in _COMPRESSED.items() if head.startswith(magic)), "")
    return f"the tar is compressed and cannot be read in place; unpack it by {program}" if program else ""


class _Texts:
    """The texts and JSON of a tar, as {ending: (start, size)}, found by the names of the pictures that they describe.

    A text of the same name up to the last dot belongs to a picture; as in WebDataset, so does one that shares the name
    up to the first dot, if one of the two has no second dot: s.txt belongs to s.seg.png, but 5.1.txt not to 5.2.png.
    """

    def __init__(self) -> None:
        self._own: dict[str, dict[str, tuple[int, int]]] = {}
        self._longer: dict[str, dict[str, tuple[int, int]]] = {}

    def add(self, name: str, ending: str, span: tuple[int, int]) -> None:
        key, stem = _key(name), os.path.splitext(name)[0]
        self._own.setdefault(stem, {})[ending] = span
        if stem != key:
            self._longer.setdefault(key, {})[ending] = span

    def of(self, names: Sequence[str]) -> list[Mapping[str, tuple[int, int]]]:
        none: dict[str, tuple[int, int]] = {}
        found: list[Mapping[str, tuple[int, int]]] = []
        for name in names:
            key, stem = _key(name), os.path.splitext(name)[0]
            others = (self._longer if stem == key else self._own).get(key, none)
            own = self._own.get(stem, none)
            found.append(others | own if others and own else others or own)
        return found


def _key(name: str) -> str:
    """Return the name of a WebDataset sample: that of its files up to the first dot after the folder."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


class TarShards:
    """The pictures of tar files.

    Items have `image_path` (the tar), `image_member`, `image_offset` and `image_size`; `caption` and `cls` of the texts
    beside a picture; and the keys of its JSON.
    """

    whole_files = False

    def __init__(self, root: str):
        self.root = root
        self._held: OrderedDict[str, Members] = OrderedDict()

    def members(self, file: FileState) -> Members:
        """Return the pictures of a tar; those of the last tars, and of all tars in stores, are cached."""
        path = file.path
        if path not in self._held:
            self._held[path] = read_members(file)
            if len(self._held) > _HELD and not file.is_stored:
                self._held.popitem(last=False)
        self._held.move_to_end(path)
        return self._held[path]

    def openers(self, piece: Piece, rows: Sequence[int]) -> Iterator[Opener]:
        """Yield an opener for each of these pictures of a tar."""
        members = self.members(piece.files[0])
        for row in rows:
            if row < len(members.names):
                start, size = int(members.starts[row]), int(members.sizes[row])
                yield Opener(members.names[row], functools.partial(open_range, piece.path, start, size))
            else:
                yield Opener.broken("", members.broken)

    def items(self, parts: Sequence[Part]) -> pa.Table:
        """Return the metadata of pictures, including the texts and JSON beside them."""
        from gpubranches.catalog.metadata.tables import unify_tables

        return unify_tables([self._items(*part) for part in parts])

    def _items(self, piece: Piece, start: int, stop: int) -> pa.Table:
        import pyarrow as pa

        members = self.members(piece.files[0])
        own = slice(start, min(stop, len(members.names)))
        lacking = [None] * (stop - start - len(members.names[own]))
        columns = {
            IMAGE_PATH: pa.array([escaped_path(piece.name)] * (stop - start), pa.string()),
            IMAGE_MEMBER: pa.array([*map(escaped_path, members.names[own]), *lacking], pa.string()),
            IMAGE_OFFSET: pa.array([*members.starts[own].tolist(), *lacking], pa.int64()),
            IMAGE_SIZE: pa.array([*members.sizes[own].tolist(), *lacking], pa.int64()),
        }
        rows = _all_described(piece.files[0], members.beside[own])
        return pa.table(columns | _columns([*rows, *({} for _ in lacking)], reserved=columns))


def _all_described(file: FileState, beside: Sequence[Mapping[str, tuple[int, int]]]) -> list[dict[str, Any]]:
    """Return the metadata of pictures of a tar. Raises DataError or StoreError if the tar cannot be read."""
    if file.is_stored:
        return stores.at_once(functools.partial(_described, functools.partial(stores.read, file.path)), beside)
    try:
        with open(file.path, "rb", buffering=0) as opened:
            handle = opened.fileno()
            return [_described(lambda start, size: os.pread(handle, size, start), each) for each in beside]
    except OSError as error:
        raise DataError(f"{file.path}: cannot read: {error.strerror}") from error


def _described(read_at: Callable[[int, int], bytes], beside: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Return the metadata of a picture; a text or JSON that cannot be read adds nothing.

    read_at: returns `size` bytes of the tar from `start` on.
    """
    found: dict[str, Any] = {}
    for ending, (start, size) in beside.items():
        if size > MOST_TEXT_BYTES:
            continue
        text = read_at(start, size).decode("utf-8", "replace")
        if ending in _TEXTS:
            found.setdefault(_TEXTS[ending], text.strip())
            continue
        try:
            values = parse_json(text.encode())
        except ValueError:
            continue
        if isinstance(values, dict):
            found |= {name: value for name, value in values.items() if value is not None and is_text(name)}
    return found


def _columns(rows: Sequence[Mapping[str, Any]], reserved: Mapping[str, Any]) -> dict[str, pa.Array]:
    """Return rows of JSON as columns; values of several types become text. reserved: names already in use."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))[:MOST_COLUMNS]
    renamed = renamed_columns(names)
    columns = {}
    for name in names:
        kept = renamed.get(name, name)
        while kept in reserved or (kept != name and kept in columns):
            kept = f"source_{kept}"
        columns[kept] = _column([row.get(name) for row in rows])
    return {name: column for name, column in columns.items() if not pa.types.is_null(column.type)}


def _column(values: list[Any]) -> pa.Array:
    import json

    import pyarrow as pa

    try:
        if not any(isinstance(value, dict | list) for value in values):
            return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        pass
    texts = [value if isinstance(value, str | None) else json.dumps(value) for value in values]
    return pa.array([text and text.encode("utf-8", "replace").decode() for text in texts], pa.string())


def _open_input(given: InputFiles) -> Input:
    shards, pieces, notes, others, first = TarShards(given.place), [], list[str](), Counter[str](), 0
    for number, (name, path) in enumerate(given.files):
        state = given.state(path)
        members = shards.members(state)
        if members.rows:
            pieces.append(Piece(name, (state,), first, members.rows))
            first += members.rows
        else:
            notes.append(f"{escaped_path(path)}: the tar has no pictures")
        if members.broken:
            notes.append(f"{escaped_path(path)}: {members.broken}")
        others += members.others
        given.progress("scanning", number + 1, len(given.files))
    if others:
        notes.append(f"{escaped_path(str(given.path))}: skipped in the tars {by_ending(others)}")
    if not pieces:
        left = f"; skipped {by_ending(others)}" if others else ""
        raise DataError(f"{escaped_path(str(given.path))}: expected pictures in the tars, found none{left}")
    return Input(given.place, tuple(pieces), pictures=shards, notes=tuple(notes))


KIND = Kind(
    "tars of pictures",
    "a .tar of WebDataset or img2dataset, or a folder of them: pictures with .txt, .cls and .json of the same name",
    (".tar",),
    _open_input,
)
