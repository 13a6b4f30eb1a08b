"""One contract suite for all backends: the oracle's NumPy is the definition, every other answer equals it.

With a card, CuPy and NumPy alone its cases marked `gpu` run; those drawn by hypothesis are in test_backends_drawn.py.
"""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from cudasim import SimulatedDevice
from worlds import World, check_bits, check_nearest_codes, check_votes, empty, ordered

from gpubranches import Box, Boxes, Catalog, open_backend
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.engines import BACKENDS
from gpubranches.engines.faiss_index import TEMPORARY_BYTES
from gpubranches.engines.gpu import GpuBackend
from gpubranches.engines.gpu.cupy_device import CupyDevice
from gpubranches.engines.gpu.memory import WORKING_BYTES
from gpubranches.engines.kdtree.files import FOLDER, KdIndex
from gpubranches.engines.sharded import LocalShard, ShardedBackend
from gpubranches.errors import (
    ArrayError,
    BackendUnavailableError,
    CatalogIndexError,
    DeviceError,
    DeviceMemoryError,
    UsageError,
)

SIZES = [0, 1, 127, 128, 129, 500, 4095, 4096, 4097, 8200]


def opened(name, catalog, **options):
    """Open a backend; the gpu backend with its kernels simulated, and samples taken of small catalogs, too.

    Where numba is missing, the case of a backend that needs it is skipped.
    """
    if name in ("cpu", "kdtree"):
        pytest.importorskip("numba")
    if name == "gpu":
        return GpuBackend(catalog, SimulatedDevice, sample_from=3000)
    if name == "cuda":
        return GpuBackend(catalog, CupyDevice, sample_from=3000)
    if name == "sharded":
        pytest.importorskip("numba")
        from gpubranches.engines.cpu.backend import CpuBackend

        return ShardedBackend(catalog, [LocalShard(CpuBackend) for _ in range(3)])
    if name == "ray":
        from rays import over_actors

        return over_actors(catalog)
    if name == "kdtree":
        from gpubranches.engines.kdtree.backend import KdtreeBackend

        index(catalog)
        return KdtreeBackend(catalog, index_only=True)
    return open_backend(name, catalog, **options)


def index(catalog):
    """Build the index of a catalog unless it has one of its present codes."""
    from gpubranches.engines.kdtree.build import build_index

    try:
        KdIndex.open(catalog.path / FOLDER, catalog, "")
    except CatalogIndexError:
        build_index(catalog, threads=1)


