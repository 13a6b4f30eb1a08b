"""The lists that a scan fills on the device, and the best of them, in order, in one copy to the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.tie_order import best_first, splitmix64
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.device import DeviceArray
from gpubranches.engines.gpu.launchers import DIGIT, DIGITS, FOUND_WORDS, SEARCH_WORDS, SINK_WORDS, Resident, Search

NO_BORDER = 0xFFFFFFFF
RANKED_MOST = 1 << 14
"""Most entries of a list that are ordered by counting the better ones of each; longer lists are sorted."""
SORTED_AT_ONCE = 1 << 20
"""Entries sorted on the device at a time, about 80 bytes each; parts of longer answers are joined on the host."""
_BORDER_STEPS = 2
"""Number of digits of a border: 22 bits of the key."""
_FEW_BITS = 16
"""Most bits of the keys of votes; many rows have the same key there, and their mixed ids decide."""
_SPARE = 512
_RANKED_WHOLE = 1 << 11
"""Largest room of lists that are ordered without a search first."""
_ALL_MIXED = 0xFFFFFFFFFFFFFFFF
_HIGH, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Border:
    """Key and mixed id that a row must reach to be kept; only the kernel `boxes` cuts equal keys by the mixed id."""

    key: int = NO_BORDER
    mixed: int = _ALL_MIXED


@dataclass(frozen=True)
class Best:
    """The answer of one model: ids (m,) int64 best first, their keys (m,) uint32, and how many rows there were."""

    ids: NDArray[np.int64]
    keys: NDArray[np.uint32]
    total: int


@dataclass(frozen=True)
class Counts:
    """The counts of a scan, (lists,) each.

    appended: entries for the list, written or not; reached: rows that reach the floor; keys: of its border.
    """

    appended: NDArray[np.int64]
    reached: NDArray[np.int64]
    keys: NDArray[np.uint32]


class Ranked(list[Best]):
    """The best of each list, in order, and the counts of the scan."""

    def __init__(self, found: Sequence[Best], counts: Counts):
        super().__init__(found)
        self.counts = counts

    def borders(self) -> list[Border]:
        """Return the border of each list: its last entry."""
        ends = [(int(one.keys[-1]), one.ids[-1:]) if len(one.ids) else None for one in self]
        return [Border() if end is None else Border(end[0], int(splitmix64(end[1])[0])) for end in ends]


@dataclass
class Lists:
    """Sinks on the device, (lists, SINK_WORDS), as struct Sink of common.cuh, and their entries, (lists, room).

    wanted: how many of the best of each list are requested; key_bits: keys are below 2^key_bits.
    """

    on: Resident
    room: int
    key_bits: int
    wanted: list[int]
    sinks: DeviceArray
    entries: DeviceArray
    _histograms: DeviceArray = field(init=False, default=None)

    @classmethod
    def of(
        cls,
        on: Resident,
        room: int,
        floors: Sequence[int],
        borders: Sequence[Border],
        wanted: Sequence[int],
        key_bits: int,
    ) -> Lists:
        """Return empty lists with a floor and a border each."""
        entries = on.device.empty((len(floors), room), np.uint64)
        sinks = np.zeros((len(floors), SINK_WORDS), np.uint64)
        sinks[:, 0] = on.device.address(entries) + np.arange(len(floors), dtype=np.uint64) * np.uint64(8 * room)
        sinks[:, 1] = room
        keys = np.array([border.key for border in borders], np.uint64)
        sinks[:, 4] = keys | np.array(floors, np.uint64) << _HIGH
        sinks[:, 5] = np.array([border.mixed for border in borders], np.uint64)
        return cls(on, room, key_bits, list(wanted), on.device.put(sinks), entries)

    def counts(self) -> Counts:
        """Copy the counts of the scan to the host."""
        return _counts(self.on.device.get(self.sinks)[:, 2:5])

    def keep_to_border(self, rows: int) -> None:
        """Set the border of each list, of at most `rows` entries, to its last wanted key, and empty the list."""
        self._histograms = self._blank(_BORDER_STEPS + self._first_steps)
        wanted = self.on.device.put(np.array(self.wanted, np.uint64))
        search = self._search(_BORDER_STEPS, wanted, self._histograms[:_BORDER_STEPS], 0, rows)
        for step in range(_BORDER_STEPS):
            launchers.select_count(search, step)
        launchers.select_border(search, _BORDER_STEPS)

    def ranked(self) -> Ranked:
        """Return the wanted best of each list, at most RANKED_MOST, in order, by one copy to the host."""
        whole = self.room <= _RANKED_WHOLE
        found = self._ranked(0 if whole else self._first_steps)
        if found is None:  # the few digits do not separate enough entries
            self._histograms = None
            found = self._ranked(self._all_steps)
        assert found is not None  # nosec B101  # all digits together leave no ties
        return found

    def borders(self) -> list[Border]:
        """Return the border of each list: its last wanted entry."""
        steps = self._all_steps
        wanted, counts = self.on.device.put_all(
            [np.array(self.wanted, np.uint64), np.zeros(len(self.wanted), np.uint64)]
        )
        search = self._search(steps, wanted, self._blank(steps), 0, self.room)
        self._take(search, steps, 1, counts)
        found = self.on.device.get(search.searches[steps])
        return [
            Border(key, mixed) for mixed, key in zip(found[:, 2].tolist(), (found[:, 3] & _LOW).tolist(), strict=True)
        ]

    def chosen(self, counts: Counts, without: Sequence[int]) -> list[Best]:
        """Return the wanted best of each list, of any number, none for lists `without`; overwrites the entries."""
        had = [0 if i in without else min(n, self.room) for i, n in enumerate(counts.appended.tolist())]
        self.wanted = [min(n, k) for n, k in zip(had, self.wanted, strict=True)]
        if self.ranks:
            return self.ranked()
        if any(size < n for size, n in zip(self.wanted, had, strict=True)):
            steps, slots = self._all_steps, max(self.wanted)
            wanted, taken = self.on.device.put_all([np.array(self.wanted, np.uint64), np.zeros(len(had), np.uint64)])
            search = self._search(steps, wanted, self._blank(steps), 0, max(had))
            self.entries = self._take(search, steps, slots, taken)
        return sorted_entries(self.on, self.entries, self.wanted)

    @property
    def ranks(self) -> bool:
        """Whether the answers are short enough for `ranked`."""
        return max(self.wanted, default=0) <= RANKED_MOST

    @property
    def _first_steps(self) -> int:
        """Digits that nearly always end a search: 22 bits of a score, 33 bits of votes and the mixed id."""
        return 3 if self.key_bits <= _FEW_BITS else 2

    @property
    def _all_steps(self) -> int:
        """Number of digits of the key and the mixed id."""
        return -(-(self.key_bits + 64) // DIGIT)

    def _blank(self, steps: int) -> DeviceArray:
        histograms = self.on.device.empty((steps, len(self.wanted), DIGITS), np.uint32)
        self.on.device.zero(histograms)
        return histograms

    def _search(self, steps: int, wanted: DeviceArray, histograms: DeviceArray, room: int, rows: int) -> Search:
        searches = self.on.device.empty((steps + 1, len(self.wanted), SEARCH_WORDS), np.uint64)
        return Search(self.on, self.sinks, wanted, searches, histograms, self.key_bits, room, rows)

    def _take(self, search: Search, steps: int, stride: int, counts: DeviceArray) -> DeviceArray:
        """Count the digits of a search and return the entries that it takes, (lists, stride) uint64."""
        taken = self.on.device.empty((len(self.wanted), stride), np.uint64)
        for step in range(steps):
            launchers.select_count(search, step)
        launchers.select_take(search, steps, taken, counts)
        return taken

    def _ranked(self, steps: int) -> Ranked | None:
        """Return the answer of a search of `steps` digits, None if one of the lists needs more.

        steps: 0 ranks all entries.
        """
        device, lists, most = self.on.device, len(self.wanted), max(self.wanted, default=0)
        room = most + most // 8 + _SPARE if steps else self.room
        if steps and self._histograms is None:
            self._histograms = self._blank(steps)
        wanted, counts = device.put_all([np.array(self.wanted, np.uint64), np.zeros(lists, np.uint64)])
        search = self._search(steps, wanted, self._histograms[-steps:] if steps else wanted, room, self.room)
        taken = (self._take(search, steps, room, counts), counts) if steps else None
        n, head = lists * most, lists * FOUND_WORDS
        out = device.empty(head + n + -(-n // 2), np.uint64)
        ids, keys = _parts(out, head, n)
        found = out[:head].reshape(lists, FOUND_WORDS)
        launchers.select_rank(search, taken, found, ids.reshape(lists, most), keys.reshape(lists, most))
        host = device.get(out)
        found = host[:head].reshape(lists, FOUND_WORDS)
        if int(found[:, 3].max(initial=0)) > room:
            return None
        sizes = [min(k, have) for k, have in zip(self.wanted, found[:, 3].tolist(), strict=True)]
        ids, keys = (part.reshape(lists, most) for part in _parts(host, head, n))
        best = [Best(ids[i, :size].copy(), keys[i, :size].copy(), size) for i, size in enumerate(sizes)]
        return Ranked(best, _counts(found[:, :3]))


def _parts(words: DeviceArray, head: int, n: int) -> tuple[DeviceArray, DeviceArray]:
    """Return the ids, (n,) int64, and the keys, (n,) uint32, in the words after the first `head` ones."""
    return words[head : head + n].view(np.int64), words[head + n :].view(np.uint32)[:n]


def _counts(words: NDArray[np.uint64]) -> Counts:
    """Return the counts in words 2 to 4 of sinks."""
    return Counts(words[:, 0].astype(np.int64), words[:, 1].astype(np.int64), (words[:, 2] & _LOW).astype(np.uint32))


def sorted_entries(on: Resident, entries: DeviceArray, sizes: Sequence[int]) -> list[Best]:
    """Return the first entries of each list, `sizes` of (lists, stride) uint64, in order of key and splitmix64(id).

    One sort and one copy to the host for every SORTED_AT_ONCE entries of all lists together.
    """
    device = on.device
    starts = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))])
    on_device = device.put(starts.astype(np.uint64))
    parts: list[list[tuple[NDArray[np.int64], NDArray[np.uint32]]]] = [[] for _ in sizes]
    for first in range(0, int(starts[-1]), SORTED_AT_ONCE):
        n = min(SORTED_AT_ONCE, int(starts[-1]) - first)
        keys, mixed, ids = launchers.select_split(on, entries, on_device, first, n)
        order = device.order(keys, mixed)
        out = device.empty(n + -(-n // 2), np.uint64)
        launchers.select_gather(device, order, keys, ids, *_parts(out, 0, n))
        own_ids, own_keys = _parts(device.get(out), 0, n)
        for i, part in enumerate(parts):
            own = slice(*np.clip(starts[i : i + 2] - first, 0, n).tolist())
            if own.start < own.stop:
                part.append((own_ids[own], own_keys[own]))
    return [joined(part, None) for part in parts]


def joined(parts: list[tuple[NDArray[np.int64], NDArray[np.uint32]]], limit: int | None) -> Best:
    """Return the best of several answers, each ids and keys in order."""
    if len(parts) == 1:
        return Best(parts[0][0][:limit], parts[0][1][:limit], len(parts[0][0]))
    ids = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    keys = np.concatenate([np.zeros(0, np.uint32), *(part[1] for part in parts)])
    order = best_first(~keys, ids, limit)
    return Best(ids[order], keys[order], len(ids))
