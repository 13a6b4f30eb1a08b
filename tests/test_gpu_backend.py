"""What the gpu backend promises beyond the contract: memory, residence, its one thread, faults."""

import threading
import time
from functools import partial

import numpy as np
import pytest
from cudasim import SimulatedDevice
from worlds import World, check_bits, check_nearest_codes, check_votes, empty, ordered

from gpubranches.core.boxes import Box, Boxes
from gpubranches.core.files import checksum
from gpubranches.engines.gpu import GpuBackend
from gpubranches.engines.gpu.device_worker import DeviceWorker
from gpubranches.engines.gpu.launchers import DIGITS
from gpubranches.engines.gpu.memory import WORKING_BYTES, MemoryPlan
from gpubranches.engines.gpu.program import MOST_MODELS
from gpubranches.engines.gpu.resident_copy import Residence
from gpubranches.engines.gpu.selection import SORTED_AT_ONCE
from gpubranches.engines.gpu.top_k import SAMPLE_FROM, _sample, first_room, lists_at_once
from gpubranches.errors import CatalogFormatError, DeviceError, DeviceMemoryError, UsageError

EVERYTHING = Boxes([Box(*empty())])


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "c", [5000, 300], seed=1)


# Memory


def test_tiers_leave_in_order_until_the_rest_fits(world):
    whole = MemoryPlan.of(world.catalog, 1 << 40, 1 << 40)
    assert whole.tiers == ("codes", "bits", "embeddings")
    assert whole.to_json()["verdict"] == "fits"
    without = MemoryPlan.of(world.catalog, whole.needed - 1, 1 << 40)
    assert (without.tiers, list(without.dropped)) == (("codes", "bits"), ["embeddings"])
    least = MemoryPlan.of(world.catalog, without.needed - 1, 1 << 40)
    assert (least.tiers, set(least.dropped)) == (("codes",), {"embeddings", "bits"})
    assert whole.needed == least.needed + sum(least.dropped.values())
    refused = MemoryPlan.of(world.catalog, least.needed - 1, 1 << 40)
    with pytest.raises(DeviceMemoryError, match=f"{least.needed:,}.*{least.needed - 1:,}"):
        refused.require()
    assert refused.to_json()["verdict"] == "does not fit"


def test_the_plan_is_what_is_uploaded(world):
    device = SimulatedDevice()
    residence = Residence(device, world.catalog)
    sizes = residence.plan.parts
    pages = residence.pages.values()
    for part, names in {"codes": ["codes"], "zones": ["zones"], "ids": ["ids"], "bits": ["bits", "scales"]}.items():
        assert sizes[part] == sum(page.arrays[name].nbytes for page in pages for name in names), part
    assert sizes["directory"] == residence.resident.tiles.nbytes
    assert sizes["embeddings"] == sum(page.arrays["embeddings"].nbytes for page in pages)


def test_the_lists_of_a_pass_fit_into_the_working_memory():
    """Of the sizes of the contract, whatever is asked: few lists at a time where each is long."""
    for rows in (1 << 20, 262_600_000, 3_800_000_000):
        for most in (1, 100, 16_384):
            lists = min(MOST_MODELS, lists_at_once(most, rows, SAMPLE_FROM))
            _, room = _sample(most, rows, SAMPLE_FROM)
            assert 8 * lists * room <= WORKING_BYTES // 2
        assert 8 * MOST_MODELS * first_room(rows, MOST_MODELS) <= WORKING_BYTES // 2
        # Beside them lie what was chosen of one list, or its entries while they are put in order.
        assert 8 * first_room(rows, 1) + 80 * SORTED_AT_ONCE <= WORKING_BYTES


def test_more_rows_than_positions_are_refused(world, monkeypatch):
    monkeypatch.setattr("gpubranches.engines.gpu.memory.MOST_POSITIONS", 3 * 4096)
    assert MemoryPlan.of(world.catalog, 1 << 40, 1 << 40).parts
    monkeypatch.setattr("gpubranches.engines.gpu.memory.MOST_POSITIONS", 2 * 4096)
    with pytest.raises(UsageError, match=r"at most 8,192 rows on one card, got 12,288"):
        GpuBackend(world.catalog, SimulatedDevice)


