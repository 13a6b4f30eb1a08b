"""What to mark next: along the boundary of a broad idea, near the cut of a narrow one."""

from dataclasses import replace

import numpy as np
import pytest
from groups import search_for, write_groups
from hypothesis import given
from hypothesis import strategies as st

from gpubranches import Session, open_backend
from gpubranches.core.results import Ranking
from gpubranches.errors import UsageError
from gpubranches.retrieval.boundary import BoundaryPosterior
from gpubranches.retrieval.breadth import Breadth, LinearModel
from gpubranches.retrieval.scoring import CatalogScores
from gpubranches.retrieval.suggestions import MOST_EXPLORING, along_boundary, exploring, near_cut


class At(BoundaryPosterior):
    """A boundary whose places are given."""

    def __init__(self, places):
        super().__init__()
        self.given = np.array(places, float)

    def places(self, count, *, explore):
        assert 0 <= explore <= 1
        return self.given[:count]


def broad_idea(scores, places, sampled=()):
    """Return an idea over items 0, 1, ... with these scores, the last of them sampled."""
    n = len(scores)
    ids, values = np.arange(n), np.array(scores, np.float32)
    order = np.argsort(-values, kind="stable")
    some = np.array(sampled, np.float32)
    found = CatalogScores(ids[order], values[order], np.arange(n, n + len(some)), some, 3.0)
    return Breadth(LinearModel(np.zeros(2, np.float32), 0.0, found, At(places), False, 0.0), 1.0, True)


scores_of_items = st.lists(st.integers(-20, 20), min_size=0, max_size=30)


@given(
    scores=scores_of_items,
    sampled=st.lists(st.integers(-20, 20), max_size=6),
    places=st.lists(st.floats(-25, 25), min_size=1, max_size=12),
    data=st.data(),
)
def test_each_place_gets_the_nearest_item_that_is_free(scores, sampled, places, data):
    every = [*scores, *sampled]
    marked = data.draw(st.lists(st.integers(0, max(0, len(every) - 1)), max_size=10, unique=True))
    found = along_boundary(broad_idea(scores, places, sampled), np.array(marked, np.int64), len(places))
    free = dict(enumerate(every))
    for item in marked:
        free.pop(item, None)
    assert len(found) == len(set(found.tolist())) == min(len(places), len(free))
    for item, place in zip(found.tolist(), places, strict=False):
        away = {other: abs(score - place) for other, score in free.items()}
        assert away[item] == pytest.approx(min(away.values()))
        del free[item]


@pytest.mark.parametrize("count", [0, 1, 3, 10])
def test_no_more_items_are_suggested_than_there_are(count):
    idea = broad_idea([1.0, 2.0, 3.0], np.linspace(3, 1, 10))
    assert len(along_boundary(idea, np.zeros(0, np.int64), count)) == min(count, 3)
    assert len(along_boundary(idea, np.arange(3), count)) == 0


def test_at_one_place_the_items_around_it_are_taken():
    idea = broad_idea(np.arange(20.0), [7.1] * 5)
    assert set(along_boundary(idea, np.array([7]), 5)) == {5, 6, 8, 9, 10}


def test_a_narrow_idea_explores_as_far_as_it_may_be_broad():
    idea = broad_idea(np.arange(20.0), [7.0] * 5)
    wide = [exploring(replace(idea, log_odds=odds), 20) for odds in (-1000.0, -20.0, -3.0, -2.0, -1.0, 0.0)]
    assert wide[0] == wide[1] == 0
    assert wide == sorted(wide)
    assert wide[-1] == round(20 * MOST_EXPLORING)
    assert exploring(replace(idea, log_odds=0.0), 1) <= 1
    assert exploring(replace(idea, log_odds=0.0), 0) == 0


def test_near_the_cut_are_the_open_items_nearest_to_it():
    scores = np.array([9, 5, 4, 3, 1, -8], np.float32)
    ranking = Ranking(np.arange(6) + 10, scores, scores > 3.5, 3, 6, 3.5)
    open_ = np.array([True, True, False, True, True, True])
    assert set(near_cut(ranking, open_, 2)) == {11, 13}
    assert near_cut(ranking, open_, 9).tolist()[-1] == 15
    assert near_cut(ranking, np.zeros(6, np.bool_), 3).tolist() == []


# In a session


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_groups(tmp_path_factory.mktemp("groups"))


@pytest.fixture(params=["oracle", "cpu"])
def broad(request, world):
    catalog, groups, _, embedder = world
    with open_backend(request.param, catalog) as backend:
        session = Session(catalog, backend, embedder=embedder)
        search_for(session, groups == 2, session.search("group 2", 30).ids, 1, query="group 2")
        yield session


@pytest.mark.parametrize("count", [1, 20, 300])
def test_suggestions_are_unmarked_and_each_but_once(broad, count):
    assert broad.answer.breadth.is_broad
    found = broad.suggest(count)
    assert len(found) == len(np.unique(found)) == count
    assert not np.isin(found, [*broad.positives, *broad.negatives]).any()
    assert broad.suggest(count).tolist() == found.tolist()


def test_they_lie_on_both_sides_of_the_cut(broad):
    ranking = broad.ranking
    found = broad.suggest(20)
    matched = np.isin(found, ranking.ids[ranking.matched])
    assert matched.any()
    assert not matched.all()


def test_more_than_all_items_are_as_many_as_are_unmarked(broad):
    marked = len(broad.positives) + len(broad.negatives)
    assert len(broad.suggest(10**4)) == broad.catalog.n - marked


def test_what_is_marked_after_the_answer_is_suggested_no_more(broad):
    first = broad.suggest(20)
    broad.mark(first[:10], -1, origin="suggestion")
    second = broad.suggest(20)
    assert len(second) == 20
    assert not np.isin(first[:10], second).any()


def test_they_are_within_the_filter_of_the_answer(broad, world):
    broad.refine("linear", query="group 2", where="kind >= 12 AND kind < 15")
    found = broad.suggest(1000)
    assert np.isin(world[2][found], [12, 13, 14]).all()
    assert len(found) > 20


def test_a_narrow_idea_that_may_be_broad_looks_farther(world):
    catalog, _, kinds, embedder = world
    with open_backend("cpu", catalog) as backend:
        session = Session(catalog, backend, embedder=embedder)
        search_for(session, kinds == 3, session.search("kind 3", 60).ids, 0, model="ensemble")
        breadth = session.answer.breadth
        assert not breadth.is_broad
        found = session.suggest(20)
        assert len(np.unique(found)) == 20
        assert not np.isin(found, [*session.positives, *session.negatives]).any()
        wide = exploring(breadth, 20)
        assert np.isin(found[: 20 - wide], session.ranking.ids).all()
        if wide:
            marked = np.concatenate([session.positives, session.negatives, found[: 20 - wide]])
            assert found[20 - wide :].tolist() == along_boundary(breadth, marked, wide).tolist()
        with pytest.raises(UsageError, match="count"):
            session.suggest(0)
