"""Whitening evens out a catalog's spread, the same way every time, and the ranking follows it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import World

from gpubranches.core.whitening import ROUNDS, Whitening, local_whitening
from gpubranches.errors import ArrayError, NotFittedError, UsageError
from gpubranches.learning.linear import LogisticRegression
from gpubranches.retrieval.catalog_statistics import embedding_statistics
from gpubranches.retrieval.rescore import Rescorer


def spread(n=3000, D=24, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, D)) * np.geomspace(10, 0.1, D)).astype(np.float32)


def test_wide_directions_count_less_and_lengths_stay():
    x = spread()
    z = Whitening().fit(x).transform(x)
    before, after = np.linalg.svd(x, compute_uv=False), np.linalg.svd(z, compute_uv=False)
    assert after[0] / after[5] < 0.7 * before[0] / before[5]
    assert np.isclose((z.astype(float) ** 2).sum(), (x.astype(float) ** 2).sum(), rtol=1e-3)


def test_without_shrinkage_to_speak_of_all_directions_are_alike():
    x = spread()
    values = np.linalg.svd(Whitening(shrinkage=1e-9).fit(x).transform(x), compute_uv=False)
    assert values[0] / values[-1] < 1.05


@given(st.integers(1, 40), st.integers(1, 12))
def test_any_number_of_rows_will_do(n, D):
    x = spread(n, D, seed=n)
    fitted = Whitening().fit(x)
    assert np.isfinite(fitted.matrix_).all()
    assert np.allclose(fitted.matrix_, fitted.matrix_.T, atol=1e-4)
    assert np.isfinite(Whitening().fit(np.zeros((n, D), np.float32)).matrix_).all()


def test_weights_of_the_rescorer_are_over_plain_embeddings():
    x = spread(400)
    mean = np.full(24, 0.5, np.float32)
    whitening = Whitening().fit(x)
    fitted = Rescorer().fit(x[:20] + mean, x[20:] + mean, mean, whitening)
    model = LogisticRegression(C=10.0).fit(whitening.transform(x), np.arange(400) < 20)
    scores = x @ fitted.weights_ + fitted.intercept_
    assert np.allclose(scores, model.decision_function(whitening.transform(x)), atol=1e-3)


def test_a_catalog_has_one_spread_until_it_changes(tmp_path):
    world = World(tmp_path / "c", [900])
    first = embedding_statistics(world.catalog)
    assert embedding_statistics(world.catalog) is first
    world.catalog.delete(world.ids[:100])
    second = embedding_statistics(world.catalog)
    assert second is not first
    again = type(world.catalog).open(tmp_path / "c")
    for one, other in zip(embedding_statistics(again), second, strict=True):
        assert np.array_equal(one.matrix_, other.matrix_)


def test_threads_that_ask_at_once_learn_it_once(tmp_path, monkeypatch):
    world, learnt = World(tmp_path / "c", [900]), []
    fit = Whitening.fit
    monkeypatch.setattr(Whitening, "fit", lambda *given: learnt.append(1) or fit(*given))
    with ThreadPoolExecutor(4) as pool:
        spreads = list(pool.map(lambda _: embedding_statistics(world.catalog), range(8)))
    assert all(spread is spreads[0] for spread in spreads)
    assert len(learnt) == 1 + ROUNDS


def test_after_the_local_whitening_more_neighbours_belong_together():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 25)
    middles = np.hstack([rng.standard_normal((60, 12)), np.zeros((60, 20))])
    noise = rng.standard_normal((1500, 32)) * np.repeat([0.5, 3.0], [12, 20])
    x = (middles[groups] + noise).astype(np.float32)
    x -= x.mean(axis=0)

    def together(vectors):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -2)
        return (groups[cosines.argmax(axis=1)] == groups).mean()

    overall = Whitening().fit(x)
    plain, even, local = together(x), together(overall.transform(x)), together(local_whitening(x, overall).transform(x))
    assert plain < even < local


def test_the_local_whitening_does_not_depend_on_the_cores(monkeypatch):
    x = spread(700)
    start = Whitening().fit(x)
    matrices = []
    for cores in (1, 7):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        matrices.append(local_whitening(x, start).matrix_)
    assert np.array_equal(*matrices)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_or_equal_rows_have_a_local_whitening(n):
    for x in (spread(n), np.ones((n, 5), np.float32), np.zeros((n, 5), np.float32)):
        assert np.isfinite(local_whitening(x, Whitening().fit(x)).matrix_).all()


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(UsageError, match="rows"):
        Whitening().fit(np.zeros((0, 3), np.float32))
    with pytest.raises(UsageError, match="shrinkage"):
        Whitening(shrinkage=0).fit(spread(5))
    with pytest.raises(ArrayError, match="centred"):
        Whitening().fit(spread(5).astype(float))
    with pytest.raises(ArrayError, match="differences"):
        Whitening().fit(spread(5), spread(5, D=3))
    with pytest.raises(NotFittedError):
        Whitening().transform(spread(5))