@pytest.mark.parametrize("dropped", [("embeddings",), ("embeddings", "bits")])
def test_answers_do_not_change_with_the_tiers_that_stay(world, dropped):
    whole = MemoryPlan.of(world.catalog, 1 << 40, 1 << 40)
    room = whole.needed - sum(whole.parts[name] for name in dropped)
    weights = world.embeddings[3]
    small = partial(SimulatedDevice, memory_bytes=room)
    with GpuBackend(world.catalog, SimulatedDevice) as full, GpuBackend(world.catalog, small) as lean:
        assert lean.info()["memory"]["dropped"].keys() == set(dropped)
        check_bits(world, lean, weights, 50, None, 0.5)
        for tier in ("bits", "embeddings"):
            a, b = (backend.search(weights[None], 20, tier=tier) for backend in (full, lean))
            assert a.ids.tolist() == b.ids.tolist()
        chosen = world.ids[::7]
        a, b = (backend.score(weights, tier="embeddings", ids=chosen) for backend in (full, lean))
        assert a.ids.tolist() == b.ids.tolist()
        assert np.allclose(a.scores, b.scores, atol=1e-4)
        # Scans of what does not stay are another engine's, and the answer says whose.
        assert lean.search(weights[None], 5, tier="embeddings").source == "cpu/embeddings"
        assert full.search(weights[None], 5, tier="embeddings").source == "gpu/embeddings"


def test_a_catalog_that_does_not_fit_is_refused_and_everything_freed(world):
    devices = []

    def make():
        devices.append(SimulatedDevice(memory_bytes=WORKING_BYTES))
        return devices[0]

    with pytest.raises(DeviceMemoryError, match="cpu backend"):
        GpuBackend(world.catalog, make)
    assert devices[0].closed


def test_a_lack_of_memory_in_a_question_leaves_the_backend_usable(world):
    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        backend._device.memory_bytes = 1000
        with pytest.raises(DeviceMemoryError, match="free device memory"):
            backend.apply(EVERYTHING)
        backend._device.memory_bytes = 1 << 40
        assert backend.apply(EVERYTHING).total == len(world.ids)


# Residence


def test_commits_reach_the_resident_copy_without_a_reload(world):
    uploads = []

    class Counting(SimulatedDevice):
        def upload(self, array, out):
            uploads.append(array.nbytes)
            super().upload(array, out)

    with GpuBackend(world.catalog, Counting) as backend:
        first = len(uploads)
        world.catalog.delete(world.ids[:10])
        assert backend.apply(EVERYTHING).total == len(world.ids) - 10
        assert len(uploads) == first
        bits, scales = world.catalog.signs.encode(np.ones((3, 48), np.float32))
        ids = world.catalog.next_id + np.arange(3)
        ones = np.ones((3, 48), np.float16)
        codes = np.zeros((3, 8), np.uint8)
        world.catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=ones.__getitem__)
        assert backend.apply(EVERYTHING).total == len(world.ids) - 7
        assert len(uploads) == first + 6
        whole = MemoryPlan.of(world.catalog, 1 << 40, 1 << 40)
        assert backend.info()["memory"]["parts"] == whole.parts
        world.catalog.compact()
        assert backend.apply(EVERYTHING).total == len(world.ids) - 7
        assert len(backend._residence.pages) == len([segment for segment in world.catalog.segments if segment.n])


def test_every_tier_of_a_catalog_that_was_opened_empty_becomes_resident(tmp_path):
    world = World(tmp_path / "c", [0])
    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        bits, scales = world.catalog.signs.encode(np.ones((3, 48), np.float32))
        ids, ones = world.catalog.next_id + np.arange(3), np.ones((3, 48), np.float16)
        codes = np.zeros((3, 8), np.uint8)
        world.catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=ones.__getitem__)
        assert backend.search(np.ones((1, 48), np.float32), 2, tier="embeddings").source == "gpu/embeddings"
        assert backend.score(np.ones(48, np.float32), tier="bits").total == 3
        assert backend.info()["tiers"] == ["codes", "bits", "embeddings"]


