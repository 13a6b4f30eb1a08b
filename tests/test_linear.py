import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression as Reference

from gpubranches.errors import ArrayError, NotFittedError
from gpubranches.learning.linear import LogisticRegression


def marks(m=300, dims=40, p=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((m, dims)) * rng.uniform(0.02, 0.3, dims)
    x[:p] += 0.15 * rng.standard_normal(dims)
    return x, np.arange(m) < p


def reference(x, y, C=10.0, balanced=True):
    weight = "balanced" if balanced else None
    return Reference(C=C, class_weight=weight, tol=1e-9, max_iter=20000).fit(x, y)


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(4, 200),
    dims=st.integers(1, 60),
    p=st.integers(1, 30),
    C=st.sampled_from([0.1, 10.0]),
    balanced=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_equals_scikit_learn(m, dims, p, C, balanced, seed):
    x, y = marks(m, dims, min(p, m - 1), seed)
    model = LogisticRegression(C=C, balanced=balanced).fit(x, y)
    expected = reference(x, y, C, balanced)
    assert np.allclose(model.coef_, expected.coef_[0], atol=1e-4)
    assert model.intercept_ == pytest.approx(expected.intercept_[0], abs=1e-4)
    assert np.allclose(model.decision_function(x), expected.decision_function(x), atol=1e-4)


@pytest.mark.parametrize(("m", "dims"), [(300, 40), (60, 200)])
def test_held_out_scores_are_those_of_refits(m, dims):
    x, y = marks(m, dims)
    folds = np.arange(m) % 4
    folds[:20:7] = -1
    model = LogisticRegression().fit(x, y, folds=folds)
    assert np.array_equal(np.isnan(model.held_out_), folds < 0)
    for fold in range(4):
        out = folds == fold
        expected = reference(x[~out], y[~out]).decision_function(x[out])
        assert np.allclose(model.held_out_[out], expected, atol=1e-4)
    alone = LogisticRegression().fit(x, y)
    assert np.array_equal(alone.coef_, model.coef_)
    assert np.isnan(alone.held_out_).all()


def test_labels_may_be_signs_and_rows_float32():
    x, y = marks()
    x32 = x.astype(np.float32)
    one = LogisticRegression().fit(x32, np.where(y, 1, -1))
    assert np.array_equal(one.coef_, LogisticRegression().fit(x32.astype(np.float64), y).coef_)


def test_the_number_of_threads_does_not_change_the_answer():
    from threadpoolctl import threadpool_limits

    x, y = marks(700, 200)
    folds = np.arange(700) % 4
    models = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            models.append(LogisticRegression().fit(x, y, folds=folds))
    assert np.array_equal(models[0].coef_, models[1].coef_)
    assert np.array_equal(models[0].held_out_, models[1].held_out_)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((20, 5)),
        np.ones((20, 5)),
        np.repeat(np.eye(2, 5), 10, axis=0) * 1e4,
        np.repeat(np.eye(2, 5), 10, axis=0) * 1e-8,
    ],
    ids=["zeros", "ones", "huge", "tiny"],
)
def test_degenerate_rows_give_finite_models(x):
    y = np.arange(20) % 10 < 5
    model = LogisticRegression().fit(x, y, folds=np.arange(20) % 4)
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_)
    assert np.isfinite(model.held_out_).all()


def test_equal_rows_labelled_both_ways_give_finite_models():
    x, y = marks(100, 10, 20)
    x[50:70] = x[:20]
    assert np.isfinite(LogisticRegression().fit(x, y).coef_).all()


def test_wrong_input_is_refused():
    x, y = marks()
    with pytest.raises(ArrayError, match="float32 or float64"):
        LogisticRegression().fit(x.astype(np.int64), y)
    with pytest.raises(ArrayError, match="one label per row"):
        LogisticRegression().fit(x, y[:-1])
    with pytest.raises(ArrayError, match="finite"):
        LogisticRegression().fit(np.full_like(x, np.nan), y)
    with pytest.raises(ArrayError, match="both classes"):
        LogisticRegression().fit(x, np.ones(len(x), np.bool_))
    with pytest.raises(ArrayError, match="both classes"):
        LogisticRegression().fit(x, y, folds=np.where(y, 0, 1))
    with pytest.raises(ArrayError, match="folds"):
        LogisticRegression().fit(x, y, folds=np.zeros(3, np.int64))
    with pytest.raises(NotFittedError):
        LogisticRegression().decision_function(x)


