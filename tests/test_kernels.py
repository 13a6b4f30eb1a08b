"""Every kernel's text, run on the processor, equals its NumPy twin under several schedules of threads."""

import numpy as np
import pytest
from cudasim import SimulatedDevice

from gpubranches.catalog import TILE, ZONES
from gpubranches.catalog.tiles import kd_order, to_tiles, zones_of
from gpubranches.core.boxes import Box, Boxes
from gpubranches.core.tie_order import splitmix64
from gpubranches.encoders.quantizers import CodeWeights, ScalarQuantizer, SignQuantizer
from gpubranches.engines.gpu import launchers
from gpubranches.engines.gpu.cupy_device import CupyDevice
from gpubranches.engines.gpu.keys import key_scores, score_keys
from gpubranches.engines.gpu.launchers import SINK_WORDS, Resident
from gpubranches.engines.gpu.program import compile_boxes
from gpubranches.engines.gpu.selection import NO_CUTOFF, sort_entries
from gpubranches.engines.gpu.top_k import ScanRequest, Span, find_top_rows
from gpubranches.research.speed.synthetic import bits_of, codes_of

SCHEDULES = [0, 1, 2, 7, 77, 1234]
ORDERS = [*SCHEDULES, pytest.param("cuda", marks=pytest.mark.gpu)]
"""Schedules of the simulation, and a card where there is one."""
SIZES = [1, 127, 128, 129, 500, 4095, 4096, 4097, 9000]


def device_of(order, change=None, races=False):
    return CupyDevice() if order == "cuda" else SimulatedDevice(order, change=change, races=races)