@pytest.mark.parametrize("name", ["codes.u8", "zones.u8", "bits.u8", "scales.f16", "embeddings.f16", "ids.i64"])
def test_a_damaged_file_is_refused_before_the_upload(world, name):
    path = world.catalog.segments[0].folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CatalogFormatError, match=name):
        GpuBackend(world.catalog, SimulatedDevice)


class Noting(SimulatedDevice):
    """Notes what is uploaded, beside the checksums."""

    def __init__(self, notes, started):
        super().__init__()
        self.notes, self.started = notes, started

    def upload(self, array, out):
        self.notes.append(("upload", array.nbytes))
        super().upload(array, out)
        self.started.set()


@pytest.fixture
def noted(tmp_path, monkeypatch):
    """Ten segments of different sizes, and notes of every checksum and upload in their order."""
    world = World(tmp_path / "c", [100 + i for i in range(10)], deleted=0)
    notes, started = [], threading.Event()

    def noting(path):
        last = path.parent.name == world.catalog.segments[-1].folder.name
        if last and not started.wait(5):
            notes.append("every file was read before the first was sent")
        found = checksum(path)
        notes.append((path.parent.name, path.name))
        return found

    monkeypatch.setattr("gpubranches.engines.gpu.resident_copy.checksum", noting)
    return world, notes, lambda: Noting(notes, started)


def test_a_segment_is_verified_while_others_are_uploaded(noted):
    world, notes, make = noted
    with GpuBackend(world.catalog, make) as backend:
        assert backend.apply(EVERYTHING).total == len(world.ids)
    assert notes.count("every file was read before the first was sent") == 0
    names = {"codes.u8", "zones.u8", "ids.i64", "bits.u8", "scales.f16", "embeddings.f16"}
    uploads = [i for i, note in enumerate(notes) if note[0] == "upload"]
    for segment, first in zip(world.catalog.segments, uploads[:: len(names)], strict=True):
        assert {(segment.folder.name, name) for name in names} <= set(notes[:first])
    assert len(notes) == 2 * len(uploads) == 10 * 2 * len(names)


def test_the_segments_after_a_damaged_one_are_not_uploaded(noted):
    world, notes, make = noted
    path = world.catalog.segments[6].folder / "ids.i64"
    path.write_bytes(path.read_bytes()[::-1])
    devices = []
    with pytest.raises(CatalogFormatError, match=r"ids\.i64"):
        GpuBackend(world.catalog, lambda: devices.append(make()) or devices[0])
    assert devices[0].closed
    assert sum(note[0] == "upload" for note in notes) == 6 * 6


def test_a_damaged_segment_that_is_appended_is_never_served(world):
    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        bits, scales = world.catalog.signs.encode(np.ones((3, 48), np.float32))
        ids, ones = world.catalog.next_id + np.arange(3), np.ones((3, 48), np.float16)
        codes = np.zeros((3, 8), np.uint8)
        world.catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=ones.__getitem__)
        path = world.catalog.segments[-1].folder / "codes.u8"
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        for _ in range(2):
            with pytest.raises(CatalogFormatError, match=r"codes\.u8"):
                backend.apply(EVERYTHING)
        path.write_bytes(content)
        assert backend.apply(EVERYTHING).total == len(world.ids) + 3


def test_progress_is_told(world):
    told = []
    Residence(SimulatedDevice(), world.catalog, report=lambda *args: told.append(args))
    assert told[-1][1] == told[-1][2] > 0
    assert [stage for stage, _, _ in told] == ["uploading"] * 2


# The worker


