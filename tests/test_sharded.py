"""A backend over shards answers as one engine over everything does: the same ids, scores and ties, bit for bit."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from cudasim import SimulatedDevice
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import World

from gpubranches import Box, Boxes
from gpubranches.engines.gpu import GpuBackend
from gpubranches.engines.oracle import OracleBackend
from gpubranches.engines.sharded import LocalShard, ShardedBackend
from gpubranches.errors import ShardError, UsageError


def sharded(catalog, count, make=OracleBackend):
    return ShardedBackend(catalog, [LocalShard(make) for _ in range(count)])


@pytest.fixture(scope="module", params=[256, 2])
def world(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("sharded") / "c"
    return World(path, [300, 1, 4097, 260, 0, 700], levels=request.param, seed=3, duplicates=request.param == 2)


def asked(world, backend, seed):
    """Ask one of everything; return the answers as plain lists."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(48).astype(np.float32)
    query = world.codes[int(rng.integers(len(world.codes)))]
    few = rng.choice(world.ids, 30, replace=False)
    flags = np.zeros(world.catalog.n_positions, np.bool_)
    flags[world.catalog.positions(world.ids[rng.random(len(world.ids)) < rng.choice([0.01, 0.5])])] = True
    where = [None, np.packbits(flags, bitorder="little")][int(rng.integers(2))]
    features = rng.choice(8, 2, replace=False).astype(np.int16)
    box = Box(features, np.full(2, rng.integers(0, 100), np.uint8), np.full(2, rng.integers(120, 256), np.uint8))
    boxes = Boxes([box, Box(features[:1], np.zeros(1, np.uint8), np.full(1, 90, np.uint8))], [0, 1])
    k, limit = int(rng.integers(1, 700)), [None, int(rng.integers(0, 400))][int(rng.integers(2))]
    tier = str(rng.choice(["codes", "bits", "embeddings"]))
    own = weights[:8] if tier == "codes" else weights
    answers = [
        *backend.apply_many([boxes, Boxes([], n_estimators=1)], limit=limit, where=where),
        backend.score(own, tier=tier, limit=limit, where=where),
        backend.score(own, tier=tier, ids=few, threshold=0.0),
        backend.score(own, tier=tier, boxes=boxes, limit=limit, where=where),
        backend.search(np.stack([query, world.codes[0]]), k, tier="codes", where=where),
        backend.search(weights[None], k, tier="embeddings", where=where),
        backend.search(np.stack([weights, -weights]), k, tier="bits", where=where),
    ]
    names = ("ids", "total", "votes", "scores", "distances")
    told = [{name: getattr(one, name) for name in names if getattr(one, name, None) is not None} for one in answers]
    return [
        backend.within(boxes, where=where).tobytes(),
        *[[np.asarray(v).tobytes() for v in d.values()] for d in told],
    ]


@given(seed=st.integers(0, 1 << 30), count=st.integers(1, 7))
@settings(max_examples=20)
def test_answers_are_those_of_one_engine(world, seed, count):
    with sharded(world.catalog, count) as parts, OracleBackend(world.catalog) as whole:
        assert asked(world, parts, seed) == asked(world, whole, seed)


def test_answers_of_cards_are_those_of_one_card(world):
    one_by_one = threading.Lock()  # simulated devices share the threads that they simulate

    class Alone(LocalShard):
        def ask(self, *arguments):
            with one_by_one:
                return super().ask(*arguments)

    def make(catalog):
        return GpuBackend(catalog, SimulatedDevice, sample_from=3000)

    with ShardedBackend(world.catalog, [Alone(make), Alone(make)]) as parts, make(world.catalog) as whole:
        assert asked(world, parts, 1) == asked(world, whole, 1)


def test_a_catalog_without_items_is_answered(tmp_path):
    world = World(tmp_path / "c", [])
    with sharded(world.catalog, 2) as backend:
        assert backend.apply(Boxes([], n_estimators=1)).total == 0
        assert backend.search(np.zeros((2, 8), np.uint8), 3, tier="codes").ids.tolist() == [[-1] * 3] * 2
        assert backend.score(np.ones(48, np.float32), tier="bits").total == 0
        assert not backend.within(Boxes([], n_estimators=1)).any()


def test_faiss_is_refused(world):
    with pytest.raises(UsageError, match="nn: expected auto or kernel for a backend over shards"):
        ShardedBackend(world.catalog, [], nn="faiss")


