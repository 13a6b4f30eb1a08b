"""The best rows of a scan: a border from a sample, one pass that keeps what lies within it, an exact selection.

The k-th best key of a sample is no better than the k-th best of all rows, so a pass that keeps every row within this
border loses nothing, and keeps about k divided by the sampled share. The kept rows are a few million at most and never
leave the device; only the ids and keys of the selection do, in order, in one copy with the counts.

All lists of a pass share FIRST_ROOM entries. Where one overflows, the pass counted all of its rows but kept only some.
Its model is scanned again, see `collected`, so that no answer needs more device memory, however many rows it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isqrt

from gpubranches.catalog import TILE
from gpubranches.engines.gpu.device import DeviceArray
from gpubranches.engines.gpu.launchers import Resident
from gpubranches.engines.gpu.selection import Best, Border, Counts, Lists, joined

SAMPLE_FROM = 1 << 20
"""Below so many rows a scan keeps them all."""
FIRST_ROOM = 1 << 25
"""Entries of all lists of a pass together: half of WORKING_BYTES."""
_LEAST_ROOM = 1 << 16


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
class Asked:
    """The request to a scan, for each model: how many of its best rows, all if None, with keys <= its floor, uint32.

    key_bits: keys are below 2^key_bits. totals: the entry of `Counts` that is the number of rows, "reached" (the floor)
    or "appended". cuts_ties: whether the scan applies both parts of a border, key and mixed id.
    """

    wanted: Sequence[int | None]
    floors: Sequence[int]
    key_bits: int = 32
    totals: str = "reached"
    cuts_ties: bool = False

    def of(self, counts: Counts) -> list[int]:
        """Return the totals."""
        found: list[int] = getattr(counts, self.totals).tolist()
        return found


def best(span: Span, scan: Scan, asked: Asked, sample_from: int) -> list[Best]:
    """Return the wanted best rows of each model.

    sample_from: the least number of rows for which a border is estimated first. No border is estimated if a model wants
    all of its rows, which only its floor limits, or more rows than there is room for.
    """
    on, rows, n = span.on, span.rows, len(asked.floors)
    limits = [k for k in asked.wanted if k is not None]
    step, room = _sample(max(limits, default=0), rows, sample_from)
    if len(limits) < n or room > first_room(rows, n):
        return collected(span, scan, asked, [Border()] * n)
    lists = Lists.of(on, room, asked.floors, [Border()] * n, [min(k, room) for k in limits], asked.key_bits)
    if step > 1:
        scan(span, range(n), step, lists.sinks)
        lists.keep_to_border(rows // step + 512)
    scan(span, range(n), 1, lists.sinks)
    ranked = lists.ranked() if lists.ranks else None
    counts = ranked.counts if ranked else lists.counts()
    if int(counts.appended.max(initial=0)) <= room:
        return _told(ranked or lists.chosen(counts, ()), asked, counts)
    del lists, ranked
    return collected(span, scan, asked, [Border(key) for key in counts.keys.tolist()])


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
    span: Span, scan: Scan, asked: Asked, borders: Sequence[Border], which: Sequence[int] | None = None
) -> list[Best]:
    """Run a scan into lists that share FIRST_ROOM, choose the best of those that fit, and repeat it for the others.

    Models whose lists overflow are scanned again separately. If the scan cuts ties and there is room for twice the
    wanted rows, the best rows of an overflowing list give a border for all of its rows. The border shrinks with each
    pass; one or two passes are enough. Otherwise half of the models are scanned at a time. At last one model is scanned
    over some of the tiles at a time, and the answers are joined on the host. which: the numbers of the models of this
    call.
    """
    which = range(len(asked.wanted)) if which is None else which
    room = first_room(span.rows, len(which))
    limits = [asked.wanted[i] for i in which]
    most = [room if k is None else min(k, room) for k in limits]
    floors = [asked.floors[i] for i in which]
    lists = Lists.of(span.on, room, floors, [borders[i] for i in which], most, asked.key_bits)
    scan(span, which, 1, lists.sinks)
    ranked = lists.ranked() if lists.ranks else None
    counts = ranked.counts if ranked else lists.counts()
    had = counts.appended.tolist()
    full = [at for at, n in enumerate(had) if n > room and limits[at] != 0]
    now = list(borders)
    tighter = bool(full) and asked.cuts_ties and all((k := limits[at]) is not None and 2 * k <= room for at in full)
    if tighter:
        found = (ranked or lists).borders()
        for at in full:
            now[which[at]] = found[at]
    answers = _told(ranked or lists.chosen(counts, full), asked, counts)
    if not full:
        return answers
    del lists, ranked

    def again(part: Span, models: Sequence[int]) -> list[Best]:
        return collected(part, scan, asked, now, models)

    left = [which[at] for at in full]
    if tighter or len(left) < len(which):
        more = again(span, left)
    else:
        more = _in_turns(span, left, again, 2 + had[full[0]] // room, limits[full[0]])
    for at, one in zip(full, more, strict=True):
        answers[at] = replace(one, total=answers[at].total)
    return answers


def _told(found: Sequence[Best], asked: Asked, counts: Counts) -> list[Best]:
    """Return the answers with the totals that the scan counted."""
    return [replace(one, total=total) for one, total in zip(found, asked.of(counts), strict=True)]


def _in_turns(
    span: Span, models: Sequence[int], ask: Callable[[Span, Sequence[int]], list[Best]], parts: int, limit: int | None
) -> list[Best]:
    """Ask half of the models at a time, or a single one over parts of the span, of whose answers `limit` are wanted."""
    if len(models) > 1:
        middle = len(models) // 2
        return ask(span, models[:middle]) + ask(span, models[middle:])
    found = [ask(part, models)[0] for part in span.parts(parts)]
    return [joined([(one.ids, one.keys) for one in found], limit)]