def test_requests_that_wait_are_answered_together_and_alone_the_same(world):
    models = [world.boxes() for _ in range(9)]
    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        alone = [backend.apply(boxes, limit=20) for boxes in models]
        weights = [world.rng.standard_normal(48).astype(np.float32) for _ in range(5)]
        as_scores = [backend.score(one, tier="bits", limit=9) for one in weights]
        near = [backend.search(world.codes[i : i + 1 + i % 2], 7, tier="codes") for i in range(2)]
        directed = [backend.search(one[None], 7, tier="bits") for one in weights[:2]]
        launches = backend._device.launches
        hold, found = threading.Event(), {}
        blocker = threading.Thread(target=lambda: backend._worker.call(hold.wait))
        blocker.start()

        def ask(i):
            found[i] = backend.apply(models[i], limit=20)

        def ask_scores(i):
            found["score", i] = backend.score(weights[i], tier="bits", limit=9)

        def ask_near(i):
            found["near", i] = backend.search(world.codes[i : i + 1 + i % 2], 7, tier="codes")

        def ask_directions(i):
            found["directed", i] = backend.search(weights[i][None], 7, tier="bits")

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(9)]
        threads += [threading.Thread(target=one, args=(i,)) for one in (ask_near, ask_directions) for i in range(2)]
        threads += [threading.Thread(target=ask_scores, args=(i,)) for i in range(5)]
        for thread in threads:
            thread.start()
        while len(backend._worker._waiting) < 18:
            time.sleep(0.001)
        before = launches.count("boxes"), launches.count("bits"), launches.count("nearest")
        hold.set()
        for thread in [blocker, *threads]:
            thread.join()
        assert launches.count("boxes") == before[0] + 1
        assert launches.count("bits") == before[1] + 2
        assert launches.count("nearest") == before[2] + 1
    for i, expected in enumerate(alone):
        assert (found[i].ids.tolist(), found[i].total) == (expected.ids.tolist(), expected.total)
    for i, expected in enumerate(as_scores):
        assert found["score", i].ids.tolist() == expected.ids.tolist()
    for i in range(2):
        assert found["near", i].ids.tolist() == near[i].ids.tolist()
        assert found["directed", i].ids.tolist() == directed[i].ids.tolist()


def asked_together(backend, works):
    """Return the answers to works, functions of no argument, that all wait before the first is begun."""
    hold, found = threading.Event(), {}
    blocker = threading.Thread(target=lambda: backend._worker.call(hold.wait))
    blocker.start()
    threads = [threading.Thread(target=lambda i=i: found.update({i: works[i]()})) for i in range(len(works))]
    for thread in threads:
        thread.start()
    while len(backend._worker._waiting) < len(works):
        time.sleep(0.001)
    hold.set()
    for thread in [blocker, *threads]:
        thread.join()
    return [found[i] for i in range(len(works))]


def test_requests_with_the_same_filter_are_answered_together(world):
    """Equal bitmaps, each an array of its own; another filter, and none, are passes of their own."""
    where, _ = world.where(0.4)
    other = where.copy()
    other[-600] ^= 255
    filters = [where, where.copy(), where.copy(), other, None]
    weights = [world.rng.standard_normal(48).astype(np.float32) for _ in filters]
    models = [world.boxes() for _ in filters]
    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        for kernel, ask in {
            "boxes": lambda i: backend.apply(models[i], limit=20, where=filters[i]),
            "bits": lambda i: backend.score(weights[i], tier="bits", limit=20, where=filters[i]),
            "nearest": lambda i: backend.search(world.codes[i : i + 1], 7, tier="codes", where=filters[i]),
            "rescore": lambda i: backend.search(weights[i][None], 7, tier="bits", where=filters[i]),
        }.items():
            alone = [ask(i) for i in range(len(filters))]
            backend._device.launches.clear()
            together = asked_together(backend, [lambda i=i, ask=ask: ask(i) for i in range(len(filters))])
            assert backend._device.launches.count("bits" if kernel == "rescore" else kernel) == 3
            assert backend._device.launches.count("allow_both") <= 2 if kernel != "rescore" else True
            for one, expected in zip(together, alone, strict=True):
                assert one.ids.tolist() == expected.ids.tolist()


