"""The best rows of a scan: a border from a sample, one pass that keeps what lies within it, an exact selection, a sort.

The k-th best key of a sample is no better than the k-th best of all rows, so a pass that keeps every row within this
border loses nothing, and keeps about k times the inverse of the sampled share. What is kept is a few million rows at
most and never leaves the device; of the selection only ids and keys do, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from gpubranches.backends.gpu import launchers
from gpubranches.backends.gpu.device import DeviceArray
from gpubranches.backends.gpu.launchers import KEY_STEPS, SINK_WORDS, Resident

NO_BORDER = 0xFFFFFFFF
SAMPLE_FROM = 1 << 20
"""Below so many rows a scan keeps them all."""
FIRST_ROOM = 1 << 25
"""Entries of all lists together that fit without a second pass where no border bounds them: half of WORKING_BYTES."""
_LEAST_ROOM = 1 << 16
_KEYS, _FLOORS = np.uint64(32), np.uint64(0xFFFFFFFF)

Scan = Callable[[int, DeviceArray], None]
"""Scan the rows 0, step, 2 step, .. (or groups of rows) into sinks, (lists, SINK_WORDS) uint64, one a model."""


@dataclass(frozen=True)
class Best:
    """The answer of one model: ids (m,) int64 best first and their keys (m,) uint32.

    reached: how many rows the scan counted as reaching the floor; appended: how many it put into the list.
    """

    ids: NDArray[np.int64]
    keys: NDArray[np.uint32]
    reached: int
    appended: int


def best(
    on: Resident, scan: Scan, wanted: Sequence[int | None], floors: Sequence[int], rows: int, sample_from: int
) -> list[Best]:
    """Return the `wanted` best rows of each model, all if None, with keys <= its floor (uint32).

    rows: how many a scan with step 1 looks at; sample_from: from how many on a border is looked for first, unless one
    of the models wants all of its rows, which only its floor bounds.
    """
    borders = np.full(len(floors), NO_BORDER, np.uint32)
    if None in wanted:
        return collected(on, lambda sinks: scan(1, sinks), wanted, floors, borders, first_room(rows, len(floors)))
    step, room = _sample(max((k for k in wanted if k is not None), default=0), rows, sample_from)
    sinks, entries = _sinks(on, room, floors, borders)
    if step > 1:
        scan(step, sinks)
        counts = on.device.put(np.array([rows if k is None else k for k in wanted], np.uint64))
        searches = launchers.select_search(on, sinks, counts, rows // step + 512, KEY_STEPS)
        launchers.select_border(on, sinks, searches)
    scan(1, sinks)
    header = on.device.get(sinks)
    if int(header[:, 2].max(initial=0)) > room:
        borders = (header[:, 4] & _FLOORS).astype(np.uint32)
        del sinks, entries
    else:
        return _chosen(on, sinks, entries, header, wanted)
    return collected(on, lambda sinks: scan(1, sinks), wanted, floors, borders, int(header[:, 2].max()))


def first_room(rows: int, lists: int) -> int:
    """Return how many entries each of some lists gets where nothing is known of how many come."""
    return min(rows, max(1, FIRST_ROOM // max(lists, 1)))


def lists_at_once(most: int, rows: int, sample_from: int) -> int:
    """Return how many models that want `most` rows each `best` has memory for, at least one."""
    return max(1, FIRST_ROOM // max(_sample(most, rows, sample_from)[1], 1))


def _sample(most: int, rows: int, sample_from: int) -> tuple[int, int]:
    """Return the step of the sample, 1 for none, and the room of a list, for the `most` best rows."""
    most = min(rows, most)
    step = 1 if rows < sample_from else max(1, isqrt(rows // max(most, 1)))
    return step, min(rows, _LEAST_ROOM + 2 * max(most * step, rows // step + 512))


def collected(
    on: Resident,
    scan: Callable[[DeviceArray], None],
    wanted: Sequence[int | None],
    floors: Sequence[int],
    borders: NDArray[np.uint32],
    room: int,
) -> list[Best]:
    """Run a scan into lists with room for `room` entries each, again where they do not fit, and choose the best."""
    while True:
        sinks, entries = _sinks(on, room, floors, borders)
        scan(sinks)
        header = on.device.get(sinks)
        most = int(header[:, 2].max(initial=0))
        if most <= room:
            return _chosen(on, sinks, entries, header, wanted)
        del sinks, entries
        room = most


def _chosen(
    on: Resident,
    sinks: DeviceArray,
    entries: DeviceArray,
    header: NDArray[np.uint64],
    wanted: Sequence[int | None],
) -> list[Best]:
    """Choose the wanted of each list where it has more, and order them."""
    had = header[:, 2].astype(np.int64).tolist()
    sizes = [n if k is None else min(n, k) for n, k in zip(had, wanted, strict=True)]
    if any(size < n for size, n in zip(sizes, had, strict=True)):
        searches = launchers.select_search(on, sinks, on.device.put(np.array(sizes, np.uint64)), max(had))
        entries = launchers.select_take(on, sinks, searches, max(had), max(sizes))
    return [
        Best(*ordered(on, entries[i, :size]), int(header[i, 3]), n) if size else _nothing(int(header[i, 3]), n)
        for i, (size, n) in enumerate(zip(sizes, had, strict=True))
    ]


def ordered(on: Resident, entries: DeviceArray) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Return ids and keys of entries, (m,) uint64, by key and splitmix64(id), both ascending."""
    device = on.device
    keys, mixed, ids = launchers.select_split(on, entries)
    order = device.order(keys, mixed)
    return device.get(device.take(ids, order)), device.get(device.take(keys, order))


def _nothing(reached: int, appended: int) -> Best:
    return Best(np.zeros(0, np.int64), np.zeros(0, np.uint32), reached, appended)


def _sinks(
    on: Resident, room: int, floors: Sequence[int], borders: NDArray[np.uint32]
) -> tuple[DeviceArray, DeviceArray]:
    """Return empty sinks, (lists, SINK_WORDS), as struct Sink of common.cuh, and their entries, (lists, room)."""
    entries = on.device.empty((len(floors), room), np.uint64)
    sinks = np.zeros((len(floors), SINK_WORDS), np.uint64)
    sinks[:, 0] = on.device.address(entries) + np.arange(len(floors), dtype=np.uint64) * np.uint64(8 * room)
    sinks[:, 1] = room
    sinks[:, 4] = borders.astype(np.uint64) | np.array(floors, np.uint64) << _KEYS
    return on.device.put(sinks), entries
