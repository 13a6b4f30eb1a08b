"""One launcher for each entry point of kernels/*.cu. It chooses grid and constants and runs the kernel, without checks.

The kernel files describe arguments, layouts and units. Every scan reads `Resident`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, ZONES
from gpubranches.encoders.quantizers import CodeWeights, WeightPlanes
from gpubranches.engines.gpu.device import Device, DeviceArray
from gpubranches.engines.gpu.program import BOX_BYTES, Program

WARPS = 4
BLOCKS = 32
"""Blocks per multiprocessor: several times what runs at once, so that it is idle only briefly at the end."""
HISTOGRAM_BLOCKS = 2
"""The same for kernels in which every block adds its own histogram to the others."""
MODELS_A_PASS = 4
"""The largest number of queries of nearest, and of models of linear, in a pass; each needs 16 registers per thread."""
SELECT_BLOCKS = 8
"""The same for all lists together."""
COUNTER_BYTES = 128
"""Bytes of shared memory of bits for each warp and model."""
SINK_WORDS = 6
SEARCH_WORDS = 4
FOUND_WORDS = 4
DIGIT = 11
DIGITS = 1 << DIGIT
_THREADS = 256


@dataclass(frozen=True)
class Resident:
    """The resident copy of a catalog of n_tiles * TILE positions.

    tiles: (n_tiles, 8) uint64, struct Tile of common.cuh; d: code dims; words: 32-bit words of a row of bits; width: D
    of the embeddings. words and width are 0 if the tier is not resident.
    """

    device: Device
    tiles: DeviceArray
    n_tiles: int
    d: int
    words: int
    width: int


def boxes(on: Resident, allowed: DeviceArray, program: Program, sinks: DeviceArray) -> None:
    """Append to sinks, (models, SINK_WORDS), the rows with enough votes."""
    _boxes(on, allowed, program, sinks, sinks, False)


def boxes_bitmap(on: Resident, allowed: DeviceArray, program: Program, found: DeviceArray) -> None:
    """Set the bits of rows with enough votes of the one model in found, (positions / 64,) uint64, all zero."""
    _boxes(on, allowed, program, found, found, True)


def _boxes(
    on: Resident, allowed: DeviceArray, program: Program, sinks: DeviceArray, found: DeviceArray, bitmap: bool
) -> None:
    device = on.device
    models, *arrays = device.put_all(
        [program.models, program.chunks, program.runs, program.ranges, program.masks, program.ends]
    )
    args = [on.tiles, np.uint32(on.n_tiles), allowed, models, np.uint32(len(program.models)), *arrays, sinks, found]
    args += [np.uint32(program.room)]
    args += [np.uint32(0x0F0F0F0F), np.uint32(0x33333333), np.uint32(0x55555555)]
    constants = {"dim": on.d, "vote_planes": program.vote_planes, "warps_per_block": WARPS, "as_bitmap": int(bitmap)}
    grid, shared_bytes = _grid(device, on.n_tiles * 4, WARPS), WARPS * BOX_BYTES * program.room
    device.launch("boxes", "boxes", constants, grid, WARPS * 32, args, shared_bytes)


def nearest(on: Resident, allowed: DeviceArray, queries: NDArray[np.uint8], step: int, sinks: DeviceArray) -> None:
    """Append to sinks, (q, SINK_WORDS), the rows nearest to queries, (q, d) uint8, MODELS_A_PASS queries per pass."""
    lengths = np.asarray(np.sum(queries.astype(np.uint32) ** 2, axis=1, dtype=np.uint32))
    packed = np.ascontiguousarray(queries).view(np.uint32)
    _over_codes(on, "nearest", "n_queries", allowed, packed, lengths, step, sinks)


def linear(on: Resident, allowed: DeviceArray, models: Sequence[CodeWeights], step: int, sinks: DeviceArray) -> None:
    """Append to sinks, (models, SINK_WORDS), the rows best by linear models over the codes."""
    weights = np.stack([model.weights for model in models])
    offsets = 128 * weights.sum(axis=1, dtype=np.int32)
    _over_codes(on, "linear", "n_models", allowed, weights.view(np.int32), offsets, step, sinks)


def _over_codes(
    on: Resident,
    kernel: str,
    counted: str,
    allowed: DeviceArray,
    packed: NDArray[Any],
    constants: NDArray[Any],
    step: int,
    sinks: DeviceArray,
) -> None:
    device = on.device
    groups = -(-on.n_tiles * (TILE // 16) // step)
    for start in range(0, len(packed), MODELS_A_PASS):
        own = slice(start, start + MODELS_A_PASS)
        models = [*device.put_all([packed[own], constants[own]]), sinks[own]]
        args = [on.tiles, np.uint32(on.n_tiles), np.uint32(step), allowed, *models]
        defined = {"dim": on.d, counted: len(packed[own]), "warps_per_block": WARPS}
        device.launch(kernel, kernel, defined, _grid(device, groups, WARPS * 32), WARPS * 32, args)


def bits(on: Resident, allowed: DeviceArray, models: Sequence[WeightPlanes], step: int, sinks: DeviceArray) -> None:
    """Append to sinks, (models, SINK_WORDS), the rows best by linear models over the sign bits; at most MOST_MODELS."""
    device = on.device
    planes = np.zeros((len(models), 4, on.words * 4), np.uint8)
    for i, model in enumerate(models):
        planes[i, :, : model.planes.shape[1]] = model.planes
    peaks = np.array([15 * model.n_bits for model in models], np.int32)
    pieces = on.words // 4
    lanes = min(4, 1 << (pieces - 1).bit_length())
    loads = -(-pieces // lanes)
    each = max(1, 4 // loads)
    args = [on.tiles, np.uint32(on.n_tiles), np.uint32(step), allowed, *device.put_all([planes, peaks])]
    args += [np.uint32(len(models)), sinks]
    constants = {"words_per_row": on.words, "lanes_per_row": lanes, "loads_per_lane": loads, "rows_per_thread": each}
    constants["warps_per_block"] = WARPS
    grid = _grid(device, -(-on.n_tiles * TILE // step), WARPS * (32 // lanes) * each)
    device.launch("bits", "bits", constants, grid, WARPS * 32, args, WARPS * COUNTER_BYTES * len(models))


def rescore(
    on: Resident,
    listed: DeviceArray | None,
    staged: DeviceArray | None,
    allowed: DeviceArray,
    mean: DeviceArray,
    weights: DeviceArray,
    cosine: bool,
    step: int,
    sink: DeviceArray,
) -> None:
    """Append to sink, (1, SINK_WORDS), rows by their embeddings, resident ones or staged (m, D) float16.

    listed: positions (m,) uint32, or None for all rows of `allowed` that are a multiple of step.
    """
    n = -(-on.n_tiles * TILE // step) if listed is None else len(listed)
    unused = mean
    args = [on.tiles, allowed, unused if listed is None else listed, unused if staged is None else staged]
    args += [np.uint64(n), np.uint32(step), mean, weights, sink]
    constants = {"embedding_dim": len(mean), "use_cosine": int(cosine), "use_list": int(listed is not None)}
    constants |= {"use_staged": int(staged is not None), "warps_per_block": WARPS}
    on.device.launch("rescore", "rescore", constants, _grid(on.device, n, WARPS), WARPS * 32, args)


@dataclass(frozen=True)
class Search:
    """The arguments of every launch of a selection, see kernels/select.cu.

    sinks: (lists, SINK_WORDS) uint64; wanted: (lists,) uint64; searches: (steps + 1, lists, SEARCH_WORDS) uint64;
    histograms: (steps, lists, DIGITS) uint32, zero; key_bits: keys are below 2^key_bits; room: the search ends when at
    most so many entries lie within the cutoff of a list; rows: a bound on the entries of a list, for the grid.
    """

    on: Resident
    sinks: DeviceArray
    wanted: DeviceArray
    searches: DeviceArray
    histograms: DeviceArray
    key_bits: int
    room: int
    rows: int

    def blocks(self, rows_a_block: int) -> tuple[int, int]:
        """Return the grid over all lists. If there are few lists, each gets enough blocks to fill the card."""
        lists = len(self.sinks)
        most = max(1, min(HISTOGRAM_BLOCKS, SELECT_BLOCKS // lists))
        return _grid(self.on.device, self.rows, rows_a_block, most)[0], lists


def select_count(search: Search, step: int) -> None:
    """Count digit `step` of the entries whose earlier digits match."""
    args = [search.on.tiles, search.sinks, search.wanted, search.searches, search.histograms]
    args += [np.uint32(step), np.uint32(search.key_bits), np.uint64(search.room)]
    search.on.device.launch("select", "select_count", {}, search.blocks(4 * _THREADS), _THREADS, args)


def select_cutoff(search: Search, steps: int) -> None:
    """Set the cutoff of each sink to the key of the last requested entry of its list, and empty the list."""
    args = [search.sinks, search.wanted, search.searches, search.histograms]
    args += [np.uint32(steps), np.uint32(search.key_bits)]
    search.on.device.launch("select", "select_cutoff", {}, (1, len(search.sinks)), _THREADS, args)


def select_take(search: Search, steps: int, taken: DeviceArray, counts: DeviceArray) -> None:
    """Copy entries up to the cutoff to taken, (lists, stride) uint64, in any order; counts: (lists,) uint64, zero."""
    args = [search.on.tiles, search.sinks, search.wanted, search.searches, search.histograms]
    args += [np.uint32(steps), np.uint32(search.key_bits), np.uint64(search.room), np.uint64(taken.shape[1])]
    args += [taken, counts]
    search.on.device.launch("select", "select_take", {}, search.blocks(_THREADS), _THREADS, args)


def select_rank(
    search: Search,
    taken: tuple[DeviceArray, DeviceArray] | None,
    found: DeviceArray,
    ids: DeviceArray,
    keys: DeviceArray,
) -> None:
    """Write the requested best of the taken entries, in order.

    found: (lists, FOUND_WORDS) uint64, struct Found; ids: (lists, most) int64, keys: uint32; taken: the entries and the
    counts of select_take; None: all entries.
    """
    entries, counts = taken or (search.searches, search.searches)
    args = [search.on.tiles, search.sinks, search.wanted, entries, counts, np.uint64(search.room)]
    args += [np.uint32(taken is None), np.uint64(ids.shape[1]), found, ids, keys]
    grid = -(-search.room // _THREADS), len(search.sinks)
    search.on.device.launch("select", "select_rank", {}, grid, _THREADS, args)


def select_split(
    on: Resident, entries: DeviceArray, starts: DeviceArray, first: int, n: int
) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
    """Return the sort keys of n entries from `first` on: list << 32 | key, splitmix64(id), and the ids.

    entries: (lists, stride) uint64, numbered as if all lists were merged; starts: (lists + 1,) uint64, the number of
    the first entry of each list.
    """
    device = on.device
    keys, tie_keys, ids = device.empty(n, np.uint64), device.empty(n, np.uint64), device.empty(n, np.int64)
    args = [on.tiles, entries, np.uint64(entries.shape[1]), starts, np.uint32(len(entries)), np.uint64(first)]
    args += [np.uint64(n), keys, tie_keys, ids]
    device.launch("select", "select_split", {}, _grid(device, n, _THREADS), _THREADS, args)
    return keys, tie_keys, ids


def select_gather(
    device: Device, order: DeviceArray, keys: DeviceArray, ids: DeviceArray, out_ids: DeviceArray, out_keys: DeviceArray
) -> None:
    """Write ids, (n,) int64, and the keys of select_split, (n,) uint32, in an order, (n,) int64."""
    n = len(ids)
    args = [order, keys, ids, np.uint64(n), out_ids, out_keys]
    device.launch("select", "select_gather", {}, _grid(device, n, _THREADS), _THREADS, args)


def quantize(
    device: Device,
    vectors: DeviceArray,
    low: DeviceArray,
    factors: DeviceArray,
    codes: DeviceArray,
    zones: DeviceArray,
) -> None:
    """Write codes, (tiles, d, TILE), and zones, (tiles, 2, d, ZONES), of vectors, (n, d) float32; see the kernel."""
    n, d = vectors.shape
    args = [vectors, np.uint64(n), low, factors, codes]
    device.launch("quantize", "quantize", {"dim": d}, _grid(device, n, _THREADS), _THREADS, args)
    quantize_zones(device, codes, n, d, zones)


def quantize_zones(device: Device, codes: DeviceArray, n: int, d: int, zones: DeviceArray) -> None:
    """Write zones, (tiles, 2, d, ZONES), of codes, (tiles, d, TILE), with n real rows."""
    args = [codes, np.uint64(n), zones]
    warps = -(-n // TILE) * d * 32
    device.launch("quantize", "quantize_zones", {"dim": d}, _grid(device, warps, _THREADS // 32), _THREADS, args)


def synthesize(
    device: Device, first: int, tiles: int, d: int, words: int, clusters: int, period: int, scale: float
) -> list[DeviceArray]:
    """Make the rows of some tiles from row `first` on; return codes, zones, bits, scales, ids in the layout of a page.

    words: 32-bit words of signs of a row; bits are padded to whole 16 bytes.
    """
    n, padded = tiles * TILE, -(-words // 4) * 4
    codes, zones = device.empty((tiles, d, TILE), np.uint8), device.empty((tiles, 2, d, ZONES), np.uint8)
    bits, scales = device.empty((n, padded), np.uint32), device.empty(n if words else 0, np.uint16)
    ids = device.empty(n, np.uint32)
    constants = {"dim": d, "sign_words": words, "words_per_row": padded}
    rows = [np.uint64(first), np.uint64(n), np.uint32(clusters), np.uint32(period)]
    device.launch("synthetic", "synthetic_codes", constants, _grid(device, n * d, _THREADS), _THREADS, [*rows, codes])
    args = [*rows, np.uint32(np.float16(scale).view(np.uint16)), bits, scales, ids]
    device.launch("synthetic", "synthetic_bits", constants, _grid(device, n, _THREADS), _THREADS, args)
    quantize_zones(device, codes, n, d, zones)
    return [codes, zones, bits, scales, ids]


def allow_both(device: Device, a: DeviceArray, b: DeviceArray, out: DeviceArray) -> None:
    """Write a & b to out, bitmaps over positions as (positions / 64,) uint64."""
    args = [a, b, np.uint64(len(out)), out]
    device.launch("allow", "allow_both", {}, _grid(device, len(out), _THREADS), _THREADS, args)


def allow_rows(device: Device, positions: DeviceArray, live: DeviceArray, out: DeviceArray) -> None:
    """Set in out the bits of positions, (m,) uint32, that are set in `live`; bitmaps: (positions / 64,) uint64."""
    args = [positions, np.uint64(len(positions)), live, out]
    device.launch("allow", "allow_rows", {}, _grid(device, len(positions), _THREADS), _THREADS, args)


def _grid(device: Device, work: int, work_a_block: int, most: int = BLOCKS) -> tuple[int, int]:
    """Return the grid for some pieces of work: enough blocks for all, at most `most` a multiprocessor."""
    return max(1, min(-(-work // work_a_block), device.multiprocessors * most)), 1