def test_rows_may_count_more_within_their_class():
    x, y = marks()
    own = np.where(np.arange(len(y)) % 3 == 0, 5.0, 1.0)
    model = LogisticRegression().fit(x, y, sample_weight=own)
    weights = own * np.where(y, len(y) / (2 * own[y].sum()), len(y) / (2 * own[~y].sum()))
    expected = Reference(C=10.0, tol=1e-9, max_iter=20000).fit(x, y, sample_weight=weights)
    assert np.allclose(model.coef_, expected.coef_[0], atol=1e-4)
    even = LogisticRegression().fit(x, y, sample_weight=np.full(len(y), 3.0))
    assert np.allclose(even.coef_, LogisticRegression().fit(x, y).coef_, atol=1e-6)
    for wrong in (np.ones(3), np.zeros(len(y)), np.full(len(y), np.nan)):
        with pytest.raises(ArrayError, match="sample_weight"):
            LogisticRegression().fit(x, y, sample_weight=wrong)


def without(x, y, own, row, balanced, C=10.0):
    """Return the score of a row by an exact refit without it, the others weighing what they weighed in the full fit."""
    weights = own.copy()
    if balanced:
        half = len(y) / 2
        weights *= np.where(y, half / own[y].sum(), half / own[~y].sum())
    kept = np.arange(len(y)) != row
    model = Reference(C=C, tol=1e-9, max_iter=20000).fit(x[kept], y[kept], sample_weight=weights[kept])
    return model.decision_function(x[row : row + 1])[0]


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize(("m", "dims"), [(120, 12), (40, 90)], ids=["more rows", "more dims"])
@pytest.mark.parametrize("weighted", [False, True])
def test_left_out_scores_are_nearly_those_of_refits_without_the_row(m, dims, balanced, weighted):
    x, y = marks(m, dims, 8)
    own = np.where(np.arange(m) % 3 == 0, 2.0, 0.4) if weighted else np.ones(m)
    model = LogisticRegression(balanced=balanced).fit(x, y, sample_weight=own, left_out=20)
    exact = np.array([without(x, y, own, row, balanced) for row in range(20)])
    seen = model.decision_function(x[:20])
    assert model.left_out_.shape == (20,)
    assert np.abs(model.left_out_ - exact).max() < 0.2 * max(1.0, np.abs(seen - exact).max())
    assert np.abs(model.left_out_ - exact).mean() < 0.2 * np.abs(seen - exact).mean()


@given(m=st.integers(4, 60), dims=st.integers(1, 80), p=st.integers(1, 10), seed=st.integers(0, 99))
def test_without_its_own_mark_an_item_scores_no_better_for_it(m, dims, p, seed):
    x, y = marks(m, dims, min(p, m - 1), seed)
    model = LogisticRegression(balanced=False).fit(x, y, left_out=m)
    seen = model.decision_function(x)
    assert (model.left_out_[y] <= seen[y] + 1e-6).all()
    assert (model.left_out_[~y] >= seen[~y] - 1e-6).all()
    assert np.isfinite(model.left_out_).all()


def test_what_is_left_out_changes_nothing_of_the_model():
    x, y = marks()
    plain, left_out = LogisticRegression().fit(x, y), LogisticRegression().fit(x, y, left_out=7)
    assert np.array_equal(plain.coef_, left_out.coef_)
    assert plain.left_out_.shape == (0,)
    whole = LogisticRegression().fit(x, y, left_out=len(y))
    assert np.allclose(whole.left_out_[:7], left_out.left_out_, atol=1e-12)


@pytest.mark.parametrize("x", [np.zeros((20, 5)), np.ones((20, 5)), np.repeat(np.eye(2, 5), 10, axis=0) * 1e4])
def test_left_out_scores_of_degenerate_rows_are_finite(x):
    model = LogisticRegression(balanced=False).fit(x, np.arange(20) % 10 < 5, left_out=20)
    assert np.isfinite(model.left_out_).all()


def test_the_only_row_of_a_class_may_be_left_out():
    x, y = marks(30, 4, 1)
    model = LogisticRegression(balanced=False).fit(x, y, left_out=3)
    assert np.isfinite(model.left_out_).all()
    assert model.left_out_[0] < model.decision_function(x[:1])[0]