def test_embeddings_are_gathered_by_the_threads_that_ask(world, monkeypatch):
    """And answered from where the question found them, though a commit has moved the rows since."""
    whole = MemoryPlan.of(world.catalog, 1 << 40, 1 << 40)
    room = whole.needed - whole.parts["embeddings"]
    weights, chosen = world.embeddings[3], world.ids[::5]
    gathered, stored = [], type(world.catalog).embeddings_at

    def noting(catalog, positions):
        gathered.append(threading.get_ident())
        return stored(catalog, positions)

    monkeypatch.setattr(type(world.catalog), "embeddings_at", noting)
    with GpuBackend(world.catalog, partial(SimulatedDevice, memory_bytes=room)) as backend:
        assert backend.info()["tiers"] == ["codes", "bits"]

        def ask():
            return backend.score(weights, tier="embeddings", ids=chosen)

        alone = ask()
        assert gathered == [threading.get_ident()]
        works = [ask, lambda: backend.score(weights, tier="embeddings", ids=chosen[:7])]
        for one, expected in zip(asked_together(backend, works), (alone.ids, alone.ids), strict=True):
            assert one.ids.tolist() == [i for i in expected.tolist() if i in one.ids]
        assert backend._worker._thread.ident not in gathered
        gone = np.setdiff1d(world.ids, chosen)[::2]

        def commit(positions):
            found = stored(world.catalog, positions)
            monkeypatch.setattr(type(world.catalog), "embeddings_at", noting)
            world.catalog.delete(gone)
            world.catalog.compact()
            return found

        gathered.clear()
        monkeypatch.setattr(type(world.catalog), "embeddings_at", lambda catalog, positions: commit(positions))
        moved = ask()
        assert gathered == []
        again = ask()
    assert (again.ids.tolist(), again.scores.tolist()) == (alone.ids.tolist(), alone.scores.tolist())
    assert (moved.ids.tolist(), moved.scores.tolist()) == (alone.ids.tolist(), alone.scores.tolist())


