import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpubranches.errors import ArrayError, NotFittedError, UsageError
from gpubranches.learning.propagation import Diffusion


def two_groups(seed=0, each=60, dims=16):
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.standard_normal((2, dims)), each, axis=0)
    return (centres + 0.4 * rng.standard_normal(centres.shape)).astype(np.float32)


def plain(vectors, scores, model):
    """The definition, row by row."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    graph = np.zeros_like(cosines)
    for row, near in enumerate(np.argsort(-cosines, axis=1)[:, : model.n_neighbors]):
        graph[row, near] = np.maximum(cosines[row, near], 1e-3) ** model.sharpness
    graph += graph.T
    walk = graph / graph.sum(axis=1, keepdims=True)
    found = scores.astype(np.float64)
    for _ in range(model.steps):
        found = (1 - model.share) * scores + model.share * walk @ found
    return found


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), neighbors=st.integers(1, 20), share=st.sampled_from([0.0, 0.3, 0.9]))
def test_it_is_its_definition(seed, neighbors, share):
    vectors = two_groups(seed, each=20)
    scores = np.random.default_rng(seed).standard_normal(40).astype(np.float32)
    model = Diffusion(n_neighbors=neighbors, share=share).fit(vectors)
    assert np.allclose(model.propagate(scores), plain(vectors, scores, model), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(scores=arrays(np.float32, 40, elements=st.floats(-100, 100, width=32)))
def test_scores_keep_their_unit(scores):
    spread = Diffusion().fit(two_groups(each=20)).propagate(scores)
    assert spread.min() >= scores.min() - 1e-3
    assert spread.max() <= scores.max() + 1e-3


def test_a_group_that_the_scores_reach_the_edge_of_rises_whole():
    vectors = two_groups()
    scores = np.zeros(120, np.float32)
    scores[:15] = 1
    spread = Diffusion().fit(vectors).propagate(scores)
    assert spread[15:60].min() > spread[60:].max()


def test_columns_are_spread_as_they_are_alone():
    model = Diffusion().fit(two_groups())
    columns = np.random.default_rng(1).standard_normal((120, 3)).astype(np.float32)
    together = model.propagate(columns)
    for i in range(3):
        assert np.allclose(together[:, i], model.propagate(columns[:, i]), atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_vectors(n):
    scores = np.arange(n, dtype=np.float32)
    spread = Diffusion().fit(two_groups()[:n]).propagate(scores)
    assert spread.shape == (n,)
    assert np.isfinite(spread).all()


def test_equal_and_zero_vectors_have_neighbours_too():
    for vectors in (np.ones((30, 4), np.float32), np.zeros((30, 4), np.float32)):
        assert np.isfinite(Diffusion().fit(vectors).propagate(np.arange(30, dtype=np.float32))).all()


def test_wrong_input_is_refused():
    vectors = two_groups()
    with pytest.raises(NotFittedError):
        Diffusion().propagate(np.zeros(3, np.float32))
    with pytest.raises(ArrayError, match="scores"):
        Diffusion().fit(vectors).propagate(np.zeros(3, np.float32))
    with pytest.raises(ArrayError, match="vectors"):
        Diffusion().fit(vectors.astype(np.float64))
    for options in ({"n_neighbors": 0}, {"share": 1.0}):
        with pytest.raises(UsageError):
            Diffusion(**options).fit(vectors)
