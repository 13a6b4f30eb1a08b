"""Each vector instruction written as LLVM IR computes what a line of NumPy says."""

import numpy as np
import pytest
from numba import njit

from gpubranches.engines.cpu import vectors

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, 4096, dtype=np.uint8)


def compiled(instruction):
    @njit
    def run(*args):
        return instruction(*args)

    return run


def bits_of(word, count):
    return [(int(word) >> i) & 1 == 1 for i in range(count)]


@pytest.mark.parametrize(("low", "span"), [(0, 255), (0, 0), (200, 55), (17, 100), (255, 0)])
def test_inside64_marks_bytes_within_an_interval(low, span):
    run = compiled(vectors.inside64)
    for offset in (0, 1, 63, 4096 - 64):
        rows = BYTES[offset : offset + 64].astype(int)
        word = run(BYTES, offset, np.uint8(low), np.uint8(span))
        assert bits_of(word, 64) == ((rows >= low) & (rows <= low + span)).tolist()


def test_at_least32_and_at_most32_compare_bytes():
    least = compiled(vectors.at_least32)
    most = compiled(vectors.at_most32)
    for bound in (0, 1, 127, 128, 255):
        rows = BYTES[5:37]
        assert bits_of(least(BYTES, 5, np.uint8(bound)), 64) == [*(rows >= bound).tolist(), *[False] * 32]
        assert bits_of(most(BYTES, 5, np.uint8(bound)), 64) == [*(rows <= bound).tolist(), *[False] * 32]


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 3), (2, 2)])
def test_box_rows128_tests_all_ranges_of_a_box(start, stop):
    run = compiled(vectors.box_rows128)
    stride = 700
    features, low, high = np.int16([4, 0, 3, 1]), np.uint8([0, 30, 255, 128]), np.uint8([255, 210, 255, 250])
    codes = RNG.integers(0, 256, 5 * stride, dtype=np.uint8)
    codes[3 * stride :: 2] = 255
    rows = codes.reshape(5, stride)[features[start:stop], 9 : 9 + 128]
    inside = (rows >= low[start:stop, None]) & (rows <= high[start:stop, None])
    words = run(codes, 9, stride, features, low, high, start, stop)
    assert [bit for word in words for bit in bits_of(word, 64)] == inside.all(axis=0).tolist()


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (1, 2), (2, 2)])
def test_box_zones32_compares_the_bounds_of_zones(start, stop):
    run = compiled(vectors.box_zones32)
    features, low, high = np.int16([5, 0, 2]), np.uint8([90, 0, 40]), np.uint8([160, 255, 255])
    zones = np.sort(RNG.integers(0, 256, (2, 6, 32), dtype=np.uint8), axis=0)
    zones[:, 5, 0], zones[:, 5, 1] = (90, 160), (89, 161)
    smallest, largest = zones[:, features[start:stop]]
    least, most = low[start:stop, None], high[start:stop, None]
    flat = np.concatenate([np.zeros(7, np.uint8), zones.reshape(-1)])
    touched, whole = run(flat, 7, 6, features, low, high, start, stop)
    assert bits_of(touched, 32) == ((smallest <= most) & (largest >= least)).all(axis=0).tolist()
    assert bits_of(whole, 32) == ((smallest >= least) & (largest <= most)).all(axis=0).tolist()
    assert touched >> 32 == whole >> 32 == 0


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_reach64_compares_numbers(dtype):
    run = compiled(vectors.reach64)
    numbers = RNG.integers(-40_000, 40_000, 100).astype(dtype)
    if dtype == np.float32:
        numbers[::7] = np.nan
    for bound in (dtype(5), numbers[3], numbers[80]):
        assert bits_of(run(numbers, 9, bound), 64) == (numbers[9:73] >= bound).tolist()


def test_count64_adds_the_bits_of_a_word():
    run = compiled(vectors.count64)
    counts = RNG.integers(0, 60_000, 200).astype(np.uint16)
    word = int(RNG.integers(0, 1 << 63)) | 1 << 63
    expected = counts.copy()
    expected[11:75] += np.array(bits_of(word, 64), np.uint16)
    run(counts, 11, np.uint64(word))
    assert np.array_equal(counts, expected)


def test_fetch_changes_nothing():
    run = compiled(vectors.fetch)
    before = BYTES.copy()
    assert run(BYTES, 70) is None
    assert np.array_equal(BYTES, before)


def test_lowest_bit_and_popcount_read_a_word():
    run = njit(lambda word: (vectors.lowest_bit(word), vectors.popcount(word)))
    for word in (1, 1 << 63, 0xF0, (1 << 64) - 1, 0xDEADBEEF00):
        lowest = (word & -word).bit_length() - 1
        assert run(np.uint64(word)) == (lowest, word.bit_count())


@pytest.mark.parametrize(("dtype", "width"), [(np.uint64, 1), (np.uint64, 6), (np.uint64, 12), (np.uint32, 3)])
def test_differences4_weighs_the_bits_that_differ_from_four_planes(dtype, width):
    run = compiled(vectors.differences4)
    bits = RNG.integers(0, np.iinfo(dtype).max, 9 * width, dtype=dtype, endpoint=True)
    planes = RNG.integers(0, np.iinfo(dtype).max, (4, width), dtype=dtype, endpoint=True)
    for first in (0, 5):
        rows = bits.reshape(9, width)[first : first + 4]
        sums = [sum(int(np.bitwise_count(row ^ plane).sum()) << j for j, plane in enumerate(planes)) for row in rows]
        word = int(run(bits, first * width, tuple(tuple(plane) for plane in planes)))
        assert [(word >> (16 * i)) & 0xFFFF for i in range(4)] == sums


@pytest.mark.parametrize("d", [4, 8, 32])
def test_zone_squares_and_zone_dots_are_exact(d):
    stride = 300
    codes = RNG.integers(0, 256, d * stride, dtype=np.uint8)
    codes[:128], codes[stride : stride + 128] = 255, 0
    squares = compiled(vectors.zone_squares)
    dots = compiled(vectors.zone_dots)
    rows = codes.reshape(d, stride)[:, 3 : 3 + 128].astype(np.int64)
    query, weights = RNG.integers(0, 256, d).astype(np.int16), RNG.integers(-127, 128, d).astype(np.int16)
    query[0], weights[0] = 0, -127
    out = np.empty(128, np.int32)
    squares(codes, 3, 3, stride, query, out)
    assert np.array_equal(out, -((rows - query[:, None]) ** 2).sum(axis=0))
    dots(codes, 3, 3, stride, weights, out)
    assert np.array_equal(out, (rows * weights[:, None]).sum(axis=0))
