"""The lists that a scan fills on the device, and the selection of their best entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.tie_order import best_first, splitmix64
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.device import DeviceArray
from gpubranches.engines.gpu.launchers import DIGIT, DIGITS, FOUND_WORDS, SEARCH_WORDS, SINK_WORDS, Resident, Search

NO_CUTOFF = 0xFFFFFFFF
RANKED_MOST = 1 << 14
"""The longest list that is ordered by counting, for each entry, the better ones. Longer lists are sorted."""
SORTED_AT_ONCE = 1 << 20
"""Entries sorted on the device at once, about 80 bytes each. Longer answers are sorted in pieces and merged on the
host."""
_CUTOFF_STEPS = 2
"""Number of digits of a cutoff that is estimated from a sample: 22 bits of the key."""
_FEW_BITS = 16
"""The largest number of bits of keys of votes. Many rows have the same votes, so their tie keys decide."""
_SPARE = 512
_RANKED_WHOLE = 1 << 11
"""The longest list that is ordered without a search for its cutoff."""
_ALL_TIE_KEYS = 0xFFFFFFFFFFFFFFFF
_HIGH, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Cutoff:
    """The largest key, and for that key the largest tie key, splitmix64(id), of rows that a scan keeps.

    Only the kernel `boxes` applies the tie key; the others keep all rows with the key.
    """

    key: int = NO_CUTOFF
    tie_key: int = _ALL_TIE_KEYS


@dataclass(frozen=True)
class TopRows:
    """The answer for one model: ids (m,) int64 best first, their keys (m,) uint32, and how many rows qualify."""

    ids: NDArray[np.int64]
    keys: NDArray[np.uint32]
    total: int


@dataclass(frozen=True)
class Counts:
    """The counts of a scan, (lists,) each.

    appended: entries for the list, also those that did not fit; reached: rows with key <= max_key; keys: of the cutoff.
    """

    appended: NDArray[np.int64]
    reached: NDArray[np.int64]
    keys: NDArray[np.uint32]


class RankedLists(list[TopRows]):
    """The best rows of each list, in order, with the counts of the scan."""

    def __init__(self, found: Sequence[TopRows], counts: Counts):
        super().__init__(found)
        self.counts = counts

    def cutoffs(self) -> list[Cutoff]:
        """Return the cutoff of each list, its last entry."""
        ends = [(int(one.keys[-1]), one.ids[-1:]) if len(one.ids) else None for one in self]
        return [Cutoff() if end is None else Cutoff(end[0], int(splitmix64(end[1])[0])) for end in ends]


@dataclass
class Lists:
    """Sinks on the device, (lists, SINK_WORDS), as struct Sink of common.cuh, and their entries, (lists, room).

    limits: how many of the best entries of each list are requested; key_bits: all keys are below 2^key_bits.
    """

    on: Resident
    room: int
    key_bits: int
    limits: list[int]
    sinks: DeviceArray
    entries: DeviceArray
    _histograms: DeviceArray = field(init=False, default=None)

    @classmethod
    def of(
        cls,
        on: Resident,
        room: int,
        max_keys: Sequence[int],
        cutoffs: Sequence[Cutoff],
        limits: Sequence[int],
        key_bits: int,
    ) -> Lists:
        """Return empty lists with a max_key and a cutoff each."""
        entries = on.device.empty((len(max_keys), room), np.uint64)
        sinks = np.zeros((len(max_keys), SINK_WORDS), np.uint64)
        sinks[:, 0] = on.device.address(entries) + np.arange(len(max_keys), dtype=np.uint64) * np.uint64(8 * room)
        sinks[:, 1] = room
        keys = np.array([cutoff.key for cutoff in cutoffs], np.uint64)
        sinks[:, 4] = keys | np.array(max_keys, np.uint64) << _HIGH
        sinks[:, 5] = np.array([cutoff.tie_key for cutoff in cutoffs], np.uint64)
        return cls(on, room, key_bits, list(limits), on.device.put(sinks), entries)

    def counts(self) -> Counts:
        """Copy the counts of the scan to the host."""
        return _counts(self.on.device.get(self.sinks)[:, 2:5])

    def keep_to_cutoff(self, rows: int) -> None:
        """Set the cutoff of each list to the key of its last requested entry, and empty the list.

        rows: the largest number of entries of a list.
        """
        self._histograms = self._blank(_CUTOFF_STEPS + self._first_steps)
        limits = self.on.device.put(np.array(self.limits, np.uint64))
        search = self._search(_CUTOFF_STEPS, limits, self._histograms[:_CUTOFF_STEPS], 0, rows)
        for step in range(_CUTOFF_STEPS):
            launchers.select_count(search, step)
        launchers.select_cutoff(search, _CUTOFF_STEPS)

    def ranked(self) -> RankedLists:
        """Return the requested best rows of each list, at most RANKED_MOST, in order, with one copy to the host."""
        whole = self.room <= _RANKED_WHOLE
        found = self._ranked(0 if whole else self._first_steps)
        if found is None:  # the first digits do not separate enough entries
            self._histograms = None
            found = self._ranked(self._all_steps)
        assert found is not None  # nosec B101  # all digits together leave no ties
        return found

    def cutoffs(self) -> list[Cutoff]:
        """Return the cutoff of each list, its last requested entry."""
        steps = self._all_steps
        limits, counts = self.on.device.put_all(
            [np.array(self.limits, np.uint64), np.zeros(len(self.limits), np.uint64)]
        )
        search = self._search(steps, limits, self._blank(steps), 0, self.room)
        self._take(search, steps, 1, counts)
        found = self.on.device.get(search.searches[steps])
        return [
            Cutoff(key, tie_key)
            for tie_key, key in zip(found[:, 2].tolist(), (found[:, 3] & _LOW).tolist(), strict=True)
        ]

    def chosen(self, counts: Counts, without: Sequence[int]) -> list[TopRows]:
        """Return the requested best rows of each list, of any number; nothing for the lists `without`.

        Overwrites the entries.
        """
        sizes = [0 if i in without else min(n, self.room) for i, n in enumerate(counts.appended.tolist())]
        self.limits = [min(n, k) for n, k in zip(sizes, self.limits, strict=True)]
        if self.ranks:
            return self.ranked()
        if any(limit < n for limit, n in zip(self.limits, sizes, strict=True)):
            steps, slots = self._all_steps, max(self.limits)
            limits, taken = self.on.device.put_all([np.array(self.limits, np.uint64), np.zeros(len(sizes), np.uint64)])
            search = self._search(steps, limits, self._blank(steps), 0, max(sizes))
            self.entries = self._take(search, steps, slots, taken)
        return sort_entries(self.on, self.entries, self.limits)

    @property
    def ranks(self) -> bool:
        """Whether the answers are short enough for `ranked`."""
        return max(self.limits, default=0) <= RANKED_MOST

    @property
    def _first_steps(self) -> int:
        """Number of digits that nearly always suffice: 22 bits of a score, 33 bits of votes and the tie key."""
        return 3 if self.key_bits <= _FEW_BITS else 2

    @property
    def _all_steps(self) -> int:
        """Number of digits of the key and the tie key."""
        return -(-(self.key_bits + 64) // DIGIT)

    def _blank(self, steps: int) -> DeviceArray:
        histograms = self.on.device.empty((steps, len(self.limits), DIGITS), np.uint32)
        self.on.device.zero(histograms)
        return histograms

    def _search(self, steps: int, limits: DeviceArray, histograms: DeviceArray, room: int, rows: int) -> Search:
        searches = self.on.device.empty((steps + 1, len(self.limits), SEARCH_WORDS), np.uint64)
        return Search(self.on, self.sinks, limits, searches, histograms, self.key_bits, room, rows)

    def _take(self, search: Search, steps: int, stride: int, counts: DeviceArray) -> DeviceArray:
        """Run a search and return the entries up to its cutoff, (lists, stride) uint64."""
        taken = self.on.device.empty((len(self.limits), stride), np.uint64)
        for step in range(steps):
            launchers.select_count(search, step)
        launchers.select_take(search, steps, taken, counts)
        return taken

    def _ranked(self, steps: int) -> RankedLists | None:
        """Return the answer of a search of `steps` digits, or None if a list needs more digits.

        steps: 0 orders all entries.
        """
        device, lists, most = self.on.device, len(self.limits), max(self.limits, default=0)
        room = most + most // 8 + _SPARE if steps else self.room
        if steps and self._histograms is None:
            self._histograms = self._blank(steps)
        limits, counts = device.put_all([np.array(self.limits, np.uint64), np.zeros(lists, np.uint64)])
        search = self._search(steps, limits, self._histograms[-steps:] if steps else limits, room, self.room)
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
        sizes = [min(k, have) for k, have in zip(self.limits, found[:, 3].tolist(), strict=True)]
        ids, keys = (part.reshape(lists, most) for part in _parts(host, head, n))
        best = [TopRows(ids[i, :size].copy(), keys[i, :size].copy(), size) for i, size in enumerate(sizes)]
        return RankedLists(best, _counts(found[:, :3]))


def _parts(words: DeviceArray, head: int, n: int) -> tuple[DeviceArray, DeviceArray]:
    """Return the ids, (n,) int64, and the keys, (n,) uint32, that follow the first `head` words."""
    return words[head : head + n].view(np.int64), words[head + n :].view(np.uint32)[:n]


def _counts(words: NDArray[np.uint64]) -> Counts:
    """Return the counts in words 2 to 4 of sinks."""
    return Counts(words[:, 0].astype(np.int64), words[:, 1].astype(np.int64), (words[:, 2] & _LOW).astype(np.uint32))


def sort_entries(on: Resident, entries: DeviceArray, sizes: Sequence[int]) -> list[TopRows]:
    """Return the first entries of each list in order of key and splitmix64(id).

    entries: (lists, stride) uint64; sizes: how many of each list. Every SORTED_AT_ONCE entries of all lists take one
    sort and one copy to the host.
    """
    device = on.device
    starts = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))])
    on_device = device.put(starts.astype(np.uint64))
    parts: list[list[tuple[NDArray[np.int64], NDArray[np.uint32]]]] = [[] for _ in sizes]
    for first in range(0, int(starts[-1]), SORTED_AT_ONCE):
        n = min(SORTED_AT_ONCE, int(starts[-1]) - first)
        keys, tie_keys, ids = launchers.select_split(on, entries, on_device, first, n)
        order = device.order(keys, tie_keys)
        out = device.empty(n + -(-n // 2), np.uint64)
        launchers.select_gather(device, order, keys, ids, *_parts(out, 0, n))
        own_ids, own_keys = _parts(device.get(out), 0, n)
        for i, part in enumerate(parts):
            own = slice(*np.clip(starts[i : i + 2] - first, 0, n).tolist())
            if own.start < own.stop:
                part.append((own_ids[own], own_keys[own]))
    return [merged(part, None) for part in parts]


def merged(parts: list[tuple[NDArray[np.int64], NDArray[np.uint32]]], limit: int | None) -> TopRows:
    """Return the best rows of several answers, each a pair of ids and keys in order."""
    if len(parts) == 1:
        return TopRows(parts[0][0][:limit], parts[0][1][:limit], len(parts[0][0]))
    ids = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    keys = np.concatenate([np.zeros(0, np.uint32), *(part[1] for part in parts)])
    order = best_first(~keys, ids, limit)
    return TopRows(ids[order], keys[order], len(ids))
