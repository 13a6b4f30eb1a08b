"""Changes that break a kernel are noticed: a barrier less, a read past the end, a lane that stays away. No races."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from cudasim import SimulatedDevice, SimulationError
from test_kernels import SCHEDULES, Table, best_of, random_boxes, run_boxes

from gpubranches.catalog import TILE
from gpubranches.core.assets import folder
from gpubranches.core.boxes import Box, Boxes
from gpubranches.encoders.quantizers import CodeWeights
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.launchers import Resident
from gpubranches.engines.gpu.selection import NO_CUTOFF
from gpubranches.engines.gpu.sources import KERNELS

BARRIER = re.compile(r"__sync(?:threads|warp)\(\);")


def text_of(kernel):
    return (folder("kernels") / f"{kernel}.cu").read_text()


def barriers():
    for kernel in KERNELS:
        for i, found in enumerate(BARRIER.finditer(text_of(kernel))):
            yield pytest.param(kernel, i, id=f"{kernel}-line-{text_of(kernel)[: found.start()].count(chr(10)) + 1}")


def run_probe(kernel, change, order, races=False):
    """Return what a kernel answers to questions that need all of its barriers, or what failed."""
    table = Table(
        3000, d=8, D=768 if kernel == "bits" else 48, seed=5, order=order, change=change, spread=20, races=races
    )
    try:
        return PROBES[kernel](table)
    except (SimulationError, AssertionError) as error:
        return f"{type(error).__name__} {error}"[:60]


def probe_boxes(table):
    rng = np.random.default_rng(9)
    anything = Box(np.zeros(0, np.int16), np.zeros(0, np.uint8), np.zeros(0, np.uint8))
    narrow = [box for box in random_boxes(rng, 8, 180, 9, 120) if len(box.features)]
    models = [Boxes(narrow, np.arange(len(narrow)) % 9), Boxes([anything] * 100, range(100)), Boxes([anything])]
    answers = [run_boxes(table, models, votes) for votes in (1, 2)]
    answers.append(run_boxes(table, models, 1, cutoff=(65533, 1 << 62)))
    return [*answers, run_boxes(table, models, 1, room=10)[1], probe_zones(table)]


def probe_zones(table):
    """Boxes over a tile whose last zones no box can hold rows in; their codes of the last dim cannot be read."""
    tiles, zones = np.array(table.tiles[:1]), np.array(table.zones[:1])
    tiles[0, 7, -512:] = 255
    zones[0, :, 7, -4:] = 255
    zones[0, 0, :, -8:-4], zones[0, 1, :, -8:-4] = 0, 255
    cut = table.device.empty(8 * TILE - 512, np.uint8)
    cut[:] = tiles.reshape(-1)[:-512]
    entries = np.array(table.on.tiles[:1])
    entries[0, 0] = table.device.address(cut)
    kept = table.device.put(zones)
    entries[0, 1] = table.device.address(kept)
    own = Resident(table.device, table.device.put(entries), 1, 8, table.on.words, 48)
    every = table.device.put(~np.zeros(64, np.uint64))
    cut_table = SimpleNamespace(device=table.device, rows=TILE, on=own, allowed=every)
    # Five ranges of another dim come first, so that no lane tests the zones of the boxes it has cleared itself.
    members = [boxed({6: (0, 255), 7: (9, 100 + i)} if i < 5 else {7: (9, 100 + i)}) for i in range(64)]
    return run_boxes(cut_table, [Boxes(members)], 1)


def boxed(ranges):
    low, high = zip(*ranges.values())
    return Box(np.array(list(ranges), np.int16), np.array(low, np.uint8), np.array(high, np.uint8))


def probe_bits(table):
    models = [table.signs.planes(np.random.default_rng(i).standard_normal(768, np.float32)) for i in range(12)]
    return probe_best(table, lambda step, sinks: launchers.bits(table.on, table.allowed, models, step, sinks), 12)


def probe_select(table):
    models = [CodeWeights(np.full(8, i, np.int8), 1.0) for i in range(2)]

    def scan(step, sinks):
        launchers.linear(table.on, table.allowed, models, step, sinks)

    sampled = [probe_best(table, scan, 2, wanted) for wanted in (77, 500)]
    return [*sampled, *(probe_best(table, scan, 2, wanted, sample_from=9000) for wanted in (500, 1100))]


def probe_best(table, scan, models, wanted=77, sample_from=1000):
    found = best_of(table, scan, [wanted] * models, [NO_CUTOFF] * models, sample_from)
    return [(one.ids.tolist(), one.keys.tolist(), one.total) for one in found]


PROBES = {"boxes": probe_boxes, "bits": probe_bits, "select": probe_select}


SAME_RESULTS = {
    (
        "boxes",
        0,
    ): "a lane that is late with the last chunk's `alive` after its last vote reads boxes without ranges alone, "
    "and of those this chunk writes what stands there",
}
"""Barriers without which every schedule here gives the right results, each with the reason. Without them there is a
race all the same: no vote or shuffle orders memory, so that a card may give others."""


@pytest.mark.parametrize(("kernel", "i"), list(barriers()))
def test_every_barrier_is_needed(kernel, i):
    found = list(BARRIER.finditer(text_of(kernel)))[i]
    whole = text_of(kernel)
    without = whole[: found.start()] + ";" + whole[found.end() :]

    def change(file, text):
        return text.replace(whole, without) if file == kernel else text

    good = run_probe(kernel, None, 0)
    assert not isinstance(good, str)
    wrong = any(run_probe(kernel, change, order) != good for order in SCHEDULES)
    assert wrong == ((kernel, i) not in SAME_RESULTS)
    assert "race with thread" in run_probe(kernel, change, 0, races=True)


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_kernel_has_a_race_in_shared_memory(kernel):
    if "__shared__" in text_of(kernel):
        assert not isinstance(run_probe(kernel, None, 77, races=True), str)
    else:
        assert kernel not in PROBES


@pytest.mark.parametrize(
    ("kernel", "old", "new"),
    [
        ("boxes", "const u32 n_strips = n_tiles", "const u32 n_strips = 1u + n_tiles"),
        ("boxes", "part.x * tile_rows;", "(part.x + dim) * tile_rows;"),
        ("boxes", "if (at < capacity)", "if (at <= capacity + 512)"),
        ("boxes", "pending = __ballot_sync(warp_mask,", "pending = lane == 3u ? 0u : __ballot_sync(warp_mask,"),
        ("boxes", "majority(x[3], least, a.w)", "majority(x[3], least, a.z)"),
        ("boxes", "swap_index_bits<4, 1>", "swap_index_bits<4, 2>"),
        ("boxes", "if (key < cutoff) continue;", ""),
        ("boxes", "if (key > cutoff ||", "if ("),
        ("boxes", "splitmix64((u64)id_at(tiles, strip", "((u64)id_at(tiles, strip"),
        ("select", "before.left <= ahead + sum", "before.left < ahead + sum"),
        ("select", "before.better + ahead", "before.better"),
        ("select", "digit >> out << high", "digit << high"),
        ("select", "return key <= search.key;", "return key < search.key;"),
        ("select", "<= search.tie_key", ">= search.tie_key"),
        ("select", "near_tie_keys[j] < tie_key", "near_tie_keys[j] > tie_key"),
        ("select", "if (at < stride) taken", "if (at < stride / 2u) taken"),
        ("select", "if (i - threadIdx.x >= n) return;", "if (i >= n) return;"),
        ("bits", "own < words_per_row / 4u) b[h]", "own <= words_per_row / 4u) b[h]"),
        ("bits", "s < lanes_per_row", "s < lanes_per_row / 2"),
        ("bits", "* n_models * 32u + lane_id()", "* (n_models + 2u) * 32u + lane_id()"),
        ("bits", "if (own) counts = 0;", ""),
    ],
)
def test_other_mistakes_are_noticed(kernel, old, new):
    assert old in text_of(kernel)

    def change(file, text):
        return text.replace(old, new) if file == kernel else text

    good = run_probe(kernel, None, 0)
    assert any(run_probe(kernel, change, order) != good for order in SCHEDULES)


def test_the_kernels_run_on_what_was_written():
    """Memory of the simulated device is filled with a pattern, so that what a kernel forgets to write shows."""
    assert set(SimulatedDevice().empty(100, np.uint8).tolist()) == {0xA5}
