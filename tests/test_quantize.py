import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubranches.errors import ArrayError, NotFittedError, UsageError
from gpubranches.quantize import CodeWeights, ScalarQuantizer, SignQuantizer


def vectors(n=300, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_the_range_from_minus_one_to_one_gives_the_codes_of_the_protocol():
    x = np.linspace(-1.2, 1.2, 4801, dtype=np.float32)[:, None]
    codes = ScalarQuantizer(low=-1, high=1).fit(x).encode(x)
    protocol = np.clip(127.5 * x.astype(np.float64) + 128, 0, 255).astype(np.uint8)
    assert np.abs(codes.astype(int) - protocol).max() <= 1
    assert (codes == protocol).mean() > 0.999
    assert codes.min() == 0
    assert codes.max() == 255


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_codes_keep_the_order_and_decode_within_half_a_step(n, d, seed):
    x = vectors(n, d, seed)
    quantizer = ScalarQuantizer().fit(x)
    codes = quantizer.encode(x)
    step = (x.max(axis=0) - x.min(axis=0)) / 255
    if n > 1:
        assert (np.abs(quantizer.decode(codes) - x) <= step * 0.51 + 1e-6).all()
        for j in range(d):
            assert (np.diff(codes[np.argsort(x[:, j]), j].astype(int)) >= 0).all()


def test_a_constant_dim_gets_code_zero():
    x = np.ones((5, 2), np.float32)
    assert (ScalarQuantizer().fit(x).encode(x) == 0).all()


@given(st.sampled_from([4, 31, 32, 33, 64]), st.integers(0, 99))
def test_the_popcount_formula_is_the_dot_of_levels_and_signs(dims, seed):
    x = vectors(50, dims, seed)
    quantizer = SignQuantizer(random_state=seed).fit(x)
    bits, scales = quantizer.encode(x)
    assert bits.shape == (50, quantizer.n_bits // 8)
    assert quantizer.n_bits % 32 == 0
    planes = quantizer.planes(x[0])
    u = sum(np.unpackbits(planes.planes[j], bitorder="little").astype(int) << j for j in range(4))
    signs = 2 * np.unpackbits(bits, axis=1, bitorder="little").astype(int) - 1
    assert planes.total == u.sum()
    assert planes.dots(bits).tolist() == (signs @ (2 * u - 15)).tolist()
    assert planes.scores(bits, scales).dtype == np.float32


def test_the_score_estimates_the_inner_product():
    x = vectors(2000, 128)
    quantizer = SignQuantizer().fit(x)
    bits, scales = quantizer.encode(x)
    planes = quantizer.planes(x[0] - quantizer.mean_)
    exact = (x - quantizer.mean_) @ (x[0] - quantizer.mean_)
    estimate = planes.scores(bits, scales) * np.float32(planes.step)
    assert np.corrcoef(exact, estimate)[0, 1] > 0.78  # the sign's share of a Gaussian, sqrt(2 / pi), less the weights'
    assert abs(np.polyfit(exact, estimate, 1)[0] - 1) < 0.1


def test_the_rotation_keeps_lengths_and_the_zero_vector_scores_zero():
    x = vectors(40, 20)
    quantizer = SignQuantizer().fit(x)
    assert np.allclose(quantizer.rotation_.T @ quantizer.rotation_, np.eye(20), atol=1e-5)
    bits, scales = quantizer.encode(quantizer.mean_[None])
    assert scales[0] == 0
    assert quantizer.planes(np.zeros(20, np.float32)).scores(bits, scales)[0] == 0


def test_code_weights_are_exact_integers():
    codes = np.random.default_rng(0).integers(0, 256, (30, 8)).astype(np.uint8)
    weights = CodeWeights.quantise(vectors(1, 8)[0])
    assert weights.scores(codes).tolist() == [
        float(sum(int(c) * int(w) for c, w in zip(row, weights.weights))) for row in codes
    ]
    assert np.abs(weights.weights.astype(int)).max() == 127
    assert (CodeWeights.quantise(np.zeros(8, np.float32)).weights == 0).all()


def test_wrong_input_is_refused():
    with pytest.raises(NotFittedError, match="fit"):
        ScalarQuantizer().encode(vectors())
    with pytest.raises(NotFittedError, match="fit"):
        SignQuantizer().encode(vectors())
    with pytest.raises(ArrayError, match="float32"):
        ScalarQuantizer().fit(np.zeros((3, 4)))
    with pytest.raises(ArrayError, match="NaN"):
        SignQuantizer().fit(np.full((3, 4), np.nan, np.float32))
    with pytest.raises(UsageError, match="at least one row"):
        ScalarQuantizer().fit(np.zeros((0, 4), np.float32))
    with pytest.raises(UsageError, match="2048"):
        SignQuantizer().fit(np.zeros((1, 2049), np.float32))


def test_an_identity_changes_with_the_constants():
    assert (
        SignQuantizer(random_state=0).fit(vectors()).identity != SignQuantizer(random_state=1).fit(vectors()).identity
    )
    assert ScalarQuantizer().fit(vectors()).identity == ScalarQuantizer().fit(vectors()).identity
