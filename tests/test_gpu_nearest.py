"""First neighbours by faiss over resident embeddings: the answers of the kernels, or the kernels' own."""

import gc
import json
import logging
import math
import os
import re
import weakref
from functools import partial

import fake_faiss
import numpy as np
import pytest
from cudasim import SimulatedDevice
from worlds import World

from benchmarks.nearest import measure
from gpubranches.engines.gpu import GpuBackend
from gpubranches.engines.gpu.measured_times import Line, Measured, choose, place
from gpubranches.engines.gpu.memory import MemoryPlan
from gpubranches.engines.gpu.nearest import MOST_NEAREST
from gpubranches.errors import BackendUnavailableError, DataError, DeviceError, DeviceMemoryError, UsageError
from gpubranches.retrieval.search import Searcher

RESIDENT = ("codes", "bits", "embeddings")


@pytest.fixture(params=["numpy", "faiss-cpu"])
def faiss(request, monkeypatch):
    real = pytest.importorskip("faiss", reason="faiss is not installed") if request.param == "faiss-cpu" else None
    made = fake_faiss.BruteForce(real)
    monkeypatch.setattr("gpubranches.engines.faiss_index._faiss", lambda: made)
    return made


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Where the table of measured times lies; a function that writes one for the simulated card."""
    path = tmp_path / "measured" / "nearest.json"
    path.parent.mkdir()
    monkeypatch.setattr("gpubranches.engines.gpu.measured_times.place", lambda: path)

    def write(faiss_ms, kernel_ms=2.0, card="simulated"):
        lines = tuple(Line(10_000, k, 1, False, kernel_ms, faiss_ms) for k in (10, 1000))
        Measured(card, "abc", "2026-01-01", lines).write()

    write.path = path
    return write


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("near") / "c", [5000, 1, 300, 4097], seed=9, deleted=0)


def opened(world, nn="faiss", **device):
    return GpuBackend(world.catalog, partial(SimulatedDevice, **device), nn=nn, sample_from=3000)


def compared(world, backend, queries, k):
    """Return the source of an answer that equals, bit for bit, that of the kernels over the same rows."""
    with opened(world, "kernel") as kernels:
        expected = kernels.search(queries, k, tier="embeddings")
    found = backend.search(queries, k, tier="embeddings")
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.distances.tobytes() == expected.distances.tobytes()
    assert expected.source == "gpu/embeddings"
    return found.source


@pytest.mark.parametrize("k", [1, 10, 100, MOST_NEAREST])
def test_the_answers_are_those_of_the_kernels(world, faiss, k):
    queries = np.concatenate([world.rng.standard_normal((2, 48)), world.embeddings[:1]]).astype(np.float32)
    with opened(world) as backend:
        for own in (queries, queries[:1]):
            assert compared(world, backend, own, k) == "faiss-gpu/embeddings"
        sizes = {call[0] for call in faiss.calls} - {64}
        assert sizes == {5000, 1, 300, 4097}  # segment by segment


@pytest.mark.parametrize("orders", [0.3, 3])
def test_rows_far_from_and_near_to_the_mean_prune_nothing_that_belongs(tmp_path, faiss, orders):
    """Distances from the mean differ, by orders of magnitude too; what cannot be proven then is the kernels'."""
    world = World(tmp_path / "c", [3000], seed=3, deleted=0)
    signs, rng = world.catalog.signs, world.rng
    sizes = np.float32(10) ** rng.uniform(-orders / 2, orders / 2, 3000).astype(np.float32)
    vectors = (signs.mean_ + rng.standard_normal((3000, 48)) * sizes[:, None]).astype(np.float16)
    bits, scales = signs.encode(vectors.astype(np.float32))
    ids = world.catalog.next_id + np.arange(3000)
    world.catalog.append(
        np.zeros((3000, 8), np.uint8), ids=ids, bits=bits, scales=scales, embeddings=vectors.__getitem__
    )
    queries = rng.standard_normal((4, 48)).astype(np.float32)
    with opened(world) as backend:
        for k in (1, 20, 300):
            source = compared(world, backend, queries, k)
            assert orders > 1 or "faiss-gpu" in source


