import json

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Box, Boxes
from gpubranches.errors import ArrayError, UsageError


def box(features, low, high):
    return Box(np.array(features, np.int16), np.array(low, np.uint8), np.array(high, np.uint8))


@st.composite
def boxes(draw, d=4):
    count = draw(st.integers(0, 6))
    members = []
    for _ in range(count):
        features = draw(st.lists(st.integers(0, d - 1), max_size=d, unique=True))
        ends = [sorted((draw(st.integers(0, 255)), draw(st.integers(0, 255)))) for _ in features]
        members.append(box(features, [e[0] for e in ends], [e[1] for e in ends]))
    n_estimators = draw(st.integers(1, 4))
    return Boxes(
        members, draw(st.lists(st.integers(0, n_estimators - 1), min_size=count, max_size=count)), n_estimators
    )


def codes(n=200, d=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, d)).astype(np.uint8)


@given(boxes())
def test_votes_count_estimators_not_boxes(some):
    rows = codes()
    expected = np.zeros(len(rows), int)
    for e in range(some.n_estimators):
        own = [b for b, owner in zip(some, some.estimator, strict=True) if owner == e]
        expected += [
            any(all(lo <= row[f] <= hi for f, lo, hi in zip(b.features, b.low, b.high)) for b in own) for row in rows
        ]
    assert some.votes(rows).tolist() == expected.tolist()


@given(boxes(), st.integers(1, 3))
def test_sql_selects_the_same_items(some, min_votes):
    rows = codes(60)
    votes = some.votes(rows)
    con = duckdb.connect()
    con.execute("CREATE TABLE codes (id INT, c0 INT, c1 INT, c2 INT, c3 INT)")
    con.executemany("INSERT INTO codes VALUES (?, ?, ?, ?, ?)", [[i, *map(int, row)] for i, row in enumerate(rows)])
    found = dict(con.execute(some.to_sql("codes", min_votes=min_votes)).fetchall())
    assert found == {int(i): int(votes[i]) for i in np.flatnonzero(votes >= min_votes)}


@given(boxes())
def test_json_round_trip(some):
    again = Boxes.from_json(json.loads(json.dumps(some.to_json())))
    assert again.n_estimators == some.n_estimators
    assert np.array_equal(again.votes(codes()), some.votes(codes()))
    for name in ("estimator", "offsets", "features", "low", "high"):
        assert np.array_equal(getattr(again, name), getattr(some, name))


def test_both_ends_are_inclusive_and_reach_0_and_255():
    rows = np.array([[0], [1], [254], [255]], np.uint8)
    assert box([0], [0], [1]).contains(rows).tolist() == [True, True, False, False]
    assert box([0], [255], [255]).contains(rows).tolist() == [False, False, False, True]
    assert box([], [], []).contains(rows).all()


def test_low_above_high_and_other_nonsense_is_refused():
    with pytest.raises(ArrayError, match="low <= high"):
        box([0], [2], [1])
    with pytest.raises(ArrayError, match="distinct"):
        box([1, 1], [0, 0], [1, 1])
    with pytest.raises(ArrayError, match="distinct"):
        box([-1], [0], [1])
    with pytest.raises(ArrayError, match=r"dims 0\.\.3"):
        Boxes([box([9], [0], [1])]).votes(codes())
    with pytest.raises(UsageError, match="n_estimators"):
        Boxes([box([0], [0], [1])], [2], 1)
    with pytest.raises(UsageError, match="expected"):
        Boxes.from_json({"boxes": [{"features": [0]}], "n_estimators": 1})


def test_boxes_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Boxes([box([0], [0], [1])]).low[0] = 7