class Table:
    """Rows of every tier in simulated device memory, and the same rows as plain arrays in order of position."""

    def __init__(
        self, n, d=8, D=48, seed=0, order=0, levels=256, allowed=0.9, change=None, spread=0, size=1.0, races=False
    ):
        rng = self.rng = np.random.default_rng(seed)
        self.device = device = device_of(order, change, races)
        codes = rng.integers(0, levels, (n, d)).astype(np.uint8)
        if spread:
            centres = rng.integers(0, 256, (8, d))
            codes = np.clip(centres[rng.integers(0, 8, n)] + rng.normal(0, spread, (n, d)), 0, 255).astype(np.uint8)
        self.codes = codes = codes[kd_order(codes)]
        self.ids = 1000 + rng.permutation(3 * n)[:n].astype(np.int64)
        self.embeddings = (rng.standard_normal((n, D)) * size).astype(np.float16)
        self.signs = SignQuantizer().fit(self.embeddings.astype(np.float32))
        self.bits, self.scales = self.signs.encode(self.embeddings.astype(np.float32))
        words = -(-self.bits.shape[1] // 16) * 4
        n_tiles = -(-n // TILE)
        self.tiles = to_tiles(codes)
        padded = np.zeros((n, words * 4), np.uint8)
        padded[:, : self.bits.shape[1]] = self.bits
        self.zones = zones_of(self.tiles, n)
        own = [self.tiles, self.zones, padded, self.scales, (self.ids - 1000).astype(np.uint32), self.embeddings]
        self.arrays = [device.put(array) for array in own]
        each = [d * TILE, 2 * d * ZONES, words * 4 * TILE, 2 * TILE, 4 * TILE, 2 * D * TILE]
        entries = np.zeros((n_tiles, 8), np.uint64)
        for i, (array, step) in enumerate(zip(self.arrays, each)):
            entries[:, i] = device.address(array) + step * np.arange(n_tiles)
        entries[:, 6] = 1000
        self.flags = rng.random(n) < allowed
        bitmap = np.zeros(n_tiles * TILE, np.bool_)
        bitmap[:n] = self.flags
        self.allowed = device.put(np.packbits(bitmap, bitorder="little").view(np.uint64))
        self.on = Resident(device, device.put(entries), n_tiles, d, words, D)
        self.rows = n_tiles * TILE

    def expect(self, keys, limit, max_key=NO_CUTOFF):
        """Return ids and keys of the best allowed rows by key and splitmix64(id), ascending."""
        rows = np.flatnonzero(self.flags & (keys <= max_key))
        rows = rows[np.lexsort((splitmix64(self.ids[rows]), keys[rows]))]
        return self.ids[rows[:limit]].tolist(), keys[rows[:limit]].tolist(), len(rows)


def best_of(table, scan, wanted, min_scores, sample_from, listed=None):
    """Return the best rows of a scan of all models, a function of step and sinks."""

    def all_of(span, which, step, sinks):
        assert span.on is table.on
        assert list(which) == list(range(len(wanted)))
        scan(step, sinks)

    return find_top_rows(Span(table.on, table.allowed, listed), all_of, ScanRequest(wanted, min_scores), sample_from)


def random_boxes(rng, d, count, estimators, width=180):
    members = []
    for _ in range(count):
        f = int(rng.integers(0, min(d, 5) + 1))
        low = rng.integers(0, 256, f)
        high = np.minimum(255, low + rng.integers(0, width, f))
        features = rng.choice(d, f, replace=False).astype(np.int16)
        members.append(Box(features, low.astype(np.uint8), high.astype(np.uint8)))
    return Boxes(members, np.sort(rng.integers(0, estimators, count)).tolist(), estimators)


def run_boxes(table, models, min_votes, room=None, cutoff=None):
    """Return (key, position) of what each model appends, sorted, and how many they are; cutoff: (key, tie_key id)."""
    device, room = table.device, room or table.rows
    entries = device.empty((len(models), room), np.uint64)
    header = np.zeros((len(models), SINK_WORDS), np.uint64)
    header[:, 0] = device.address(entries) + np.arange(len(models), dtype=np.uint64) * np.uint64(8 * room)
    header[:, 1], header[:, 4] = room, 0xFFFFFFFFFFFFFFFF
    if cutoff is not None:
        header[:, 4] = cutoff[0] | 0xFFFFFFFF << 32
        header[:, 5] = cutoff[1]
    sinks = device.put(header)
    launchers.boxes(table.on, table.allowed, compile_boxes(models, min_votes), sinks)
    counts = device.get(sinks)[:, 2].astype(int).tolist()
    return [sorted(own[:count].tolist()) for own, count in zip(device.get(entries), counts)], counts


def expected_entries(table, models, min_votes):
    found = []
    for boxes in models:
        votes = boxes.votes(table.codes).astype(np.uint64)
        rows = np.flatnonzero(table.flags & (votes >= min_votes))
        keys = np.uint64(65535) - votes[rows]
        found.append(sorted((keys << np.uint64(32) | rows.astype(np.uint64)).tolist()))
    return found, [len(own) for own in found]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", SIZES)
def test_boxes_count_votes_of_many_models(n, order):
    table = Table(n, seed=n, order=order, spread=20 if n == 9000 else 0)
    rng = table.rng
    models = [random_boxes(rng, 8, 12, 5), Boxes([], n_estimators=2), random_boxes(rng, 8, 170, 9, 250)]
    for min_votes in (1, 3):
        assert run_boxes(table, models, min_votes) == expected_entries(table, models, min_votes)
        for boxes in models:
            found = table.device.put(np.zeros(table.rows // 64, np.uint64))
            launchers.boxes_bitmap(table.on, table.allowed, compile_boxes([boxes], min_votes), found)
            flags = np.unpackbits(table.device.get(found).view(np.uint8), bitorder="little")[:n]
            assert np.array_equal(flags, table.flags & (boxes.votes(table.codes) >= min_votes))


@pytest.mark.parametrize("order", ORDERS)
def test_boxes_of_one_estimator_may_fill_several_chunks(order):
    table = Table(1500, seed=3, order=order, allowed=1.0)
    single = Boxes([random_boxes(table.rng, 8, 1, 1)[0] for _ in range(200)], [0] * 200, 1)
    rare = Boxes([Box(np.array([1], np.int16), np.array([7], np.uint8), np.array([9], np.uint8))])
    bounds = [(0, 0), (255, 255), (0, 255), (128, 255), (0, 127)]
    edges = Boxes([Box(np.array([0], np.int16), np.array([a], np.uint8), np.array([b], np.uint8)) for a, b in bounds])
    for boxes in (single, rare, edges):
        assert run_boxes(table, [boxes], 1) == expected_entries(table, [boxes], 1)


def test_boxes_look_only_at_zones_that_can_hold_rows():
    """The codes of zones that the box rules out are not read: they lie in memory without access here."""
    table = Table(TILE, seed=1, levels=200, allowed=1.0)
    box = Box(np.array([2], np.int16), np.array([220], np.uint8), np.array([255], np.uint8))
    entries = np.array(table.on.tiles)
    entries[:, 0] = 16
    table.on = Resident(table.device, table.device.put(entries), 1, 8, table.on.words, 48)
    assert run_boxes(table, [Boxes([box])], 1) == ([[]], [0])


def test_boxes_that_do_not_fit_are_counted():
    table = Table(3000, allowed=1.0)
    everything = Boxes([Box(np.zeros(0, np.int16), np.zeros(0, np.uint8), np.zeros(0, np.uint8))])
    entries, counts = run_boxes(table, [everything], 1, room=100)
    assert (len(entries[0]), counts) == (100, [3000])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("votes", [1, 2, 4])
def test_boxes_reach_a_border_by_votes_and_mixed_id(votes, order):
    table = Table(5000, seed=5, order=order)
    members = [box for box in random_boxes(table.rng, 8, 40, 6, 250) if len(box.features) > 1]
    boxes = Boxes(members, np.arange(len(members)) % 6, 6)
    expected = expected_entries(table, [boxes], 1)[0][0]
    key, tie_key = 65535 - votes, 1 << 62
    kept = [e for e in expected if (e >> 32, int(splitmix64(table.ids[[e & 0xFFFFFFFF]])[0])) <= (key, tie_key)]
    assert 0 < len(kept) < len(expected)
    assert run_boxes(table, [boxes], 1, cutoff=(key, tie_key)) == ([kept], [len(kept)])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 8, 3), (129, 4, 200), (4097, 32, 50), (9000, 8, 1000), (3000, 1024, 5)])
def test_nearest_rows(n, d, k, order):
    table = Table(n, d=d, seed=n, order=order, levels=16 if n == 9000 else 256)
    queries = table.rng.integers(0, 256, (6, d)).astype(np.uint8)

    def scan(step, sinks):
        launchers.nearest(table.on, table.allowed, queries, step, sinks)

    found = best_of(table, scan, [k] * 6, [NO_CUTOFF] * 6, 2000)
    for query, one in zip(queries, found):
        squared = ((table.codes.astype(np.int64) - query) ** 2).sum(axis=1).astype(np.uint32)
        ids, keys, _ = table.expect(squared, k)
        assert (one.ids.tolist(), one.keys.tolist()) == (ids, keys)


def check_scores(table, scan, twins, limit, quantile, sample_from):
    min_scores = [np.float32(np.quantile(twin, quantile)) if quantile else np.float32(-np.inf) for twin in twins]
    keys = [int(score_keys(np.array([max_key]))[0]) for max_key in min_scores]
    found = best_of(table, scan, [limit] * len(twins), keys, sample_from)
    for twin, one, max_key in zip(twins, found, keys):
        ids, expected, reached = table.expect(score_keys(twin), limit, max_key)
        assert one.ids.tolist() == ids
        assert one.keys.tolist() == expected
        assert one.total == reached


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("n", "d", "limit"), [(1, 8, None), (4097, 32, 40), (9000, 4, 700), (2000, 1024, 3)])
def test_linear_scores_over_codes(n, d, limit, order):
    table = Table(n, d=d, seed=n, order=order)
    models = [CodeWeights.quantise(table.rng.standard_normal(d).astype(np.float32)) for _ in range(5)]

    def scan(step, sinks):
        launchers.linear(table.on, table.allowed, models, step, sinks)

    twins = [model.scores(table.codes) for model in models]
    check_scores(table, scan, twins, limit, None, 2000)
    check_scores(table, scan, twins, limit, 0.8, 2000)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("n", "D", "limit"), [(1, 32, None), (4097, 512, 40), (9000, 48, 700), (700, 2048, 9), (900, 768, 9)]
)
def test_linear_scores_over_bits(n, D, limit, order):
    table = Table(n, d=4, D=D, seed=n, order=order)
    models = [table.signs.planes(table.rng.standard_normal(D).astype(np.float32)) for _ in range(3)]

    def scan(step, sinks):
        launchers.bits(table.on, table.allowed, models, step, sinks)

    twins = [model.scores(table.bits, table.scales) for model in models]
    check_scores(table, scan, twins, limit, None, 2000)
    check_scores(table, scan, twins, limit, 0.9, 1 << 20)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", SIZES)