@pytest.mark.parametrize("turned", [1.0, -1.0])
def test_a_direction_that_little_agrees_with_is_answered_too(tmp_path, faiss, turned):
    """The k-th cosine may be negative or all rows alike: then nothing is proven and the kernels answer."""
    world = World(tmp_path / "c", [900], seed=4, duplicates=True, deleted=0)
    query = turned * (world.embeddings[:1] - world.catalog.signs.mean_)
    with opened(world) as backend:
        assert compared(world, backend, query.astype(np.float32), 20) == "gpu/embeddings"
        assert compared(world, backend, np.zeros((1, 48), np.float32), 20) == "gpu/embeddings"
        assert compared(world, backend, query.astype(np.float32), 900) == "faiss-gpu/embeddings"  # all rows came back


def test_queries_that_are_not_proven_are_the_kernels_and_the_source_says_so(world, faiss):
    queries = np.concatenate([np.zeros((1, 48)), world.embeddings[:2]]).astype(np.float32)
    with opened(world) as backend:
        assert compared(world, backend, queries, 5) == "faiss-gpu+gpu/embeddings"


def test_filters_deleted_rows_and_large_k_go_to_the_kernels(tmp_path, faiss):
    world = World(tmp_path / "c", [3000], seed=5, deleted=0)
    query = world.embeddings[:1]
    with opened(world) as backend:
        assert backend.search(query, 5, tier="embeddings").source == "faiss-gpu/embeddings"
        where, _ = world.where(0.5)
        assert backend.search(query, 5, tier="embeddings", where=where).source == "gpu/embeddings"
        assert backend.search(query, MOST_NEAREST + 1, tier="embeddings").source == "gpu/embeddings"
        world.catalog.delete(world.ids[:1])
        assert backend.search(query, 5, tier="embeddings").source == "gpu/embeddings"
        assert backend.search(query, 5, tier="embeddings").ids[0, 0] != world.ids[0]
        world.catalog.compact()
        assert backend.search(query, 5, tier="embeddings").source == "faiss-gpu/embeddings"


def test_a_closed_backend_holds_no_memory_of_the_card(world, faiss):
    with opened(world) as backend:
        compared(world, backend, world.embeddings[:1], 3)
        resources = weakref.ref(backend._first._faiss._resources)
        assert backend._device.used > 0
    gc.collect()
    assert (backend._device.used, resources()) == (0, None)


def test_commits_are_followed(tmp_path, faiss):
    world = World(tmp_path / "c", [500], seed=5, deleted=0)
    with opened(world) as backend:
        compared(world, backend, world.embeddings[:1], 3)
        used = len(backend._first._faiss._norms)
        ones = np.linspace(-1, 1, 3 * 48).reshape(3, 48).astype(np.float16)
        bits, scales = world.catalog.signs.encode(ones.astype(np.float32))
        ids = world.catalog.next_id + np.arange(3)
        codes = np.zeros((3, 8), np.uint8)
        world.catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=ones.__getitem__)
        assert compared(world, backend, ones[1:2].astype(np.float32), 3) == "faiss-gpu/embeddings"
        assert backend.search(ones[1:2].astype(np.float32), 1, tier="embeddings").ids[0, 0] == ids[1]
        assert len(backend._first._faiss._norms) == used + 1
        world.catalog.compact()
        compared(world, backend, world.embeddings[:1], 3)
        names = {segment.folder.name for segment in world.catalog.segments if segment.n}
        assert set(backend._first._faiss._norms) == names


def test_embeddings_that_are_not_resident_are_not_asked_of_faiss(world, faiss):
    whole = MemoryPlan.of(world.catalog, 1 << 40, 1 << 40)
    with opened(world, memory_bytes=whole.needed - whole.parts["embeddings"]) as backend:
        assert backend.search(world.embeddings[:1], 3, tier="embeddings").source == "cpu/embeddings"
        assert backend.first_tier == "bits"
    assert not faiss.calls


# What may be wrong


def test_a_build_that_takes_its_own_norms_is_found_out(world, faiss):
    """All rests on the numbers that are given in place of |x|^2; a trial shows whether they are taken."""
    faiss.ignores_norms = True
    with opened(world) as backend, pytest.raises(DeviceError, match=r"in a test.*--nn kernel"):
        backend.search(world.embeddings[:1], 3, tier="embeddings")


@pytest.mark.parametrize("k", [3, 900])
def test_rows_that_faiss_leaves_out_are_looked_for_by_the_kernels(world, faiss, k):
    faiss.loses = True
    with opened(world) as backend:
        assert compared(world, backend, world.embeddings[:2], k) == "gpu/embeddings"