def test_one_thread_makes_and_uses_the_device(world):
    seen = set()

    class Watched(SimulatedDevice):
        def launch(self, *args):
            seen.add(threading.get_ident())
            super().launch(*args)

    with GpuBackend(world.catalog, Watched) as backend:
        threads = [threading.Thread(target=lambda: backend.apply(EVERYTHING, limit=1)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_closing_frees_and_a_later_call_says_so(world):
    backend = GpuBackend(world.catalog, SimulatedDevice)
    device = backend._device
    backend.close()
    backend.close()
    assert device.closed
    with pytest.raises(DeviceError, match="closed"):
        backend.apply(EVERYTHING)


def test_a_lost_device_is_named_and_nothing_else_is_tried(world):
    backend = GpuBackend(world.catalog, SimulatedDevice)

    def fail(*args):
        raise DeviceError("an illegal address was encountered")

    backend._device.launch = fail
    for _ in range(2):
        with pytest.raises(DeviceError, match="illegal address"):
            backend.apply(EVERYTHING)
    backend.close()


def test_one_request_too_many_does_not_fail_the_others():
    """A batch that lacks memory is answered one by one."""
    worker = DeviceWorker("test", lambda: None)
    hold = threading.Event()
    blocker = threading.Thread(target=lambda: worker.call(hold.wait))
    blocker.start()

    def run_batch(items):
        if len(items) > 1 or items == [13]:
            raise DeviceMemoryError(f"expected less, got {items}")
        return [item * 2 for item in items]

    found = {}

    def ask(item):
        try:
            found[item] = worker.submit("key", item, run_batch)
        except DeviceMemoryError as error:
            found[item] = str(error)

    threads = [threading.Thread(target=ask, args=(item,)) for item in (11, 12, 13)]
    for thread in threads:
        thread.start()
    while len(worker._waiting) < 3:
        time.sleep(0.001)
    hold.set()
    for thread in [blocker, *threads]:
        thread.join()
    worker.close()
    assert found == {11: 22, 12: 24, 13: "expected less, got [13]"}


def test_errors_of_the_caller_leave_the_owner_running():
    worker = DeviceWorker("test", lambda: None)
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0)
    assert worker.call(lambda: 5) == 5
    worker.close()


class Measured(SimulatedDevice):
    """Notes the largest piece of memory that was asked for since `largest` was set to 0, but for counts of digits.

    Those take 8 KB for each list and digit, whatever the rows.
    """

    largest = 0

    def empty(self, shape, dtype):
        made = super().empty(shape, dtype)
        if made.shape[-1:] != (DIGITS,):
            self.largest = max(self.largest, made.nbytes)
        return made


@pytest.fixture
def crowded(tmp_path, monkeypatch):
    """Three tiles and a bit of rows, and lists that hold one tile of them; what fits is ordered in pieces, too."""
    monkeypatch.setattr("gpubranches.engines.gpu.top_k.FIRST_ROOM", 4096)
    monkeypatch.setattr("gpubranches.engines.gpu.selection.SORTED_AT_ONCE", 1500)
    world = World(tmp_path / "c", [9000, 5000], seed=4, levels=32)
    with GpuBackend(world.catalog, Measured, sample_from=1000) as backend:
        backend.apply(Boxes([]))
        backend._device.largest = 0
        yield world, backend
        assert backend._device.largest <= 2 * 8 * 4096


@pytest.mark.parametrize("limit", [None, 0, 1, 100, 2000, 4000, 20_000])
def test_no_answer_of_boxes_needs_more_memory_than_its_lists(crowded, limit):
    world, backend = crowded
    tied = Boxes([Box(*empty())] * 3, range(3))
    for boxes in (EVERYTHING, tied, world.boxes(60, 9, 250)):
        check_votes(world, backend, boxes, 1, limit, None)
        check_votes(world, backend, boxes, 2, limit, 0.8)


def test_the_best_of_many_tied_rows_take_two_passes(crowded):
    """A list that overflows gives the cutoff by votes and mixed id that the second pass keeps to."""
    world, backend = crowded
    backend._device.launches.clear()
    check_votes(world, backend, EVERYTHING, 1, 50, None)
    assert backend._device.launches.count("boxes") == 2
    backend._device.launches.clear()
    check_votes(world, backend, EVERYTHING, 1, 0, None)
    assert backend._device.launches.count("boxes") == 1


@pytest.mark.parametrize("limit", [None, 30, 3000])
def test_models_that_do_not_fit_together_are_answered_apart(crowded, limit):
    world, backend = crowded
    single = Boxes([Box(np.array([0], np.int16), np.array([3], np.uint8), np.array([3], np.uint8))])
    models = [EVERYTHING, single, world.boxes(60, 9, 250), Boxes([]), EVERYTHING]
    together = backend.apply_many(models, limit=limit)
    for boxes, found in zip(models, together, strict=True):
        votes = boxes.votes(world.codes)
        rows = np.flatnonzero(votes)
        expected = rows[ordered(votes[rows].astype(int), world.ids[rows], limit)]
        assert (found.total, found.ids.tolist()) == (len(rows), world.ids[expected].tolist())


@pytest.mark.parametrize("limit", [None, 9, 6000])
def test_no_answer_of_the_other_scans_does_either(crowded, limit):
    world, backend = crowded
    check_bits(world, backend, world.embeddings[3], limit, 0.1, 0.9)
    check_bits(world, backend, np.zeros(48, np.float32), limit, None, None)
    every = np.ones(len(world.ids), bool)
    check_nearest_codes(world, backend, world.codes[3], limit or 14_000, None, every)
    for ids in (None, world.ids[::2]):
        some = backend.score(world.embeddings[3], tier="embeddings", limit=limit, ids=ids)
        rows = np.arange(len(world.ids))[:: 1 if ids is None else 2]
        exact = (world.embeddings[rows] - world.catalog.signs.mean_).astype(float) @ world.embeddings[3]
        assert some.total == len(rows)
        assert np.allclose(some.scores, np.sort(exact)[::-1][:limit], atol=1e-4)


def test_many_candidates_get_the_room_they_need(world, monkeypatch):
    monkeypatch.setattr("gpubranches.engines.gpu.top_k.FIRST_ROOM", 64)
    with GpuBackend(world.catalog, SimulatedDevice, sample_from=1000) as backend:
        check_bits(world, backend, world.embeddings[3], None, 0.5, None)
        found = backend.search(world.codes[:5], 30, tier="codes")
        alone = [backend.search(world.codes[i : i + 1], 30, tier="codes").ids[0].tolist() for i in range(5)]
        assert found.ids.tolist() == alone
        check_votes(world, backend, EVERYTHING, 1, None, None)
        check_votes(world, backend, EVERYTHING, 1, 7, 0.5)