def test_scans_at_every_size(n, order):
    table = Table(n, d=12, D=160, seed=n, order=order, allowed=0.7)
    queries = table.rng.integers(0, 256, (2, 12)).astype(np.uint8)
    weights = [CodeWeights.quantise(table.rng.standard_normal(12).astype(np.float32)) for _ in range(2)]
    planes = [table.signs.planes(table.rng.standard_normal(160).astype(np.float32)) for _ in range(2)]
    distances = [((table.codes.astype(np.int64) - query) ** 2).sum(axis=1).astype(np.uint32) for query in queries]
    scans = [
        (launchers.nearest, queries, distances),
        (launchers.linear, weights, [score_keys(model.scores(table.codes)) for model in weights]),
        (launchers.bits, planes, [score_keys(model.scores(table.bits, table.scales)) for model in planes]),
    ]
    for launcher, models, twins in scans:

        def scan(step, sinks, launcher=launcher, models=models):
            launcher(table.on, table.allowed, models, step, sinks)

        for k in (1, 60):
            found = best_of(table, scan, [k] * 2, [NO_CUTOFF] * 2, 1000)
            for one, keys in zip(found, twins):
                assert (one.ids.tolist(), one.keys.tolist()) == table.expect(keys, k)[:2]


@pytest.mark.parametrize("scan", ["nearest", "linear", "bits"])
def test_rows_are_addressed_up_to_the_last_of_32_bits(scan):
    """2^20 tiles, all the same one in memory; one of 2^16 rows, or groups of 16, is looked at, and few are allowed."""
    table = Table(TILE, d=4, D=32, seed=6, allowed=1.0)
    tiles, step = 1 << 20, (1 << 16) - 1
    entries = np.repeat(np.array(table.on.tiles), tiles, axis=0)
    entries[:, 6] = np.arange(tiles, dtype=np.uint64) * np.uint64(TILE)
    wide = Resident(table.device, entries, tiles, 4, table.on.words, 32)
    apart = step if scan == "bits" else 16 * step
    looked_at = np.arange(0, tiles * TILE, apart)
    rows = looked_at[[5, len(looked_at) // 2, -2, -1]]
    allowed = np.zeros(tiles * TILE // 8, np.uint8)
    np.bitwise_or.at(allowed, rows // 8, np.uint8(1) << (rows % 8).astype(np.uint8))
    weights = table.rng.standard_normal(32).astype(np.float32)
    models = {
        "nearest": table.codes[:1],
        "linear": [CodeWeights.quantise(weights[:4])],
        "bits": [table.signs.planes(weights)],
    }[scan]
    twins = {
        "nearest": lambda: ((table.codes.astype(np.int64) - table.codes[0]) ** 2).sum(axis=1).astype(np.uint32),
        "linear": lambda: score_keys(models[0].scores(table.codes)),
        "bits": lambda: score_keys(models[0].scores(table.bits, table.scales)),
    }[scan]()
    sinks = table.device.put(np.zeros((1, SINK_WORDS), np.uint64))
    found = table.device.empty(8, np.uint64)
    sinks[0, [0, 1, 4]] = table.device.address(found), 8, 0xFFFFFFFFFFFFFFFF
    getattr(launchers, scan)(wide, allowed, models, step, sinks)
    expected = twins[rows % TILE].astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)
    assert rows[-1] > 0xFFF00000
    assert sorted(found[: int(sinks[0, 2])].tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("D", "cosine"),
    [(50, False), (50, True), (1, False), (49, True), (52, False), (48, True), (512, False), (768, True)],
)
def test_rescored_embeddings(D, cosine, order):
    """Rows that begin at multiples of 2, 4, 8 and 16 bytes, of less and of more than a load of every lane."""
    n = 4500 if D == 50 else 700
    table = Table(n, d=4, D=D, seed=2, order=order)
    device = table.device
    centred = table.embeddings.astype(np.float32) - table.signs.mean_
    weights = table.rng.standard_normal(D).astype(np.float32)
    exact = centred.astype(np.float64) @ weights
    if cosine:
        exact /= np.linalg.norm(centred, axis=1)
    chosen = np.sort(table.rng.choice(n, n // 15, replace=False)).astype(np.uint32)
    vectors = device.put(table.signs.mean_), device.put(weights)
    staged = device.put(table.embeddings[chosen])
    every, few = np.flatnonzero(table.flags), device.put(chosen)
    for listed, source_of, rows in ((None, None, every), (few, None, chosen), (few, staged, chosen)):

        def scan(step, sinks, listed=listed, source_of=source_of):
            launchers.rescore(table.on, listed, source_of, table.allowed, *vectors, cosine, step, sinks)

        one = best_of(table, scan, [None], [NO_CUTOFF], table.rows + 1)[0]
        kept = rows[table.flags[rows]]
        scores = dict(zip(table.ids[kept].tolist(), exact[kept]))
        assert sorted(one.ids.tolist()) == sorted(scores)
        assert np.allclose(key_scores(one.keys), [scores[i] for i in one.ids.tolist()], atol=1e-4)
        assert one.total == len(kept)


@pytest.mark.parametrize("order", ORDERS)
def test_halves_below_the_normal_ones_keep_their_value(order):
    """Subnormal float32 are zero to the code that CuPy compiles; float16 scales and embeddings may be subnormal."""
    table = Table(700, d=4, D=64, seed=8, order=order, size=2e-5)
    assert 0 < table.scales.max() < np.finfo(np.float16).smallest_normal
    models = [table.signs.planes(table.rng.standard_normal(64).astype(np.float32)) for _ in range(2)]

    def scan(step, sinks):
        launchers.bits(table.on, table.allowed, models, step, sinks)

    check_scores(table, scan, [model.scores(table.bits, table.scales) for model in models], 90, None, 1 << 20)
    weights = np.full(64, 1e5, np.float32)
    mean, direction = table.device.put(np.zeros(64, np.float32)), table.device.put(weights)

    def rescan(step, sinks):
        launchers.rescore(table.on, None, None, table.allowed, mean, direction, False, step, sinks)

    found = best_of(table, rescan, [None], [NO_CUTOFF], table.rows + 1)[0]
    exact = dict(zip(table.ids.tolist(), table.embeddings.astype(np.float64) @ weights))
    assert np.allclose(key_scores(found.keys), [exact[i] for i in found.ids.tolist()], atol=1e-3)


@pytest.mark.parametrize("order", SCHEDULES)
@pytest.mark.parametrize("ties", [1, 3, 5000])
def test_the_selection_is_exact_and_breaks_ties_by_the_mixed_id(ties, order):
    table = Table(9000, d=4, seed=ties, order=order, allowed=1.0)
    keys = (table.rng.integers(0, 9000, 9000) // ties * 12345).astype(np.uint32)
    entries = keys.astype(np.uint64) << np.uint64(32) | np.arange(9000, dtype=np.uint64)

    def scan(step, sinks):
        header = np.array(sinks)
        rows = np.flatnonzero((keys <= header[0, 4] & 0xFFFFFFFF) & (np.arange(9000) % step == 0))
        target = guarded_view(table, int(header[0, 0]), int(header[0, 1]))
        target[: len(rows)] = entries[rows][: len(target)]
        sinks[0, 2] = len(rows)

    for wanted in (1, 17, 4096, 8999, 9000, 10_000):
        one = best_of(table, scan, [wanted], [NO_CUTOFF], 500, listed=9000)[0]
        ids, expected, _ = table.expect(keys, wanted)
        assert (one.ids.tolist(), one.keys.tolist()) == (ids, expected)


def guarded_view(table, address, room):
    import ctypes

    return np.frombuffer((ctypes.c_uint64 * room).from_address(address), np.uint64)


def test_entries_are_ordered_by_key_and_mixed_id():
    table = Table(5000, d=4)
    entries = (np.arange(5000, dtype=np.uint64) % np.uint64(7)) << np.uint64(32) | np.arange(5000, dtype=np.uint64)
    sizes = [1250, 0, 5000, 1]
    lists = np.zeros((4, 5000), np.uint64)
    for own, size in zip(lists, sizes):
        own[:size] = table.rng.permutation(entries[:size])
    for own, size in zip(sort_entries(table.on, table.device.put(lists), sizes), sizes):
        rows = np.lexsort((splitmix64(table.ids[:size]), np.arange(size) % 7))
        assert own.ids.tolist() == table.ids[rows].tolist()
        assert own.keys.tolist() == (np.arange(size) % 7)[rows].tolist()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", SIZES)
def test_quantized_vectors_and_their_zones(n, order):
    rng = np.random.default_rng(n)
    vectors = rng.standard_normal((n, 8)).astype(np.float32)
    quantizer = ScalarQuantizer().fit(vectors[: n // 2 + 1])
    span = np.where(quantizer.high_ > quantizer.low_, quantizer.high_ - quantizer.low_, np.inf).astype(np.float32)
    device = device_of(order)
    tiles = to_tiles(quantizer.encode(vectors))
    codes, zones = device.empty(tiles.shape, np.uint8), device.empty((len(tiles), 2, 8, ZONES), np.uint8)
    parameters = device.put(quantizer.low_), device.put(np.float32(255) / span)
    launchers.quantize(device, device.put(vectors), *parameters, codes, zones)
    assert np.array_equal(device.get(codes).transpose(0, 2, 1).reshape(-1, 8)[:n], quantizer.encode(vectors))
    assert np.array_equal(device.get(zones), zones_of(tiles, n))


@pytest.mark.parametrize("order", ORDERS)
def test_bitmaps_of_listed_rows(order):
    rng = np.random.default_rng(4)
    device = device_of(order)
    live, other = rng.integers(0, 2**63, (2, 64)).astype(np.uint64)
    positions = rng.choice(4096, 700).astype(np.uint32)
    out = device.put(np.zeros(64, np.uint64))
    launchers.allow_rows(device, device.put(positions), device.put(live), out)
    flags = np.zeros(4096, np.uint8)
    flags[positions] = 1
    assert np.array_equal(device.get(out), np.packbits(flags, bitorder="little").view(np.uint64) & live)
    launchers.allow_both(device, device.put(live), device.put(other), out)
    assert np.array_equal(device.get(out), live & other)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("clusters", "words"), [(0, 4), (40, 4), (40, 2), (0, 5)])
def test_synthetic_rows_equal_those_made_on_the_host(clusters, words, order):
    first, tiles = 5 * TILE, 2
    rows = np.arange(first, first + tiles * TILE)
    device = device_of(order)
    page = launchers.synthesize(device, first, tiles, 8, words, clusters, 7, 0.25)
    expected = to_tiles(codes_of(rows, 8, clusters, 7))
    bits = np.pad(bits_of(rows, words, clusters, 7).view(np.uint32), ((0, 0), (0, -words % 4)))
    scales = np.full(len(rows), 0.25, np.float16).view(np.uint16)
    twins = [expected, zones_of(expected, len(rows)), bits, scales, rows - first]
    for made, twin in zip(page, twins):
        assert np.array_equal(device.get(made), twin)


def test_keys_have_the_order_of_scores():
    scores = np.array([np.inf, 3.5, 1e-30, 0.0, -0.0, -1e-30, -7, -np.inf], np.float32)
    keys = score_keys(scores)
    assert (np.diff(keys.astype(np.int64)) >= 0).all()
    assert keys[3] == keys[4]
    assert key_scores(keys).tolist() == scores.tolist()