@pytest.mark.parametrize(
    ("message", "error"),
    [("alloc fail (cudaMalloc error out of memory [2])", DeviceMemoryError), ("CUDA error 700", DeviceError)],
)
def test_what_faiss_raises_is_an_error_of_the_device(world, faiss, message, error):
    with opened(world) as backend:
        backend.search(world.embeddings[:1], 3, tier="embeddings")
        faiss.failing = message
        with pytest.raises(error, match="--nn kernel") as raised:
            backend.search(world.embeddings[:1], 3, tier="embeddings")
        assert type(raised.value) is error


def test_faiss_for_cpus_is_refused_and_nothing_is_lost(world, monkeypatch):
    monkeypatch.setattr("gpubranches.engines.faiss_index._faiss", object)
    with opened(world) as backend:
        for _ in range(2):
            with pytest.raises(BackendUnavailableError, match="GPU build"):
                backend.search(world.embeddings[:1], 3, tier="embeddings")
        assert backend.search(world.embeddings[:1], 3, tier="bits").ids[0, 0] == world.ids[0]


@pytest.mark.parametrize("part", ["norms", "faiss"])
def test_a_lack_of_memory_names_the_cure(world, faiss, part):
    with opened(world) as backend:
        if part == "norms":
            backend._device.memory_bytes = backend._device.used + (512 << 20) + (256 << 20) + 100
        else:
            backend._device.memory_bytes = backend._device.used + (512 << 20)
        with pytest.raises(DeviceMemoryError, match=r"faiss.*--nn kernel"):
            backend.search(world.embeddings[:1], 3, tier="embeddings")
        backend._device.memory_bytes = 1 << 40
        assert backend.search(world.embeddings[:1], 3, tier="embeddings").source == "faiss-gpu/embeddings"


# Which is taken


def test_auto_takes_the_kernels_until_a_card_has_measured(world, faiss, table):
    with opened(world, "auto") as backend:
        assert backend.search(world.embeddings[:1], 3, tier="embeddings").source == "gpu/embeddings"
        told = backend.info()["nearest"]
        assert (told["embeddings"], told["first"]) == ("kernel", "bits")
        assert "not been measured on simulated" in told["why"]
    table(1.0, card="another card")
    with opened(world, "auto") as backend:
        assert "not been measured on simulated" in backend.info()["nearest"]["why"]
        assert backend.search(world.embeddings[:1], 3, tier="embeddings").source == "gpu/embeddings"
    assert not faiss.calls


@pytest.mark.parametrize(("faiss_ms", "engine"), [(1.0, "faiss"), (3.0, "kernel"), (None, "kernel")])
def test_auto_takes_what_was_quicker(world, faiss, table, faiss_ms, engine):
    table(faiss_ms)
    with opened(world, "auto") as backend:
        source = backend.search(world.embeddings[:1], 3, tier="embeddings").source
        assert source == ("faiss-gpu/embeddings" if engine == "faiss" else "gpu/embeddings")
        assert backend.info()["nearest"]["embeddings"] == engine
        assert backend.first_tier == ("embeddings" if engine == "faiss" else "bits")
    with opened(world, "kernel") as backend:
        assert backend.search(world.embeddings[:1], 3, tier="embeddings").source == "gpu/embeddings"


def test_auto_takes_the_kernels_where_faiss_fails_and_says_why(world, table, monkeypatch, caplog):
    monkeypatch.setattr("gpubranches.engines.faiss_index._faiss", object)
    table(1.0)
    with caplog.at_level(logging.WARNING), opened(world, "auto") as backend:
        for _ in range(2):
            assert backend.search(world.embeddings[:1], 3, tier="embeddings").source == "gpu/embeddings"
        assert backend.first_tier == "bits"
    assert len(caplog.records) == 1
    assert "uses the kernels, since" in caplog.text


def test_auto_takes_the_kernels_where_memory_lacks_for_faiss(world, faiss, table, caplog):
    table(1.0)
    with opened(world, "auto") as backend:
        backend._device.memory_bytes = backend._device.used + (512 << 20) + (256 << 20) + 10_000
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert compared(world, backend, world.embeddings[:2], 3) == "gpu/embeddings"
        assert re.search("uses the kernels, since expected .* bytes of free device memory for faiss", caplog.text)
        assert len(caplog.records) == 1
        assert backend.info()["nearest"]["embeddings"] == "kernel"
        assert "faiss cannot be used" in backend.info()["nearest"]["why"]


