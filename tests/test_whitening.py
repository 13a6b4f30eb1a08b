"""Whitening evens out a catalog's spread, the same way every time, and the ranking follows it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import World

from gpubranches.errors import ArrayError, NotFittedError, UsageError
from gpubranches.linear import LogisticRegression
from gpubranches.rescore import Rescorer
from gpubranches.whitening import Whitening, whitening_of


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


def test_a_catalog_has_one_whitening_until_it_changes(tmp_path):
    world = World(tmp_path / "c", [900])
    first = whitening_of(world.catalog)
    assert whitening_of(world.catalog) is first
    world.catalog.delete(world.ids[:100])
    second = whitening_of(world.catalog)
    assert second is not first
    again = type(world.catalog).open(tmp_path / "c")
    assert np.array_equal(whitening_of(again).matrix_, second.matrix_)


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(UsageError, match="rows"):
        Whitening().fit(np.zeros((0, 3), np.float32))
    with pytest.raises(UsageError, match="shrinkage"):
        Whitening(shrinkage=0).fit(spread(5))
    with pytest.raises(ArrayError, match="centred"):
        Whitening().fit(spread(5).astype(float))
    with pytest.raises(NotFittedError):
        Whitening().transform(spread(5))
