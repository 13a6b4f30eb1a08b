"""A model of a disk: the possible contents after a power cut, by the calls that were made before.

A disk guarantees what was synced: the content of a file by fsync of the file, and the names in a folder by fsync of the
folder. Everything else may be on the disk or not, in any order: each write, each block of it, each name. A rename is
atomic. A name on the disk may lead to a file without any content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from benchmarks.crashes.layer import EMPTIED, MADE, Call

_BLOCK = 512
Tree = dict[str, bytes | str | None]
"""By relative path: the content of a file, the target of a link, or None for a folder."""
MODES = ("nothing more", "names alone", "content alone", "the last name alone")


@dataclass(eq=False)
class _File:
    """now: its content; kept: its content on the disk; pending: (offset, bytes), or (size, None) for another size."""

    now: bytearray
    kept: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        _apply(self.now, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        self.kept, self.pending = bytes(self.now), []


@dataclass(eq=False)
class _Folder:
    now: dict[str, _Node] = field(default_factory=dict)
    kept: dict[str, _Node] = field(default_factory=dict)


_Node = _File | _Folder | str
_Change = list[tuple[_Folder, str, "_Node | None"]]
"""Names with a new target or none, changed together: all of them or none."""


class Disk:
    """A folder that calls change."""

    def __init__(self, start: Path, root: Path):
        """Start with the content of a folder, all of it on the disk. root: its path in the calls."""
        self._root = str(root)
        self._top = self._read(start)
        self._pending: list[_Change] = []
        self._handles: dict[int, _Node] = {}

    def _read(self, path: Path) -> _Folder:
        folder = _Folder()
        for entry in path.iterdir():
            node: _Node
            if entry.is_symlink():
                node = os.readlink(entry)
            elif entry.is_dir():
                node = self._read(entry)
            else:
                content = entry.read_bytes()
                node = _File(bytearray(content), content)
            folder.now[entry.name] = folder.kept[entry.name] = node
        return folder

    def apply(self, call: Call) -> None:
        """Apply a call."""
        if call.what == "o":
            self._open(call)
        elif call.what == "c":
            self._handles.pop(call.handle, None)
        elif call.what == "w":
            self._file(call.handle).change(call.offset, call.data)
        elif call.what == "t":
            self._file(call.handle).change(call.offset, None)
        elif call.what == "T":
            node = self._node(call.path)
            assert isinstance(node, _File)  # nosec B101  # the calls that were seen succeeded
            node.change(call.offset, None)
        elif call.what == "f" and call.result == 0:
            self._sync(self._handles[call.handle])
        elif call.what == "m":
            self._change([(*self._place(call.path), _Folder())])
        elif call.what == "s":
            self._change([(*self._place(call.path), call.other)])
        elif call.what == "u":
            self._change([(*self._place(call.path), None)])
        elif call.what in "rl":
            moved: _Change = [(*self._place(call.other), self._node(call.path))]
            self._change(moved if call.what == "l" else [(*self._place(call.path), None), *moved])

    def now(self) -> Tree:
        """Return the content that a program reads."""
        return dict(_tree(self._top, lambda folder: folder.now, lambda file: bytes(file.now)))

    def after_cut(self, rng: np.random.Generator, drawn: int = 1) -> Iterator[tuple[str, Tree]]:
        """Yield contents that the disk may have if the power is cut now: one for each of `MODES`, and random ones."""
        some = [bool(self._pending)] * len(self._pending)
        yield MODES[0], self._cut([], lambda file: file.kept)
        yield MODES[1], self._cut(self._pending, lambda file: file.kept)
        yield MODES[2], self._cut([], lambda file: bytes(file.now))
        yield MODES[3], self._cut(self._pending[-1:], lambda file: bytes(file.now))
        for _ in range(drawn):
            some = (rng.random(len(self._pending)) < 0.5).tolist()
            kept = [change for change, stays in zip(self._pending, some, strict=True) if stays]
            yield "drawn", self._cut(kept, lambda file: _drawn(file, rng))

    def _cut(self, changes: Sequence[_Change], content: Callable[[_File], bytes]) -> Tree:
        names: dict[_Folder, dict[str, _Node]] = {}
        for folder, name, node in (each for change in changes for each in change):
            entries = names.setdefault(folder, dict(folder.kept))
            if node is None:
                entries.pop(name, None)
            else:
                entries[name] = node
        return dict(_tree(self._top, lambda folder: names.get(folder, folder.kept), content))

    def _open(self, call: Call) -> None:
        if call.flags & MADE:
            self._change([(*self._place(call.path), _File(bytearray()))])
        node = self._node(call.path)
        if call.flags & EMPTIED and isinstance(node, _File):
            node.change(0, None)
        self._handles[call.handle] = node

    def _change(self, change: _Change) -> None:
        for folder, name, node in change:
            if node is None:
                del folder.now[name]
            else:
                folder.now[name] = node
        self._pending.append(change)

    def _sync(self, node: _Node) -> None:
        if isinstance(node, _File):
            node.sync()
        elif isinstance(node, _Folder):
            for change in [each for each in self._pending if any(folder is node for folder, _, _ in each)]:
                self._pending.remove(change)
                for folder, name, to in change:
                    if to is None:
                        folder.kept.pop(name, None)
                    else:
                        folder.kept[name] = to

    def _file(self, handle: int) -> _File:
        node = self._handles[handle]
        assert isinstance(node, _File)  # nosec B101  # the calls that were seen succeeded
        return node

    def _node(self, path: str) -> _Node:
        if path == self._root:
            return self._top
        folder, name = self._place(path)
        return folder.now[name]

    def _place(self, path: str) -> tuple[_Folder, str]:
        folder: _Node = self._top
        *above, name = os.path.relpath(path, self._root).split("/")
        for part in above:
            assert isinstance(folder, _Folder)  # nosec B101  # the calls that were seen succeeded
            folder = folder.now[part]
        assert isinstance(folder, _Folder)  # nosec B101  # the calls that were seen succeeded
        return folder, name


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset + len(data) - len(content))))
    content[offset : offset + len(data)] = data


def _drawn(file: _File, rng: np.random.Generator) -> bytes:
    """Return a file with a random part of its writes on the disk, and of some writes a part of the blocks."""
    content = bytearray(file.kept)
    for offset, data in file.pending:
        fate = rng.random()
        if data is None or fate < 0.4:
            if fate < 0.6:
                _apply(content, offset, data)
        elif fate < 0.7:
            for start in range(0, len(data), _BLOCK):
                if rng.random() < 0.5:
                    _apply(content, offset + start, data[start : start + _BLOCK])
    return bytes(content)


def _tree(
    folder: _Folder,
    names: Callable[[_Folder], dict[str, _Node]],
    content: Callable[[_File], bytes],
    above: str = "",
) -> Iterator[tuple[str, bytes | str | None]]:
    for name, node in sorted(names(folder).items()):
        path = f"{above}{name}"
        if isinstance(node, _Folder):
            yield path, None
            yield from _tree(node, names, content, f"{path}/")
        else:
            yield path, node if isinstance(node, str) else content(node)


def fingerprint(tree: Tree) -> str:
    """Return a digest of a tree."""
    digest = sha256()
    for path, content in tree.items():
        digest.update(f"{path}\0{type(content).__name__}\0".encode())
        digest.update(content if isinstance(content, bytes) else str(content).encode())
    return digest.hexdigest()


def write(tree: Tree, root: Path) -> None:
    """Write a tree into an empty folder."""
    for path, content in tree.items():
        place = root / path
        if content is None:
            place.mkdir()
        elif isinstance(content, str):
            place.symlink_to(content)
        else:
            place.write_bytes(content)


def read(root: Path) -> Tree:
    """Return the content of a folder."""
    return Disk(root, root).now()