def test_the_closest_measured_point_decides():
    lines = (
        Line(1_000_000, 10, 1, False, 1.0, 2.0),
        Line(1_000_000, 10, 64, False, 9.0, 2.0),
        Line(100_000_000, 10, 1, False, 3.0, 2.0),
        Line(100_000_000, 10, 1, True, 3.0, 0.1),
    )
    measured = Measured("a card", "abc", "2026-01-01", lines)
    asked = [(900_000, 12, 1), (900_000, 12, 50), (90_000_000, 1, 1), (1 << 40, 1, 1), (1, 1, 1)]
    assert [choose(measured, "a card", RESIDENT, *one)[0] for one in asked] == [
        "kernel",
        "faiss",
        "faiss",
        "faiss",
        "kernel",
    ]
    assert "faiss 2.0 ms, kernels 1.0 ms" in choose(measured, "a card", RESIDENT, *asked[0])[1]
    assert choose(Measured("a card", "", "", lines[3:]), "a card", RESIDENT, 1, 1, 1)[0] == "kernel"
    assert choose(None, "a card", RESIDENT, 1, 1, 1)[0] == "kernel"
    assert choose(measured, "a card", ("codes", "bits"), *asked[1])[0] == "kernel"


def test_what_is_measured_is_what_auto_decides_by(world, faiss, table):
    with opened(world) as backend:
        lines = measure(backend, ks=(5, MOST_NEAREST), batches=(1, 3), repeats=1)
        assert backend.search(world.embeddings[:1], 3, tier="embeddings").ids[0, 0] == world.ids[0]
    assert [(line.k, line.batch, line.filter) for line in lines] == [
        (k, batch, filtered) for k in (5, MOST_NEAREST) for batch in (1, 3) for filtered in (False, True)
    ]
    assert all(line.kernel_ms > 0 and (line.faiss_ms is None) == line.filter for line in lines)
    Measured("simulated", "abc", "2026-01-01", tuple(lines)).write()
    measured = Measured.read()
    assert measured.lines == tuple(lines)
    engine, why = choose(measured, "simulated", RESIDENT, len(world.ids), 5, 1)
    assert engine == ("faiss" if lines[0].faiss_ms < lines[0].kernel_ms else "kernel")
    assert "2026-01-01" in why


def test_what_faiss_does_not_answer_is_not_measured(tmp_path, faiss):
    world = World(tmp_path / "c", [300], seed=4, duplicates=True, deleted=0)
    with opened(world) as backend, pytest.raises(UsageError, match="gpu/embeddings"):
        measure(backend, ks=(5,), batches=(1,), repeats=1)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"card": 1}', json.dumps({"card": "a", "commit": "", "date": "", "lines": [{"rows": 0}]})],
)
def test_another_file_in_place_of_the_table_is_refused(table, content):
    table.path.write_text(content)
    with pytest.raises(DataError, match=r"nearest\.json.*remove it"):
        Measured.read()


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": math.inf},
        {"rows": 10**400},
        {"k": "10"},
        {"batch": True},
        {"filter": "no"},
        {"kernel_ms": 10**400},
        {"kernel_ms": -1},
        {"faiss_ms": math.nan},
    ],
)
def test_a_time_or_size_that_is_none_is_refused(table, changed):
    line = {"rows": 10, "k": 1, "batch": 1, "filter": False, "kernel_ms": 1.0, "faiss_ms": 1.0} | changed
    table.path.write_text(json.dumps({"card": "a", "commit": "", "date": "", "lines": [line]}))
    with pytest.raises(DataError, match=r"nearest\.json.*remove it"):
        Measured.read()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.write_text("[" * 100_000)])
def test_a_table_that_is_no_file_or_nested_too_deeply_is_refused_at_once(table, make):
    make(table.path)
    with pytest.raises(DataError, match=r"nearest\.json.*remove it"):
        Measured.read()


def test_no_card_has_measured_yet():
    """The day one has, this changes with docs/gpu-status.md."""
    assert Measured.read() is None or json.loads(place().read_text())["card"]


def test_the_page_takes_its_first_neighbours_from_where_they_are_exact(world, faiss):
    terms = f"#{world.ids[7]}"
    with opened(world) as backend:
        assert Searcher(world.catalog, backend).search(terms, 5).source == "faiss-gpu/embeddings"
    with opened(world, "kernel") as backend:
        assert Searcher(world.catalog, backend).search(terms, 5).source == "gpu/bits+embeddings"
