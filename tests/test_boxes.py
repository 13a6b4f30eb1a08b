import json

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Box, Boxes, Catalog, open_backend
from gpubranches.core.boxes import MAX_ESTIMATORS
from gpubranches.errors import ArrayError, UsageError
from gpubranches.ingestion import ingest
from gpubranches.ingestion.writers import write_codes_parquet


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
            any(all(lo <= row[f] <= hi for f, lo, hi in zip(b.features, b.low, b.high, strict=True)) for b in own)
            for row in rows
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


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A catalog of 300 codes of which some are deleted, and a DuckDB connection with them as the table `codes`."""
    path = tmp_path_factory.mktemp("codes")
    np.save(path / "codes.npy", codes(300))
    ingest([path / "codes.npy"], path / "catalog")
    opened = Catalog.open(path / "catalog")
    opened.delete(np.arange(5, 300, 50))
    ids = np.setdiff1d(np.arange(300), np.arange(5, 300, 50))
    write_codes_parquet(path / "codes.parquet", opened, ids)
    con = duckdb.connect()
    con.execute(f"CREATE TABLE codes AS FROM '{path}/codes.parquet'")
    with open_backend("cpu", opened) as cpu, open_backend("oracle", opened) as oracle:
        yield con, cpu, oracle


@given(boxes(), st.integers(1, 5))
def test_sql_over_a_catalogs_codes_gives_the_ids_and_votes_of_every_backend(catalog, some, min_votes):
    con, *backends = catalog
    selected = dict(con.execute(some.to_sql("codes", min_votes=min_votes)).fetchall())
    for backend in backends:
        found = backend.apply(some, min_votes=min_votes)
        assert selected == dict(zip(found.ids.tolist(), found.votes.tolist(), strict=True)), backend.name


@pytest.mark.parametrize("min_votes", [1, 2])
def test_sql_of_no_boxes_and_of_a_box_without_bounds(catalog, min_votes):
    con, cpu, _ = catalog
    for some in (
        Boxes([]),
        Boxes([], n_estimators=3),
        Boxes([box([], [], [])]),
        Boxes([box([], [], [])] * 3, [0, 0, 2]),
    ):
        selected = con.execute(some.to_sql("codes", min_votes=min_votes)).fetchall()
        assert len(selected) == cpu.apply(some, min_votes=min_votes).total
        assert len(selected) == (294 if len(np.unique(some.estimator)) >= min_votes else 0)


@given(boxes())
def test_sql_of_the_majority_selects_what_more_than_half_of_the_estimators_hold(catalog, some):
    con, _, oracle = catalog
    majority = some.n_estimators // 2 + 1
    selected = {item for item, _ in con.execute(some.to_sql("codes", min_votes=majority)).fetchall()}
    found = oracle.apply(some)
    assert selected == set(found.ids[2 * found.votes > some.n_estimators].tolist())


def test_a_long_query_of_many_estimators_runs(catalog):
    con, cpu, _ = catalog
    rng = np.random.default_rng(0)
    ends = np.sort(rng.integers(0, 256, (100, 2, 4)), axis=1)
    some = Boxes([box([0, 1, 2, 3], *pair) for pair in ends], np.arange(100) // 4, 25)
    selected = dict(con.execute(some.to_sql("codes")).fetchall())
    found = cpu.apply(some)
    assert selected == dict(zip(found.ids.tolist(), found.votes.tolist(), strict=True))
    assert len(selected) > 20


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


@pytest.mark.parametrize("wrong", ["features", "low", "high"])
def test_arrays_of_another_type_or_shape_are_refused_by_name(wrong):
    right = {"features": np.array([0, 1], np.int16), "low": np.zeros(2, np.uint8), "high": np.ones(2, np.uint8)}
    for array in (right[wrong].astype(np.int32), right[wrong][None], right[wrong].tolist()):
        with pytest.raises(ArrayError, match=f"^{wrong}: expected"):
            Box(**{**right, wrong: array})


def test_low_above_high_and_other_nonsense_is_refused():
    with pytest.raises(ArrayError, match="low <= high"):
        box([0], [2], [1])
    with pytest.raises(ArrayError, match="distinct"):
        box([1, 1], [0, 0], [1, 1])
    with pytest.raises(ArrayError, match="distinct"):
        box([-1], [0], [1])
    with pytest.raises(ArrayError, match=r"dims 0\.\.3"):
        Boxes([box([9], [0], [1])]).votes(codes())
    for wrong, count in (([2], 1), ([-1], None), ([0], MAX_ESTIMATORS + 1)):
        with pytest.raises(UsageError, match="n_estimators"):
            Boxes([box([0], [0], [1])], wrong, count)
    with pytest.raises(ArrayError, match="estimator: expected one number per box, 1, got 2"):
        Boxes([box([0], [0], [1])], [0, 0])
    with pytest.raises(UsageError, match="expected"):
        Boxes.from_json({"boxes": [{"features": [0]}], "n_estimators": 1})


def test_boxes_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Boxes([box([0], [0], [1])]).low[0] = 7
