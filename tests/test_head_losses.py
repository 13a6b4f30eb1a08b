"""Each loss against its formula in plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubranches.encoders.heads import losses

torch = pytest.importorskip("torch")


def unit_rows(rng, count, d):
    rows = rng.standard_normal((count, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def log_softmax(rows):
    rows = rows - rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


sizes = given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 9), d=st.integers(2, 6))


@sizes
@settings(max_examples=30, deadline=None)
def test_the_contrastive_loss_is_the_mean_cross_entropy_both_ways(seed, count, d):
    rng = np.random.default_rng(seed)
    images, texts = unit_rows(rng, count, d), unit_rows(rng, count, d)
    logits = 3.0 * images @ texts.T
    expected = -(np.diag(log_softmax(logits)).mean() + np.diag(log_softmax(logits.T)).mean()) / 2
    got = losses.contrastive(torch.from_numpy(images), torch.from_numpy(texts), torch.tensor(3.0))
    assert float(got) == pytest.approx(expected, abs=1e-9)


@sizes
@settings(max_examples=30, deadline=None)
def test_koleo_is_minus_the_mean_log_distance_to_the_nearest_other(seed, count, d):
    vectors = unit_rows(np.random.default_rng(seed), count, d)
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    expected = -np.log(apart.min(axis=1) + 1e-8).mean()
    assert float(losses.koleo(torch.from_numpy(vectors))) == pytest.approx(expected, abs=1e-6)


def test_koleo_pushes_the_nearest_apart():
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]]), dim=1)
    vectors.requires_grad_()
    losses.koleo(vectors).backward()
    apart = (vectors[1] - vectors[0]).detach()
    assert float(vectors.grad[1] @ apart) < 0
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    losses.koleo(same).backward()
    assert torch.isfinite(same.grad).all()


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(3, 9), own=st.booleans())
@settings(max_examples=30, deadline=None)
def test_distillation_is_the_divergence_of_the_two_rankings(seed, count, own):
    rng = np.random.default_rng(seed)
    queries, items = unit_rows(rng, count - 1, 4), unit_rows(rng, count, 4)
    likeness = rng.uniform(-1, 1, (count - 1, count))
    wanted, had = likeness / 0.1, 5.0 * queries @ items.T
    if own:
        keep = ~np.eye(count - 1, count, dtype=bool)
        wanted, had = (rows[keep].reshape(count - 1, count - 1) for rows in (wanted, had))
    p, q = log_softmax(wanted), log_softmax(had)
    rows = [torch.from_numpy(part) for part in (queries, items, likeness)]
    got = losses.distillation(*rows, scale=5.0, temperature=0.1, own=own)
    assert float(got) == pytest.approx((np.exp(p) * (p - q)).sum(axis=1).mean(), abs=1e-7)
    assert float(got) >= -1e-9
