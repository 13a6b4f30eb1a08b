import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpubranches.encoders.holdout import HELD_OUT, split


@given(st.sets(st.integers(0, 2**40), max_size=300))
def test_every_row_is_in_one_part(ids):
    parts = split(np.array(sorted(ids), np.int64))
    rows = np.concatenate([parts.fit, parts.validation, parts.test])
    assert np.array_equal(np.sort(rows), np.arange(len(ids)))
    assert len(parts.test) == len(parts.validation) == len(ids) // 20


def test_no_more_is_held_out_than_is_needed():
    parts = split(np.arange(100_000))
    assert len(parts.test) == len(parts.validation) == HELD_OUT


@given(st.permutations(range(200)))
def test_the_items_held_out_do_not_depend_on_their_order(order):
    ids = np.array(order, np.int64)
    assert set(ids[split(ids).test]) == set(split(np.arange(200)).test)
    assert set(ids[split(ids).validation]) == set(split(np.arange(200)).validation)
