"""What a question costs in calls of the card: kernels, fills and sorts, transfers, and waits of the host for it."""

import numpy as np
import pytest
from cudasim import SimulatedDevice
from test_device_worker import asked_together
from worlds import World, ordered

from gpubranches.engines.gpu import GpuBackend


class Counting(SimulatedDevice):
    """Counts the transfers to the card, too."""

    sent = 0

    def put(self, array):
        self.sent += 1
        return super().put(array)

    def put_all(self, arrays):
        self.sent += 1
        return [SimulatedDevice.put(self, array) for array in arrays]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("launches") / "c", [9000, 4000], seed=3)


@pytest.fixture(scope="module")
def backend(world):
    with GpuBackend(world.catalog, Counting, sample_from=3000) as opened:
        opened.search(world.codes[:1], 1, tier="codes")
        yield opened


def cost(backend, ask):
    """Return how many launches, waits and transfers to the card a question takes."""
    device = backend._device
    device.launches.clear()
    before = device.waits, device.sent
    ask()
    return len(device.launches), device.waits - before[0], device.sent - before[1]


@pytest.mark.parametrize("k", [1, 10, 100, 1000])
def test_one_search_takes_a_dozen_launches_and_waits_at_most(world, backend, k):
    """With a sample, of few and of many; the only wait is for the answer."""
    launches, waits, sent = cost(backend, lambda: backend.search(world.codes[:1], k, tier="codes"))
    assert "select_cutoff" in backend._device.launches
    assert launches + waits <= 12
    assert (waits, sent <= 6) == (1, True)


@pytest.mark.parametrize(("tier", "d"), [("codes", 8), ("bits", 48)])
@pytest.mark.parametrize("limit", [1, 100, 2000])
def test_so_does_one_linear_model(world, backend, tier, d, limit):
    weights = np.random.default_rng(limit).standard_normal(d).astype(np.float32)
    launches, waits, _ = cost(backend, lambda: backend.score(weights, tier=tier, limit=limit))
    assert launches + waits <= 12
    assert waits == 1


def test_a_search_by_text_is_two_scans(world, backend):
    """The bits of all rows, then the embeddings of the best: a dozen launches, and a wait each."""
    query = np.random.default_rng(1).standard_normal((1, 48)).astype(np.float32)
    launches, waits, _ = cost(backend, lambda: backend.search(query, 50, tier="bits"))
    assert launches <= 12
    assert waits == 2


@pytest.mark.parametrize("limit", [20, 1000])
@pytest.mark.parametrize("users", [1, 2, 64])
def test_ensembles_of_many_users_take_as_few_as_one(world, backend, users, limit):
    """Each user asks alone; all are answered in one pass, one selection and one copy."""
    models = [world.boxes() for _ in range(users)]
    works = [lambda boxes=boxes: backend.apply(boxes, min_votes=2, limit=limit) for boxes in models]
    found = []
    launches, waits, _ = cost(backend, lambda: found.extend(asked_together(backend._worker, works)))
    assert launches + waits <= 16
    assert waits == 1
    assert backend._device.launches.count("boxes") == 1
    for boxes, one in zip(models, found):
        votes = boxes.votes(world.codes)
        rows = np.flatnonzero(votes >= 2)
        expected = rows[ordered(votes[rows].astype(int), world.ids[rows], limit)]
        assert (one.total, one.ids.tolist()) == (len(rows), world.ids[expected].tolist())
        assert one.votes.tolist() == votes[expected].tolist()


@pytest.mark.parametrize("users", [1, 5])
def test_answers_without_a_limit_are_sorted_together(world, backend, users, monkeypatch):
    """Lists too long to be ranked: what was counted, one sort, one copy for all users."""
    monkeypatch.setattr("gpubranches.engines.gpu.selection.RANKED_MOST", 1000)
    models = [world.boxes() for _ in range(users)]
    launches, waits, _ = cost(backend, lambda: backend.apply_many(models))
    assert backend._device.launches.count("order") == 1
    assert launches + waits <= 8
    assert waits == 2


@pytest.mark.parametrize("limits", [(3000, 100, 7), (5000, 4999), (1, 13_000)])
@pytest.mark.parametrize("tier", ["codes", "bits"])
def test_long_and_short_answers_of_one_pass_are_each_the_best(world, backend, monkeypatch, limits, tier):
    monkeypatch.setattr("gpubranches.engines.gpu.selection.RANKED_MOST", 1000)
    rng = np.random.default_rng(5)
    models = [rng.standard_normal(8 if tier == "codes" else 48).astype(np.float32) for _ in limits]

    def ask(i, limit):
        return backend.score(models[i], tier=tier, limit=limit)

    whole = [ask(i, None) for i in range(len(limits))]
    works = [lambda i=i, limit=limit: ask(i, limit) for i, limit in enumerate(limits)]
    backend._device.launches.clear()
    for limit, every, found in zip(limits, whole, asked_together(backend._worker, works)):
        assert found.ids.tolist() == every.ids[:limit].tolist()
        assert found.scores.tolist() == every.scores[:limit].tolist()
        assert found.total == every.total == len(world.ids)
    assert backend._device.launches.count("order") == 1


def test_very_many_ties_take_one_more_round(tmp_path):
    """So many rows are alike that the first digits leave too many of them: all digits are looked at, then."""
    world = World(tmp_path / "c", [9000], levels=1, seed=5)
    weights = np.ones(8, np.float32)
    with GpuBackend(world.catalog, Counting) as backend:
        backend.score(weights, tier="codes", limit=1)
        found = []
        launches, waits, _ = cost(backend, lambda: found.append(backend.score(weights, tier="codes", limit=30)))
        assert waits == 2
        assert launches <= 20
    assert found[0].ids.tolist() == world.ids[ordered(np.zeros(len(world.ids)), world.ids, 30)].tolist()
