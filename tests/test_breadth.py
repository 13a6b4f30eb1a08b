"""How broad an idea is: groups of kinds are found whole, kinds are kept apart from their siblings."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from groups import GROUPS, NAMES, f1, search_for, write_groups

from gpubranches import Catalog, Session, open_backend
from gpubranches.errors import LabelError
from gpubranches.retrieval.boundary import BoundaryPosterior
from gpubranches.retrieval.breadth import Breadth, LinearModel, _narrow_promises_more, judge, reaching
from gpubranches.retrieval.scoring import CatalogScores, CodeView, EmbeddingView
from gpubranches.retrieval.training_data import TrainingData
from gpubranches.service.labels import Labels

NOTHING = np.zeros(0, np.int64)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_groups(tmp_path_factory.mktemp("groups"))


@pytest.fixture(params=["oracle", "cpu"])
def session(request, world):
    with open_backend(request.param, world[0]) as backend:
        yield Session(world[0], backend, embedder=world[3])


@pytest.fixture
def quick(world):
    with open_backend("cpu", world[0]) as backend:
        yield Session(world[0], backend, embedder=world[3])


def marks_of(right, wrong, unchecked, chosen=True, **more):
    return TrainingData(
        right,
        wrong,
        unchecked,
        np.full(len(right), chosen),
        np.full(len(wrong), chosen),
        np.zeros(len(right) + len(wrong), np.bool_),
        **more,
    )


def page(session, name, k):
    return session.search(name, k).ids


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_whole_group_is_found_with_suggestions_along_its_border(world, group):
    right, found = world[1] == group, []
    with open_backend("cpu", world[0]) as backend:
        for seed in range(3):
            session = Session(world[0], backend, embedder=world[3], seed=seed)
            shown = page(session, f"kind {group * 6}", 50)  # a page of one kind and of some of its siblings
            found.append(f1(search_for(session, right, shown[:30], 4), right))
    assert np.median(found) > 0.9, found


@pytest.mark.parametrize("model", ["ensemble", "branch", "linear"])
def test_any_model_finds_a_group(session, world, model):
    right = world[1] == 2
    ranking = search_for(session, right, page(session, "group 2", 30), 2, model=model)
    assert session.answer.breadth.is_broad
    assert f1(ranking, right) > 0.9
    assert ranking.candidates == session.catalog.n
    assert "boxes" not in ranking.source
    assert (session.boxes is None) == (ranking.votes is None) == (model == "linear")
    if session.boxes is not None:
        votes = session.boxes.votes(session.catalog.codes(ranking.ids))
        assert votes[right[ranking.ids]].mean() > 3 * votes[~right[ranking.ids]].mean()
    assert np.isin(session.positives, ranking.ids[ranking.matched]).all()
    assert not np.isin(session.negatives, ranking.ids[ranking.matched]).any()


@pytest.mark.parametrize("kind", [0, 7, 14, 21, 28])
def test_a_kind_is_kept_apart_from_its_siblings(quick, world, kind):
    right = world[2] == kind
    shown = page(quick, f"kind {kind}", 60)
    for query in (None, f"kind {kind}", f"group {kind // 6}", f"group {(kind // 6 + 1) % GROUPS}"):
        quick.labels = Labels.in_memory()
        first = search_for(quick, right, shown, 0, query=query, model="ensemble")
        assert not quick.answer.breadth.is_broad
        assert "boxes" in first.source
        assert f1(first, right) > 0.9


def test_words_that_name_the_group_help_and_those_that_name_another_do_not_hurt(quick, world):
    measured = {}
    for group in range(GROUPS):
        right = world[1] == group
        shown = page(quick, NAMES[group], 30)
        for told, query in (("alone", None), ("right", NAMES[group]), ("wrong", NAMES[(group + 1) % GROUPS])):
            for rounds in (0, 1, 3):
                quick.labels = Labels.in_memory()
                measured.setdefault((told, rounds), []).append(
                    f1(search_for(quick, right, shown, rounds, query=query), right)
                )
    mean = {key: np.mean(values) for key, values in measured.items()}
    assert mean["right", 0] > mean["alone", 0]
    assert min(measured["right", 0]) > 0.9
    assert mean["wrong", 0] > mean["alone", 0] - 0.02
    assert min(measured["wrong", 3]) > 0.9
    assert min(measured["right", 3]) > 0.9


def test_every_backend_judges_and_answers_the_same(world):
    answers = []
    for name in ("oracle", "cpu"):
        with open_backend(name, world[0]) as backend:
            session = Session(world[0], backend, embedder=world[3])
            ranking = search_for(session, world[1] == 1, page(session, "group 1", 30), 2, query="group 1")
            answers.append((ranking, session.answer.breadth, session.suggest(20)))
    (one, judged, suggested), (other, again, same) = answers
    assert judged.log_odds == pytest.approx(again.log_odds, abs=1e-3)
    assert judged.broad.uses_words == again.broad.uses_words
    assert suggested.tolist() == same.tolist()
    assert set(one.ids[one.matched]) == set(other.ids[other.matched])
    assert one.threshold == pytest.approx(other.threshold, abs=1e-4)


def test_a_filter_limits_a_broad_answer_and_its_suggestions(session, world):
    groups, kinds = world[1:3]
    right = groups == 3
    ranking = search_for(session, right, page(session, "group 3", 30), 2, query="group 3", where="kind < 20")
    assert (kinds[ranking.ids] < 20).all()
    assert (kinds[session.suggest(20)] < 20).all()
    found = ranking.ids[ranking.matched]
    assert np.isin(np.flatnonzero(right & (kinds < 20)), found).mean() > 0.9


def test_deleted_items_are_in_no_broad_answer(tmp_path, world):
    catalog, groups, _, embedder = write_groups(tmp_path)
    right = groups == 2
    with open_backend("cpu", catalog) as backend:
        session = Session(catalog, backend, embedder=embedder)
        search_for(session, right, page(session, "group 2", 30), 1, query="group 2")
        gone = np.flatnonzero(right)[::7]
        catalog.delete(gone)
        assert not np.isin(session.suggest(20), gone).any()
        ranking = session.refine("linear", query="group 2")
        assert not np.isin(ranking.ids, gone).any()
        assert not np.isin(session.suggest(20), gone).any()
    assert len(Catalog.open(tmp_path / "catalog").sample_ids(10**6, np.random.default_rng(0))) == catalog.n


# Marks at the ends of what is possible


@pytest.mark.parametrize("model", ["ensemble", "linear"])
@pytest.mark.parametrize("query", [None, "group 1"])
def test_a_single_right_item_is_answered(session, world, model, query):
    item = int(np.flatnonzero(world[2] == 6)[0])
    session.mark([item], +1)
    ranking = session.refine(model, query=query)
    assert item in ranking.ids[ranking.matched]
    assert ranking.total < session.catalog.n / 2
    assert len(session.suggest(20)) == 20


def test_an_idea_that_is_one_item_is_not_made_broad_by_what_is_wrong_around_it(quick, world):
    item = int(np.flatnonzero(world[2] == 6)[0])
    right = np.arange(quick.catalog.n) == item
    ranking = search_for(quick, right, quick.search(item, 40).ids, 2, model="ensemble")
    assert ranking.total < 20
    assert item in ranking.ids[ranking.matched]


@pytest.mark.parametrize("model", ["ensemble", "linear"])
def test_an_idea_that_is_the_whole_catalog_gives_an_answer(quick, world, model):
    right = np.ones(quick.catalog.n, np.bool_)
    ranking = search_for(quick, right, page(quick, "group 0", 40), 3, model=model)
    assert np.isin(quick.positives, ranking.ids[ranking.matched]).all()
    assert len(quick.suggest(20)) == 20


@pytest.mark.parametrize("random_negatives", [0, 1000])
def test_a_catalog_whose_items_are_all_marked_right_needs_something_wrong(session, random_negatives):
    session.mark(np.arange(session.catalog.n), +1)
    for model in ("ensemble", "linear", "branch"):
        with pytest.raises(LabelError, match="mark an item of each kind"):
            session.refine(model, random_negatives=random_negatives)


def test_a_catalog_whose_items_are_all_marked_keeps_the_marks(session, world):
    right = world[1] == 1
    session.mark(np.flatnonzero(right), +1)
    session.mark(np.flatnonzero(~right), -1)
    for model in ("ensemble", "linear"):
        ranking = session.refine(model)
        assert sorted(ranking.ids[ranking.matched]) == np.flatnonzero(right).tolist()
        assert len(session.suggest(20)) == 0


@pytest.mark.parametrize("chosen", ["user", "suggestion"])
def test_marks_that_contradict_each_other_are_kept_each(session, world, chosen):
    rng = np.random.default_rng(0)
    items = rng.permutation(np.flatnonzero(world[2] == 3))
    session.mark(items[:15], +1, origin=chosen)
    session.mark(items[15:30], -1, origin=chosen)
    for options in ({}, {"model": "linear"}, {"second_stage": False}):
        found = session.refine(**options)
        matched = found.ids[found.matched]
        assert np.isin(items[:15], matched).all()
        assert not np.isin(items[15:30], matched).any()
        assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("view", ["codes", "embeddings"])
@pytest.mark.parametrize("broad", [False, True])
def test_without_unchecked_negatives_marks_alone_are_judged(world, view, broad):
    catalog, groups, kinds, _ = world
    rng = np.random.default_rng(1)
    right = rng.permutation(np.flatnonzero(groups == 1 if broad else kinds == 6))[:30]
    wrong = rng.permutation(np.flatnonzero(groups != 1 if broad else (groups == 1) & (kinds != 6)))[:30]
    with open_backend("cpu", catalog) as backend:
        seen = CodeView(backend, catalog) if view == "codes" else EmbeddingView(backend, catalog, None)
        found = judge(seen, marks_of(np.sort(right), np.sort(wrong), NOTHING, chosen=not broad))
        again = judge(seen, marks_of(np.sort(right), np.sort(wrong), NOTHING, chosen=not broad))
    assert found.log_odds == again.log_odds
    assert not found.broad.uses_words
    if broad:
        ids, scores, _ = found.broad.scores.without(np.concatenate([right, wrong]))
        matched = np.concatenate([right, ids[scores >= found.broad.boundary.cut(30)]])
        assert 2 * (groups[matched] == 1).sum() / (len(matched) + (groups == 1).sum()) > 0.9
    else:
        assert not found.is_broad


def test_wrong_marks_of_a_page_speak_against_a_broad_idea(world):
    catalog, groups, _, _ = world
    right, wrong = np.flatnonzero(groups == 1)[:20], np.flatnonzero(groups == 2)[:20]
    unchecked = np.flatnonzero(groups != 1)[100:250]
    with open_backend("cpu", catalog) as backend:
        view = EmbeddingView(backend, catalog, None)
        by_hand, by_program = (judge(view, marks_of(right, wrong, unchecked, chosen)) for chosen in (True, False))
    assert by_hand.log_odds < by_program.log_odds


@pytest.mark.parametrize("told", [-2.0, 2.0])
def test_of_a_likely_broad_idea_the_answer_that_promises_more_is_given(world, quick, told, monkeypatch):
    """A reserve of 2 keeps every broad answer, one of -2 none: F1 lies between 0 and 1."""
    monkeypatch.setattr("gpubranches.retrieval.breadth._RESERVE", told)
    search_for(quick, world[1] == 2, page(quick, "group 2", 30), 1)
    found = quick.answer
    assert found.breadth.is_broad
    assert found.breadth.answers == (told > 0)
    assert ("bits" in found.ranking.source) == (told < 0)  # the linear model that the narrow answer starts from
    assert found.ranking.recall is not None
    assert len(quick.suggest(20)) == 20


def test_suggestions_of_a_narrow_idea_say_less_of_a_broad_border_and_as_much_of_the_breadth(world):
    """The same marks, chosen along the broad boundary and near the cut of a narrow answer: right ones far out."""
    right = np.flatnonzero(world[1] == 2)
    wrong, unchecked = np.flatnonzero(world[1] == 3)[:6], np.flatnonzero(world[1] < 0)[:200]
    along = marks_of(right[:12], wrong, unchecked)
    along = replace(along, fair=np.arange(12) < 4)
    near = replace(along, near_cut=np.arange(18) >= 4)
    with open_backend("cpu", world[0]) as backend:
        one, other = (judge(EmbeddingView(backend, world[0], None), marks) for marks in (along, near))
    assert one.log_odds == other.log_odds
    surer, less = (np.sum(judged.broad.boundary.posterior_.sum(axis=(1, 2)) ** 2) for judged in (one, other))
    assert surer > less


def test_suggestions_are_logged_as_what_they_were_chosen_for(quick, world):
    right = world[1] == 2
    search_for(quick, right, page(quick, "group 2", 30), 1, query="group 2")
    assert quick.answer.breadth.is_broad
    origins = quick.labels.origins()
    quick.mark([quick.suggest(1)[0]], +1, origin="suggestion")
    assert set(quick.labels.origins().values()) - set(origins.values()) <= {"border"}
    assert "border" in quick.labels.origins().values()
    quick.labels = Labels.in_memory()
    right = world[2] == 7
    search_for(quick, right, page(quick, "kind 7", 60), 1, query="kind 7", model="ensemble")
    assert not quick.answer.breadth.is_broad
    assert set(quick.labels.origins().values()) == {"user", "suggestion"}


def test_where_either_border_may_be_right_the_wide_answer_is_not_given():
    """The broad model has no evidence of its boundary, the narrow one has: 40 items against half the catalog."""
    rng = np.random.default_rng(0)
    both = rng.standard_normal((5000, 2)).astype(np.float32)
    both[:40, 1] += 6
    ids, nothing = np.arange(5000), np.zeros(0, np.int64)

    def model(axis, boundary):
        order = np.argsort(-both[:, axis])
        listed = CatalogScores(ids[order], both[order, axis], nothing, nothing.astype(np.float32), 1.0)
        return LinearModel(np.eye(2, dtype=np.float32)[axis], 0.0, listed, boundary, False, 0.0)

    vague = model(0, BoundaryPosterior(gaps=0.0, few=30.0).fit(both[:, 0], np.zeros(0), np.zeros(0)))
    sure = model(1, BoundaryPosterior().fit(both[:, 1], np.full(8, 6.0), np.full(20, 3.0)))
    assert 3 < sure.boundary.cut(8) < 5
    seen = SimpleNamespace(vectors=lambda rows: both[rows])
    marks = marks_of(np.arange(5000, 5008), nothing, nothing)
    for log_odds, expected in ((-0.5, True), (0.1, True), (50.0, False)):
        assert _narrow_promises_more(seen, marks, Breadth(vague, log_odds, False), sure) == expected


def test_a_direction_is_reached_farther_by_as_much_as_a_feature_beside_it():
    rng = np.random.default_rng(0)
    matrix, u = np.eye(6, dtype=np.float32), rng.standard_normal(6).astype(np.float32)
    farther = reaching(matrix, u, 3.0)
    unit = u / np.linalg.norm(u)
    assert np.allclose(unit @ farther, np.sqrt(10) * unit, atol=1e-5)
    across = rng.standard_normal(6)
    across -= across @ unit * unit
    assert np.allclose(across @ farther, across, atol=1e-5)
    assert np.allclose(reaching(matrix, u, 0.0), matrix, atol=1e-6)
    assert np.array_equal(reaching(matrix, np.zeros(6, np.float32), 3.0), matrix)
    assert np.array_equal(reaching(matrix, 100 * u, 3.0), reaching(matrix, u, 3.0)) or np.allclose(
        reaching(matrix, 100 * u, 3.0), farther, atol=1e-5
    )
