"""The best rows of a scan: a border from a sample, one pass that keeps what lies within it, an exact selection, a sort.

The k-th best key of a sample is no better than the k-th best of all rows, so a pass that keeps every row within this
border loses nothing, and keeps about k times the inverse of the sampled share. What is kept is a few million rows at
most and never leaves the device; of the selection only ids and keys do, in order.

All lists of a pass share FIRST_ROOM entries. Where one overflows, the pass counted its rows but kept some only; its
model is asked again, see `collected`, so that no answer needs more of the device, however many rows it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import best_first
from gpubranches.backends.gpu import launchers
from gpubranches.backends.gpu.device import DeviceArray
from gpubranches.backends.gpu.launchers import KEY_STEPS, SINK_WORDS, Resident
from gpubranches.catalog import TILE

NO_BORDER = 0xFFFFFFFF
SAMPLE_FROM = 1 << 20
"""Below so many rows a scan keeps them all."""
FIRST_ROOM = 1 << 25
"""Entries of all lists of a pass together: half of WORKING_BYTES."""
SORTED_AT_ONCE = 1 << 20
"""Entries that are ordered on the device at a time, at some 80 bytes each; longer answers are joined on the host."""
_LEAST_ROOM = 1 << 16
_ALL_MIXED = 0xFFFFFFFFFFFFFFFF
_HIGH, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@dataclass(frozen=True)
class Span:
    """Tiles of the resident copy, and which of their rows count, (positions / 64,) uint64.

    listed: how many rows a scan looks at, if not at all of them; at most FIRST_ROOM.
    """

    on: Resident
    allowed: DeviceArray
    listed: int | None = None

    @property
    def rows(self) -> int:
        """How many rows a scan looks at."""
        return self.on.n_tiles * TILE if self.listed is None else self.listed

    def parts(self, count: int) -> list[Span]:
        """Return at most `count` spans of whole tiles, alike in length, that make up this one."""
        tiles = self.on.n_tiles
        count = min(count, tiles)
        cuts = [tiles * i // count for i in range(count + 1)]
        return [
            Span(
                replace(self.on, tiles=self.on.tiles[a:b], n_tiles=b - a),
                self.allowed[a * (TILE // 64) : b * (TILE // 64)],
            )
            for a, b in pairwise(cuts)
        ]


Scan = Callable[[Span, Sequence[int], int, DeviceArray], None]
"""Scan the rows 0, step, 2 step, .. (or groups of rows) of a span for some of the models, by their numbers, into sinks,
(models, SINK_WORDS) uint64, one each."""


@dataclass(frozen=True)
class Border:
    """What a row's key and mixed id must reach to be kept; only boxes cuts equal keys by the mixed id."""

    key: int = NO_BORDER
    mixed: int = _ALL_MIXED


@dataclass(frozen=True)
class Best:
    """The answer of one model: ids (m,) int64 best first, their keys (m,) uint32, and how many rows there were."""

    ids: NDArray[np.int64]
    keys: NDArray[np.uint32]
    total: int


@dataclass
class _Lists:
    """Sinks on the device, (lists, SINK_WORDS), as struct Sink of common.cuh, and their entries, (lists, room)."""

    sinks: DeviceArray
    entries: DeviceArray

    @classmethod
    def of(cls, on: Resident, room: int, floors: Sequence[int], borders: Sequence[Border]) -> _Lists:
        entries = on.device.empty((len(floors), room), np.uint64)
        sinks = np.zeros((len(floors), SINK_WORDS), np.uint64)
        sinks[:, 0] = on.device.address(entries) + np.arange(len(floors), dtype=np.uint64) * np.uint64(8 * room)
        sinks[:, 1] = room
        keys = np.array([border.key for border in borders], np.uint64)
        sinks[:, 4] = keys | np.array(floors, np.uint64) << _HIGH
        sinks[:, 5] = np.array([border.mixed for border in borders], np.uint64)
        return cls(on.device.put(sinks), entries)