NAMES = [*BACKENDS, "sharded", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module", params=SIZES)
def world(request, tmp_path_factory):
    return World(tmp_path_factory.mktemp("world") / "c", [request.param], seed=request.param)


@pytest.fixture(scope="module", params=["stored", "decoded"])
def parts(request, tmp_path_factory):
    if request.param == "decoded":
        pytest.importorskip("safetensors", reason="heads are safetensors")
    decoded = request.param == "decoded"
    return World(tmp_path_factory.mktemp("parts") / "c", [4097, 1, 300, 4096], seed=5, decoded=decoded)


def test_votes_at_every_size(name, world):
    with opened(name, world.catalog) as backend:
        for boxes in (world.boxes(), Boxes([], n_estimators=3), Boxes([Box(*empty())])):
            check_votes(world, backend, boxes, 1, None, None)
            check_votes(world, backend, boxes, 2, 7, 0.5)


def test_many_models_are_each_answered(name, parts):
    models = [parts.boxes(), Boxes([], n_estimators=1), parts.boxes(30, 9)]
    with opened(name, parts.catalog) as backend:
        for boxes, found in zip(models, backend.apply_many(models, min_votes=2), strict=True):
            one = backend.apply(boxes, min_votes=2)
            assert (found.ids.tolist(), found.total) == (one.ids.tolist(), one.total)


def test_more_estimators_than_a_byte_counts(name, parts):
    boxes = Boxes([Box(*empty())] * 300, range(300))
    with opened(name, parts.catalog) as backend:
        found = backend.apply(boxes, min_votes=300)
        assert found.total == len(parts.ids)
        assert set(found.votes.tolist()) == {300}


@pytest.mark.parametrize("d", [4, 100, 1024])
def test_votes_of_boxes_of_no_dim_and_of_many(name, tmp_path, d):
    """Boxes that test up to 256 dims at once, one that tests none, and more votes than there can be."""
    world = World(tmp_path / "c", [4200], d=d, D=32, seed=d, levels=8)
    wide = np.sort(world.rng.choice(d, min(d, 256), replace=False)).astype(np.int16)
    members = [Box(*empty())]
    for row in (3, 1999, 4000):
        code = world.codes[min(row, len(world.codes) - 1), wide]
        members.append(Box(wide, code, code))
        members.append(Box(wide, np.zeros(len(wide), np.uint8), np.full(len(wide), 6, np.uint8)))
    boxes = Boxes(members, range(len(members)))
    with opened(name, world.catalog) as backend:
        for min_votes in (1, 2, 1 << 40):
            check_votes(world, backend, boxes, min_votes, 300, 0.5)


def test_nearest_codes_at_every_size(name, world):
    query = world.rng.integers(0, 256, 8).astype(np.uint8)
    with opened(name, world.catalog) as backend:
        for k in (1, 10, 600):
            check_nearest_codes(world, backend, query, k, None, np.ones(len(world.ids), bool))
            check_nearest_codes(world, backend, query, k, *world.where(0.3))


def test_nearest_codes_prune_nothing_that_belongs(name, tmp_path):
    world = World(tmp_path / "c", [60_000, 9000], d=4, D=32, seed=3)
    with opened(name, world.catalog) as backend:
        for _ in range(4):
            query = world.rng.integers(0, 256, 4).astype(np.uint8)
            check_nearest_codes(world, backend, query, 100, None, np.ones(len(world.ids), bool))


@pytest.mark.parametrize(("levels", "duplicates"), [(2, False), (256, True)])
def test_ties_are_broken_by_the_mixed_id(name, tmp_path, levels, duplicates):
    world = World(tmp_path / "c", [9000, 700], levels=levels, duplicates=duplicates, seed=7)
    with opened(name, world.catalog) as backend:
        check_nearest_codes(world, backend, world.codes[0], 50, None, np.ones(len(world.ids), bool))
        check_votes(world, backend, world.boxes(), 1, 33, None)
        check_bits(world, backend, world.embeddings[0], 40, None, None)


def test_bit_scores_at_every_size(name, world):
    weights = world.rng.standard_normal(48).astype(np.float32)
    with opened(name, world.catalog) as backend:
        check_bits(world, backend, weights, None, None, None)
        check_bits(world, backend, weights, 20, None, 0.5)
        check_bits(world, backend, weights, 20, 0.9, None)


@pytest.mark.parametrize("D", [20, 64, 96, 512])
def test_bit_scores_at_every_width(name, tmp_path, D):
    world = World(tmp_path / "c", [5000], D=D, seed=D)
    with opened(name, world.catalog) as backend:
        check_bits(world, backend, world.embeddings[3], 100, None, None)


def test_code_scores_are_exact(name, parts):
    from gpubranches.encoders.quantizers import CodeWeights

    weights = parts.rng.standard_normal(8).astype(np.float32)
    scores = CodeWeights.quantise(weights).scores(parts.codes)
    expected = ordered(scores, parts.ids, 50)
    with opened(name, parts.catalog) as backend:
        found = backend.score(weights, tier="codes", limit=50)
    assert found.ids.tolist() == parts.ids[expected].tolist()
    assert found.scores.tolist() == scores[expected].tolist()


@pytest.mark.parametrize("tier", ["codes", "bits", "embeddings"])
def test_scores_of_some_ids_equal_those_of_all(name, parts, tier):
    weights = parts.rng.standard_normal(8 if tier == "codes" else 48).astype(np.float32)
    chosen = parts.rng.choice(parts.ids, 200, replace=False)
    deleted = np.setdiff1d(np.arange(parts.catalog.next_id), parts.ids)[:5]
    with opened(name, parts.catalog) as backend:
        every = backend.score(weights, tier=tier)
        some = backend.score(weights, tier=tier, ids=np.concatenate([chosen, deleted]))
    at = np.isin(every.ids, chosen)
    assert some.total == 200
    assert some.ids.tolist() == every.ids[at].tolist()
    assert np.allclose(some.scores, every.scores[at], atol=1e-5)


@pytest.mark.parametrize("tier", ["codes", "bits", "embeddings"])
def test_scores_of_items_in_boxes_equal_those_of_all(name, parts, tier):
    weights = parts.rng.standard_normal(8 if tier == "codes" else 48).astype(np.float32)
    boxes = Boxes([box for box in parts.boxes(9) if len(box.features)])
    inside = parts.ids[boxes.votes(parts.codes) > 0]
    where, within = parts.where(0.5)
    with opened(name, parts.catalog) as backend:
        every = backend.score(weights, tier=tier)
        some = backend.score(weights, tier=tier, boxes=boxes)
        few = backend.score(weights, tier=tier, boxes=boxes, ids=parts.ids[::3], where=where, limit=5)
    at = np.isin(every.ids, inside)
    assert (some.total, some.ids.tolist()) == (len(inside), every.ids[at].tolist())
    at &= np.isin(every.ids, parts.ids[::3]) & np.isin(every.ids, parts.ids[within])
    assert (few.total, few.ids.tolist()) == (at.sum(), every.ids[at][:5].tolist())


def test_items_in_boxes_are_told_as_a_bitmap(name, parts):
    boxes = Boxes([box for box in parts.boxes(9) if len(box.features)])
    held = boxes.votes(parts.codes) > 0
    where, within = parts.where(0.5)
    with opened(name, parts.catalog) as backend:
        inside, some = backend.within(boxes), backend.within(boxes, where=where)
        with pytest.raises(ArrayError, match="where"):
            backend.within(boxes, where=where[:-1])
        with pytest.raises(ArrayError, match="dim"):
            backend.within(Boxes([Box(np.array([99], np.int16), *np.zeros((2, 1), np.uint8))]))
    assert 0 < held.sum() < len(held)
    for bitmap, right in ((inside, held), (some, held & within)):
        assert (bitmap.dtype, bitmap.shape) == (np.uint8, (parts.catalog.n_positions // 8,))
        assert np.array_equal(parts.catalog.inside(parts.ids, bitmap), right)
        assert np.bitwise_count(bitmap).sum() == right.sum()


def test_embedding_scores_are_dots_of_centred_rows(name, parts):
    weights = parts.rng.standard_normal(48).astype(np.float32)
    with opened(name, parts.catalog) as backend:
        found = backend.score(weights, tier="embeddings")
    exact = dict(
        zip(parts.ids.tolist(), (parts.embeddings - parts.catalog.signs.mean_).astype(float) @ weights, strict=True)
    )
    assert np.allclose(found.scores, [exact[i] for i in found.ids.tolist()], atol=1e-4)
    assert found.total == len(parts.ids)


def test_directions_are_found_by_cosine(name, parts):
    centred = parts.embeddings - parts.catalog.signs.mean_
    query = np.random.default_rng(11).standard_normal(48).astype(np.float32)
    cosine = centred @ query / np.linalg.norm(centred, axis=1) / np.linalg.norm(query)
    expected = parts.ids[np.argsort(-cosine)[:20]]
    with opened(name, parts.catalog) as backend:
        exact = backend.search(query[None], 20, tier="embeddings")
        quick = backend.search(query[None], 20, tier="bits")
        where, inside = parts.where(0.2)
        filtered = backend.search(query[None], 20, tier="bits", where=where)
    assert exact.ids[0].tolist() == expected.tolist()
    assert np.allclose(exact.distances[0], 1 - np.sort(cosine)[::-1][:20], atol=1e-5)
    by = parts.catalog.embeddings_source
    scanned = "cpu" if by == "decoded" and backend.name == "gpu" else backend.name  # none lie on the card
    assert (exact.source, quick.source) == (f"{scanned}/{by}", f"{backend.name}/bits+{by}")
    # What is decoded here lies in few dims that a random query lies across, of which bits tell little.
    assert np.isin(quick.ids, expected).mean() > (0.5 if by == "decoded" else 0.9)
    with opened(name, parts.catalog) as backend:
        several = backend.search(np.stack([query, -query, query]), 20, tier="bits")
        assert several.ids[0].tolist() == several.ids[2].tolist() == quick.ids[0].tolist()
        assert several.ids[1].tolist() == backend.search(-query[None], 20, tier="bits").ids[0].tolist()
    assert np.isin(filtered.ids, parts.ids[inside]).all()


def test_commits_are_seen_on_the_next_call(name, tmp_path):
    world = World(tmp_path / "c", [300], deleted=0)
    everything = Boxes([Box(*empty())])
    with opened(name, world.catalog) as backend:
        assert backend.apply(everything).total == 300
        world.catalog.delete(world.ids[:10])
        assert backend.apply(everything).total == 290
        codes = np.full((2, 8), 9, np.uint8)
        bits, scales = world.catalog.signs.encode(np.ones((2, 48), np.float32))
        ids = world.catalog.next_id + np.arange(2)
        ones = np.ones((2, 48), np.float16)
        world.catalog.append(codes, ids=ids, bits=bits, scales=scales, embeddings=ones.__getitem__)
        if name == "kdtree":
            with pytest.raises(CatalogIndexError, match="stale"):
                backend.apply(everything)
            index(world.catalog)
        assert backend.apply(everything).total == 292
        assert set(backend.search(codes[:1], 2, tier="codes").ids[0]) == set(ids.tolist())


def test_faiss_finds_the_same_distances(tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed")
    world = World(tmp_path / "c", [4097, 1, 300], seed=6)
    query = world.rng.integers(0, 256, (3, 8)).astype(np.uint8)
    with opened("cpu", world.catalog, nn="faiss") as indexed, opened("cpu", world.catalog) as scan:
        # Rows are deleted here, which the index does not know: the scan answers, and the source says so.
        assert indexed.search(query, 10, tier="codes").source == "cpu/codes"
        world.catalog.compact()
        found = indexed.search(query, 10, tier="codes")
        assert found.source.startswith("faiss")
        assert np.array_equal(found.distances, scan.search(query, 10, tier="codes").distances)


class FakeGpuFaiss:
    """The names of a GPU build of faiss over the flat index of the CPU build."""

    def __init__(self, faiss):
        self.faiss = faiss
        self.GpuIndexFlatConfig = SimpleNamespace
        self.StandardGpuResources = lambda: SimpleNamespace(setTempMemory=lambda size: None)
        self.failing = None

    def GpuIndexFlatL2(self, resources, d, config):
        assert config.useFloat16
        if self.failing:
            raise RuntimeError(self.failing)
        return self.faiss.IndexFlatL2(d)


@pytest.fixture
def gpu_faiss(monkeypatch):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    fake = FakeGpuFaiss(faiss)
    monkeypatch.setattr("gpubranches.engines.faiss_index._faiss", lambda: fake)
    return fake


def indexed_gpu(catalog, memory_bytes):
    return GpuBackend(catalog, lambda: SimulatedDevice(memory_bytes=memory_bytes), nn="faiss", sample_from=3000)


def test_faiss_on_the_card_answers_what_it_can(tmp_path, gpu_faiss):
    world = World(tmp_path / "c", [5000], deleted=0)
    query = world.codes[:2]
    with indexed_gpu(world.catalog, 1 << 40) as backend, opened("cpu", world.catalog) as exact:
        found, true = (own.search(query, 10, tier="codes") for own in (backend, exact))
        assert found.source == "faiss-gpu/codes flat float16"
        assert np.array_equal(found.distances, true.distances)
        assert backend.search(query, 2049, tier="codes").source == "gpu/codes"
        assert backend.search(query, 3, tier="codes", where=world.where(0.5)[0]).source == "gpu/codes"


def test_faiss_is_given_room_for_two_copies_of_the_codes(tmp_path, gpu_faiss):
    """faiss allocates a larger index for each block of rows, and frees the previous one after the copy."""
    world = World(tmp_path / "c", [5000], d=32, deleted=0)
    needed = 2 * 5000 * (2 * 32 + 4) + TEMPORARY_BYTES
    with indexed_gpu(world.catalog, 1 << 40) as backend:
        assert backend.info()["memory"]["faiss"] == needed
        backend._device.memory = lambda: (WORKING_BYTES + needed - 1, 1 << 40)
        with pytest.raises(DeviceMemoryError, match=f"expected {needed:,} bytes.*--nn kernel"):
            backend.search(world.codes[:1], 10, tier="codes")
        backend._device.memory = lambda: (WORKING_BYTES + needed, 1 << 40)
        assert backend.search(world.codes[:1], 10, tier="codes").source == "faiss-gpu/codes flat float16"


def test_an_index_is_freed_before_the_next_one_is_built(tmp_path, gpu_faiss):
    world = World(tmp_path / "c", [100, 200], deleted=0)
    alive = []
    with indexed_gpu(world.catalog, 1 << 40) as backend:
        backend.search(world.codes[:1], 10, tier="codes")
        first, build = weakref.ref(backend._index), backend._build_index
        backend._build_index = lambda: (alive.append(first() is not None), build())[1]
        world.catalog.delete(world.ids[:1])
        world.catalog.compact()
        assert backend.search(world.codes[:1], 10, tier="codes").source.startswith("faiss-gpu")
    assert alive == [False]


@pytest.mark.parametrize(
    ("message", "error"),
    [("alloc fail (cudaMalloc error out of memory [2])", DeviceMemoryError), ("CUDA error 700", DeviceError)],
)
def test_what_faiss_raises_is_an_error_of_the_device(tmp_path, gpu_faiss, message, error):
    world = World(tmp_path / "c", [100], deleted=0)
    gpu_faiss.failing = message
    with indexed_gpu(world.catalog, 1 << 40) as backend:
        with pytest.raises(error, match="--nn kernel") as raised:
            backend.search(world.codes[:1], 10, tier="codes")
        assert type(raised.value) is error


def test_faiss_for_cpus_is_refused_on_the_card(tmp_path):
    pytest.importorskip("faiss", reason="faiss is not installed")
    world = World(tmp_path / "c", [100], deleted=0)
    with indexed_gpu(world.catalog, 1 << 40) as backend, pytest.raises(BackendUnavailableError, match="GPU build"):
        backend.search(world.codes[:1], 10, tier="codes")


def test_wrong_requests_are_refused(name, parts):
    with opened(name, parts.catalog) as backend:
        with pytest.raises(UsageError, match="uint8"):
            backend.search(np.zeros((1, 8), np.float32), 5, tier="codes")
        with pytest.raises(UsageError, match="k:"):
            backend.search(np.zeros((1, 8), np.uint8), 0, tier="codes")
        with pytest.raises(UsageError, match="where"):
            backend.apply(Boxes([]), where=np.zeros(3, np.uint8))
        with pytest.raises(UsageError, match="min_votes"):
            backend.apply(Boxes([]), min_votes=0)
        with pytest.raises(UsageError, match="NaN"):
            backend.score(np.full(48, np.nan, np.float32), tier="bits")
        with pytest.raises(UsageError, match="dims 0"):
            backend.apply(Boxes([Box(np.array([8], np.int16), *[np.zeros(1, np.uint8)] * 2)]))
    with pytest.raises(UsageError, match="oracle"):
        open_backend("quantum", parts.catalog)


def test_a_missing_tier_is_refused(name, tmp_path):
    bare = Catalog.create(tmp_path / "c", space=EmbeddingSpace(), d=8)
    bare.append(np.zeros((5, 8), np.uint8), ids=np.arange(5))
    with opened(name, bare) as backend:
        assert backend.search(np.zeros((1, 8), np.uint8), 3, tier="codes").ids.shape == (1, 3)
        with pytest.raises(UsageError, match="codes only"):
            backend.search(np.zeros((1, 0), np.float32), 3, tier="bits")
        with pytest.raises(UsageError, match="codes only"):
            backend.score(np.zeros(0, np.float32), tier="embeddings")
