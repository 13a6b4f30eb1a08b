"""The sample that a catalog's statistics are learnt from: steady under small commits, the same for the same content."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import World

from gpubranches import Catalog
from gpubranches.core.tie_order import splitmix64
from gpubranches.core.whitening import ROUNDS, Whitening
from gpubranches.retrieval.catalog_statistics import code_statistics, embedding_statistics


def drawn(catalog, count):
    """Return the ids of the sample."""
    return catalog.snapshot.ids_at(catalog.steady_sample().positions(count))


def steady(sizes):
    """Return how many rows of segments are drawn from."""
    ends = np.cumsum(sizes)
    bound = 0
    for end in ends.tolist():
        bound = end if end >= 1.09 * bound else bound
    return bound


@settings(max_examples=12)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=5),
    st.integers(1, 200),
    st.floats(0, 0.3),
    st.integers(0, 2**32),
)
def test_it_is_the_rows_with_the_least_hashes_of_the_first_by_id(tmp_path_factory, sizes, count, share, seed):
    world = World(tmp_path_factory.mktemp("w") / "c", sizes, deleted=0)
    catalog, rng = world.catalog, np.random.default_rng(seed)
    gone = world.ids[rng.random(len(world.ids)) < share]
    catalog.delete(gone)
    first = np.sort(world.ids)[: steady(sizes)]
    if len(gone) > 0.1 * len(world.ids):
        first = np.setdiff1d(world.ids, gone)
    expected = np.sort(first[np.argsort(splitmix64(first))[:count]])
    assert drawn(catalog, count).tolist() == expected.tolist()
    again = Catalog.open(world.catalog.path)
    assert drawn(again, count).tolist() == expected.tolist()
    sample = again.steady_sample()
    live = catalog.alive(expected)
    assert np.array_equal(sample.codes(count)[live], catalog.codes(expected[live]))
    assert np.array_equal(sample.embeddings(count)[live], catalog.embeddings(expected[live]))
    if len(gone) > 0.1 * len(world.ids):
        catalog.compact()
        assert drawn(catalog, count).tolist() == expected.tolist(), "compaction changes nothing"


@pytest.fixture
def fits(monkeypatch):
    """Return a list that grows with each whitening that is learnt."""
    learnt, fit = [], Whitening.fit
    monkeypatch.setattr(Whitening, "fit", lambda *given: learnt.append(1) or fit(*given))
    return learnt


def test_small_commits_leave_the_statistics_and_growth_makes_new_ones(tmp_path, fits):
    world = World(tmp_path / "c", [600, 340], deleted=0)
    catalog = world.catalog
    first, codes = embedding_statistics(catalog), code_statistics(catalog)
    learnt = len(fits)
    assert learnt == 2 * (1 + ROUNDS)
    small, large = (World(tmp_path / name, [n], deleted=0) for name, n in (("small", 20), ("large", 200)))
    for turn in range(3):
        append(catalog, small.catalog)
        catalog.delete(world.ids[10 * turn : 10 * turn + 10])
        assert embedding_statistics(catalog) is first
        assert code_statistics(catalog) is codes
    assert len(fits) == learnt
    append(catalog, large.catalog)
    second = embedding_statistics(catalog)
    assert second is not first
    assert len(fits) == learnt + 1 + ROUNDS
    for one, other in zip(embedding_statistics(Catalog.open(catalog.path)), second, strict=True):
        assert np.array_equal(one.matrix_, other.matrix_)


def test_a_request_on_an_older_snapshot_learns_nothing_anew(tmp_path, fits):
    world = World(tmp_path / "c", [400], deleted=0)
    catalog = world.catalog
    with catalog.pinned():
        old = embedding_statistics(catalog)
        Catalog.open(catalog.path).delete(world.ids[:200])
        catalog.refresh()
        assert embedding_statistics(catalog) is old
    new = embedding_statistics(catalog)
    learnt = len(fits)
    for _ in range(2):
        assert embedding_statistics(catalog) is new
    assert len(fits) == learnt == 2 * (1 + ROUNDS)


def append(catalog, source):
    """Append the rows of another catalog."""
    ids = source.snapshot.ids_at(np.arange(source.n))
    bits, scales = source.sign_bits(ids)
    rows = source.embeddings(ids).astype(np.float16)
    ids_there = catalog.next_id + np.arange(len(ids))
    catalog.append(source.codes(ids), ids=ids_there, bits=bits, scales=scales, embeddings=rows.__getitem__)
