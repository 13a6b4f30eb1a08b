import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubranches.encoders.quantizers import QUANTILE, CodeWeights, ScalarQuantizer, SignQuantizer, scalar_quantizer
from gpubranches.errors import ArrayError, NotFittedError, UsageError


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


@pytest.mark.parametrize("name", ["uniform", "quantile"])
def test_a_constant_dim_gets_code_zero_and_decodes_to_its_value(name):
    x = np.full((5, 2), 3, np.float32)
    quantizer = scalar_quantizer(name).fit(x)
    assert (quantizer.encode(x) == 0).all()
    assert (quantizer.encode(x + 9) == 0).all()
    assert (quantizer.decode(quantizer.encode(x)) == 3).all()


def test_the_quantile_range_leaves_a_share_of_the_sample_beyond_each_end():
    x = vectors(4000, 3)
    quantizer = scalar_quantizer("quantile").fit(x)
    ordered = np.sort(x.astype(np.float64), axis=0)
    at = QUANTILE * (len(x) - 1)
    for ends, rows in ((quantizer.low_, ordered), (quantizer.high_, ordered[::-1])):
        low = rows[int(at)] + (at - int(at)) * (rows[int(at) + 1] - rows[int(at)])
        assert np.allclose(ends, low, atol=1e-6)
    codes = quantizer.encode(x)
    beyond = (x < quantizer.low_).sum(axis=0)
    assert beyond.tolist() == [4, 4, 4]
    assert (codes[x < quantizer.low_] == 0).all()
    assert (codes[x > quantizer.high_] == 255).all()
    assert scalar_quantizer("uniform", (-1, 1)).fit(x).low_.tolist() == [-1] * 3
    assert scalar_quantizer("uniform").fit(x).low_.tolist() == ordered[0].astype(np.float32).tolist()


def test_one_far_value_costs_the_others_no_codes():
    x = vectors(5000, 1)
    x[7] = 1e6
    assert len(np.unique(scalar_quantizer("quantile").fit(x).encode(x))) > 200
    assert len(np.unique(scalar_quantizer("uniform").fit(x).encode(x))) == 2


def test_a_dim_that_is_mostly_one_value_keeps_its_range():
    x = np.zeros((5000, 2), np.float32)
    x[:3, 0], x[3, 1] = 5, -2
    quantizer = scalar_quantizer("quantile").fit(x)
    assert (quantizer.low_.tolist(), quantizer.high_.tolist()) == ([0, -2], [5, 0])


ranges = st.sampled_from(
    [{}, {"low": -1.0, "high": 1.0}, {"quantile": 0.0}, {"quantile": QUANTILE}, {"quantile": 0.1}, {"quantile": 0.4}]
)
numbers = st.floats(-1e6, 1e6, width=32)


@given(st.lists(numbers, min_size=1, max_size=40), st.lists(numbers, min_size=1, max_size=20), ranges)
def test_codes_of_any_range_keep_the_order_and_decode_within_half_a_step(sample, more, options):
    quantizer = ScalarQuantizer(**options).fit(np.array(sample, np.float32)[:, None])
    x = np.sort(np.array(sample + more, np.float32))[:, None]
    codes = quantizer.encode(x)
    low, high = quantizer.low_[0], quantizer.high_[0]
    assert (np.diff(codes[:, 0].astype(int)) >= 0).all()
    inside = (x >= low) & (x <= high)
    half = (float(high) - float(low)) / 255 / 2
    rounding = 1e-6 * max(abs(float(low)), abs(float(high))) + 1e-35
    assert (np.abs(quantizer.decode(codes).astype(float) - x) <= half * 1.001 + rounding)[inside].all()
    if high - low > 1e-30:  # a range that is not taken for a constant
        assert (codes[x < low] == 0).all()
        assert (codes[x > high] == 255).all()


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
        float(sum(int(c) * int(w) for c, w in zip(row, weights.weights, strict=True))) for row in codes
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
    with pytest.raises(ArrayError, match="NaN"):
        scalar_quantizer("quantile").fit(np.full((3, 4), np.nan, np.float32))
    with pytest.raises(ArrayError, match="NaN"):
        scalar_quantizer("quantile").fit(vectors()).encode(np.full((3, 8), np.nan, np.float32))
    for options in ({"quantile": 0.5}, {"quantile": -0.1}, {"quantile": 0.1, "low": 0.0}):
        with pytest.raises(UsageError, match="quantile: expected 0 or more"):
            ScalarQuantizer(**options).fit(vectors())
    with pytest.raises(UsageError, match="expected one of uniform, quantile, got 'cubic'"):
        scalar_quantizer("cubic")
    with pytest.raises(UsageError, match="2048"):
        SignQuantizer().fit(np.zeros((1, 2049), np.float32))


def test_an_identity_changes_with_the_constants():
    assert (
        SignQuantizer(random_state=0).fit(vectors()).identity != SignQuantizer(random_state=1).fit(vectors()).identity
    )
    assert ScalarQuantizer().fit(vectors()).identity == ScalarQuantizer().fit(vectors()).identity