def best(span: Span, scan: Scan, wanted: Sequence[int | None], floors: Sequence[int], sample_from: int) -> list[Best]:
    """Return the `wanted` best rows of each model, all if None, with keys <= its floor (uint32).

    sample_from: from how many rows on a border is looked for first, unless one of the models wants all of its rows,
    which only its floor bounds, or more than there is room for. total: how many rows reach the floor.
    """
    on, rows = span.on, span.rows
    borders = [Border()] * len(floors)
    limits = [k for k in wanted if k is not None]
    step, room = _sample(max(limits, default=0), rows, sample_from)
    if len(limits) < len(wanted) or room > first_room(rows, len(floors)):
        return collected(span, scan, wanted, floors, borders)
    lists = _Lists.of(on, room, floors, borders)
    every = range(len(floors))
    if step > 1:
        scan(span, every, step, lists.sinks)
        counts = on.device.put(np.array(limits, np.uint64))
        searches = launchers.select_search(on, lists.sinks, counts, rows // step + 512, KEY_STEPS)
        launchers.select_border(on, lists.sinks, searches)
    scan(span, every, 1, lists.sinks)
    header = on.device.get(lists.sinks)
    if int(header[:, 2].max(initial=0)) <= room:
        return _chosen(on, lists, header[:, 2].tolist(), wanted, header[:, 3].tolist())
    del lists
    borders = [Border(int(key)) for key in (header[:, 4] & _LOW).tolist()]
    return collected(span, scan, wanted, floors, borders)


def first_room(rows: int, lists: int) -> int:
    """Return how many entries each of some lists gets, alone at least a tile, if nothing is known of how many come."""
    return min(rows, max(FIRST_ROOM // max(lists, 1), TILE if lists == 1 else 1))


def lists_at_once(most: int, rows: int, sample_from: int) -> int:
    """Return how many models that want `most` rows each `best` has memory for, at least one."""
    return max(1, FIRST_ROOM // max(_sample(most, rows, sample_from)[1], 1))


def _sample(most: int, rows: int, sample_from: int) -> tuple[int, int]:
    """Return the step of the sample, 1 for none, and the room of a list, for the `most` best rows."""
    most = min(rows, most)
    step = 1 if rows < sample_from else max(1, isqrt(rows // max(most, 1)))
    return step, min(rows, _LEAST_ROOM + 2 * max(most * step, rows // step + 512))


def collected(
    span: Span,
    scan: Scan,
    wanted: Sequence[int | None],
    floors: Sequence[int],
    borders: Sequence[Border],
    *,
    counts: int = 3,
    cuts_ties: bool = False,
    which: Sequence[int] | None = None,
) -> list[Best]:
    """Run a scan into lists that share FIRST_ROOM, choose the best of those that fit, and ask again for the others.

    Models whose lists overflow are asked again by themselves. With cuts_ties (a scan that heeds both parts of a border)
    and room for twice what is wanted, the best of a list, which holds some of the rows, are a border for all of them: a
    smaller one each time, after one pass or two small enough. Else half of the models are asked at a time, and at last
    one model over some of the tiles at a time, its answers joined on the host.

    counts: which word of a sink has the total; which: the numbers of the models asked now.
    """
    which = range(len(wanted)) if which is None else which
    on, room = span.on, first_room(span.rows, len(which))
    limits = [wanted[i] for i in which]
    lists = _Lists.of(on, room, [floors[i] for i in which], [borders[i] for i in which])
    scan(span, which, 1, lists.sinks)
    header = on.device.get(lists.sinks)
    had, totals = header[:, 2].tolist(), header[:, counts].tolist()
    full = [at for at, n in enumerate(had) if n > room and limits[at] != 0]
    if not full:
        return _chosen(on, lists, had, limits, totals)
    now = list(borders)
    tighter = cuts_ties and all((k := limits[at]) is not None and 2 * k <= room for at in full)
    if tighter:
        found = _borders_of(on, lists, limits, room)
        for at in full:
            now[which[at]] = found[at]
    answers = _chosen(on, lists, [0 if at in full else n for at, n in enumerate(had)], limits, totals)
    del lists

    def again(part: Span, models: Sequence[int]) -> list[Best]:
        return collected(part, scan, wanted, floors, now, counts=counts, cuts_ties=cuts_ties, which=models)

    left = [which[at] for at in full]
    if tighter or len(left) < len(which):
        more = again(span, left)
    else:
        more = _in_turns(span, left, again, 2 + had[full[0]] // room, limits[full[0]])
    for at, one in zip(full, more, strict=True):
        answers[at] = replace(one, total=totals[at])
    return answers


def _in_turns(
    span: Span, models: Sequence[int], ask: Callable[[Span, Sequence[int]], list[Best]], parts: int, limit: int | None
) -> list[Best]:
    """Ask half of the models at a time, or a single one over parts of the span, of whose answers `limit` are wanted."""
    if len(models) > 1:
        middle = len(models) // 2
        return ask(span, models[:middle]) + ask(span, models[middle:])
    found = [ask(part, models)[0] for part in span.parts(parts)]
    return [joined([(one.ids, one.keys) for one in found], limit)]


def _borders_of(on: Resident, lists: _Lists, limits: Sequence[int | None], room: int) -> list[Border]:
    """Return the last of the wanted best that each list holds."""
    counts = np.array([room if k is None else k for k in limits], np.uint64)
    searches = on.device.get(launchers.select_search(on, lists.sinks, on.device.put(counts), room))
    return [Border(int(key), int(mixed)) for mixed, key in zip(searches[:, 1], searches[:, 2] & _LOW, strict=True)]


def _chosen(
    on: Resident, lists: _Lists, had: Sequence[int], wanted: Sequence[int | None], totals: Sequence[int]
) -> list[Best]:
    """Choose the wanted of each list where it has more than they, and order them. The lists are used up."""
    sizes = [n if k is None else min(n, k) for n, k in zip(had, wanted, strict=True)]
    if any(size < n for size, n in zip(sizes, had, strict=True)):
        searches = launchers.select_search(on, lists.sinks, on.device.put(np.array(sizes, np.uint64)), max(had))
        lists.entries = launchers.select_take(on, lists.sinks, searches, max(had), max(sizes))
    return [
        replace(ordered(on, lists.entries[i, :size]), total=total)
        for i, (size, total) in enumerate(zip(sizes, totals, strict=True))
    ]


def ordered(on: Resident, entries: DeviceArray) -> Best:
    """Return entries, (m,) uint64, in order of key and splitmix64(id), both ascending."""
    device, parts = on.device, []
    for start in range(0, len(entries), SORTED_AT_ONCE):
        keys, mixed, ids = launchers.select_split(on, entries[start : start + SORTED_AT_ONCE])
        order = device.order(keys, mixed)
        parts.append((device.get(device.take(ids, order)), device.get(device.take(keys, order))))
    return joined(parts, None)


def joined(parts: list[tuple[NDArray[np.int64], NDArray[np.uint32]]], limit: int | None) -> Best:
    """Return the best of several answers, each ids and keys in order."""
    if len(parts) == 1:
        return Best(parts[0][0][:limit], parts[0][1][:limit], len(parts[0][0]))
    ids = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    keys = np.concatenate([np.zeros(0, np.uint32), *(part[1] for part in parts)])
    order = best_first(~keys, ids, limit)
    return Best(ids[order], keys[order], len(ids))