class Watched(LocalShard):
    """A shard that notes what it opened; `fails`: raised in place of the next answers."""

    def __init__(self, make):
        super().__init__(make)
        self.opened, self.asked, self.fails = [], 0, None
        load = self._engine.load
        self._engine.load = lambda state: (self.opened.append(state.key), load(state))

    def ask(self, state, scan, rows, arguments):
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return super().ask(state, scan, rows, arguments)


def test_a_segment_stays_with_its_shard_and_old_questions_are_answered(tmp_path):
    """Over appends, deletions and compactions, also by threads that still read the generation before."""
    world = World(tmp_path / "c", [500, 500, 500, 500], deleted=0)
    shards = [Watched(OracleBackend) for _ in range(2)]
    everything = Boxes([Box(np.zeros(0, np.int16), *np.zeros((2, 0), np.uint8))])
    with ShardedBackend(world.catalog, shards) as backend:
        assert backend.apply(everything).total == 2000
        owners = dict(backend._owners)
        with world.catalog.pinned() as before:
            done = []

            def change():
                world.catalog.delete(world.ids[:7])
                bits, scales = world.catalog.signs.encode(np.ones((300, 48), np.float32))
                ids = world.catalog.next_id + np.arange(300)
                rows = np.ones((300, 48), np.float16)
                world.catalog.append(
                    np.full((300, 8), 9, np.uint8), ids=ids, bits=bits, scales=scales, embeddings=rows.__getitem__
                )
                done.append(backend.apply(everything).total)

            thread = threading.Thread(target=change)
            thread.start()
            thread.join()
            assert done == [2293]
            assert backend.apply(everything).total == before.n == 2000
        assert backend.apply(everything).total == 2293
        assert {name: backend._owners[name] for name in owners} == owners
        assert [state["rows"] for state in backend.shard_states()] in ([1300, 1000], [1000, 1300])
        assert all(len(shard.opened) == len(set(shard.opened)) == 2 for shard in shards)
        world.catalog.compact()
        assert backend.apply(everything).total == 2293


def test_a_question_without_rows_of_a_shard_does_not_reach_it(world):
    shards = [Watched(OracleBackend) for _ in range(3)]
    with ShardedBackend(world.catalog, shards) as backend:
        backend.score(np.ones(48, np.float32), tier="bits", ids=world.ids[:5])
        assert [shard.asked for shard in shards].count(0) == 2
        flags = np.zeros(world.catalog.n_positions // 8, np.uint8)
        flags[0] = 1
        assert backend.search(world.codes[:1], 3, tier="codes", where=flags).ids[0].tolist()[1:] == [-1, -1]
        assert sum(shard.asked for shard in shards) == 2


def test_an_answer_is_never_partial(world):
    """The error of one shard is that of the question; afterwards all is as before."""
    shards = [Watched(OracleBackend) for _ in range(3)]
    boxes = Boxes([Box(np.zeros(0, np.int16), *np.zeros((2, 0), np.uint8))])
    with ShardedBackend(world.catalog, shards) as backend:
        whole = backend.apply(boxes)
        shards[1].fails = ShardError("shard 2 is away")
        for ask in (
            lambda: backend.apply(boxes),
            lambda: backend.within(boxes),
            lambda: backend.search(world.codes[:1], 2, tier="codes"),
            lambda: backend.search(np.ones((1, 48), np.float32), 2, tier="bits"),
            lambda: backend.score(np.ones(48, np.float32), tier="embeddings"),
        ):
            with pytest.raises(ShardError, match="shard 2 is away"):
                ask()
        shards[1].fails = None
        assert backend.apply(boxes).ids.tolist() == whole.ids.tolist()


def test_a_slow_shard_is_shown(world):
    with sharded(world.catalog, 3) as backend:
        for times, seconds in zip(backend._times, (0.01, 0.011, 0.05), strict=True):
            times.add(seconds)
        assert [state["slow"] for state in backend.info()["shards"]] == [False, False, True]
        assert [state["answers"] for state in backend.info()["shards"]] == [1, 1, 1]


def test_users_do_not_wait_for_each_other(world):
    """Questions to one shard run at the same time."""
    both = threading.Barrier(2, timeout=20)

    class Meeting(LocalShard):
        def ask(self, state, scan, rows, arguments):
            both.wait()
            return super().ask(state, scan, rows, arguments)

    found = SimpleNamespace(ids=[])
    with ShardedBackend(world.catalog, [Meeting(OracleBackend)]) as backend:
        ask = lambda: found.ids.append(backend.search(world.codes[:1], 3, tier="codes").ids.tolist())  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found.ids[0] == found.ids[1]
