from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from clusters import NAMES, D, write_world

from gpubranches import Catalog, Session, VocabularyEmbedder, open_backend
from gpubranches.core.options import MODELS
from gpubranches.errors import LabelError, SpaceMismatchError, UsageError
from gpubranches.ingestion import ingest
from gpubranches.service.labels import Labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    write_world(path)
    vocabulary = f"vocabulary:{path}/text/emb.npy,{path}/text/names.json"
    ingest([path / "images"], path / "catalog", embedder=vocabulary)
    ingest([path / "images"], path / "unnamed")
    return path


@pytest.fixture(scope="module")
def labels(folder):
    return pq.read_table(folder / "images/metadata/metadata_0.parquet")["label"].to_numpy()


@pytest.fixture(params=["oracle", "cpu"])
def session(request, folder):
    catalog = Catalog.open(folder / "catalog")
    embedder = VocabularyEmbedder.load(folder / "text/emb.npy", folder / "text/names.json")
    with open_backend(request.param, catalog) as backend:
        yield Session(catalog, backend, embedder=embedder)


on_one_backend = pytest.mark.parametrize("session", ["cpu"], indirect=True)
"""For tests of how good the answers are: `test_both_backends_and_two_runs_give_the_same_answer`."""


def mark_some(session, labels, label, p=8, m=20):
    shown = session.search(NAMES[label], 100).ids
    right = labels[shown] == label
    session.mark(shown[right][:p], +1)
    session.mark(shown[~right][:m], -1)


def f1(found, wanted):
    return 2 * len(np.intersect1d(found, wanted)) / (len(found) + len(wanted))


def test_a_text_finds_its_cluster_across_the_modality_gap(session, labels):
    for label, name in enumerate(NAMES):
        found = session.search(name, 20)
        assert found.source == f"{session.backend.name}/bits+embeddings"
        assert (labels[found.ids] == label).mean() > 0.9


def test_an_item_is_nearest_to_itself(session):
    assert session.search(17, 5).ids[0] == 17
    assert session.search(session.catalog.embeddings([17])[0], 5).ids[0] == 17
    assert session.search(session.catalog.codes([17])[0], 5).source.endswith("/codes")


@on_one_backend
@pytest.mark.parametrize("second_stage", [True, False])
def test_refining_finds_more_than_the_first_page(session, labels, second_stage):
    gained = []
    for label in range(4):
        session.labels = Labels.in_memory()
        mark_some(session, labels, label)
        wanted = np.flatnonzero(labels == label)
        ranking = session.refine(second_stage=second_stage)
        found = ranking.ids[ranking.matched]
        assert ranking.total == len(found) == len(np.unique(found))
        assert np.isin(session.positives, found).all()
        assert not np.isin(session.negatives, found).any()
        first_page = session.search(NAMES[label], 100).ids
        gained.append(f1(found, wanted) - f1(first_page, wanted))
    assert np.mean(gained) > (0.15 if second_stage else 0)


def test_both_backends_and_two_runs_give_the_same_answer(folder, labels):
    answers = []
    for name in ("oracle", "cpu", "cpu"):
        catalog = Catalog.open(folder / "catalog")
        with open_backend(name, catalog) as backend:
            session = Session(catalog, backend, seed=3)
            session.mark(np.flatnonzero(labels == 2)[:8], +1)
            session.mark(np.flatnonzero(labels == 5)[:8], -1)
            answers.append((session.refine(), session.refine("branch", second_stage=False)))
    for one, branch in answers[1:]:
        assert np.array_equal(one.ids, answers[0][0].ids)
        assert np.array_equal(one.matched, answers[0][0].matched)
        assert np.allclose(one.scores, answers[0][0].scores, atol=1e-4)
        assert np.array_equal(branch.ids, answers[0][1].ids)
        assert np.array_equal(branch.votes, answers[0][1].votes)


def test_the_later_mark_wins_and_undo_takes_it_back(session):
    session.mark([3, 4], +1)
    session.mark([4], -1)
    assert (session.positives.tolist(), session.negatives.tolist()) == ([3], [4])
    assert session.undo().tolist() == [4]
    assert session.positives.tolist() == [3, 4]
    session.unmark([3])
    assert session.positives.tolist() == [4]


def test_suggestions_are_unmarked_and_distinct(session, labels):
    mark_some(session, labels, 1)
    session.refine()
    suggested = session.suggest(20)
    assert len(np.unique(suggested)) == 20
    assert not np.isin(suggested, np.concatenate([session.positives, session.negatives])).any()


@pytest.mark.parametrize("options", [{}, {"second_stage": False}, {"model": "linear"}])
def test_a_lean_moves_the_cut_and_zero_is_the_own(session, labels, options):
    mark_some(session, labels, 1)
    own = session.refine(**options)
    boxes = session.boxes
    answers = [session.recut(lean) for lean in (-1, -0.4, 0, 0.4, 1)]
    assert session.boxes is boxes
    assert answers[2].matched.tolist() == own.matched.tolist()
    assert answers[2].threshold == own.threshold
    for fewer, more in pairwise(answers):
        assert (fewer.matched <= more.matched).all()
        assert fewer.threshold >= more.threshold
    assert answers[0].threshold > answers[-1].threshold
    leaning = session.refine(**options, lean=0.4)
    assert leaning.matched.tolist() == answers[3].matched.tolist()
    assert leaning.lean == 0.4
    if options:
        assert session.last_answer().min_votes == (1 if own.votes is None else leaning.threshold)
    for answer in answers:
        assert answer.matched[np.isin(own.ids, session.positives)].all()
        assert not answer.matched[np.isin(own.ids, session.negatives)].any()


def test_the_same_lean_and_audit_on_every_backend(folder, labels):
    answers = []
    for name in ("oracle", "cpu"):
        catalog = Catalog.open(folder / "catalog")
        with open_backend(name, catalog) as backend:
            session = Session(catalog, backend, seed=3)
            session.mark(np.flatnonzero(labels == 2)[:8], +1)
            session.refine(lean=0.7)
            answers.append((session.ranking.matched.tolist(), session.audit(20).tolist()))
    assert answers[0] == answers[1]


def test_an_audit_sharpens_what_is_known_of_the_answer(session, labels):
    mark_some(session, labels, 1)
    first = session.refine()
    ids = session.audit(40)
    assert len(set(ids)) == 40
    assert not np.isin(ids, [*session.positives, *session.negatives]).any()
    assert session.audit(40).tolist() == ids.tolist()
    for item in ids[:30]:
        session.mark([item], 1 if labels[item] == 1 else -1, origin="audit")
    last = session.estimate()
    assert set(session.audit(10)) == set(ids[30:])
    assert last.matched.tolist() == first.matched.tolist()
    for interval, before in ((last.precision, first.precision), (last.recall, first.recall)):
        assert np.ptp(interval) <= np.ptp(before)


@on_one_backend
def test_the_ranges_after_an_audit_hold_as_often_as_they_say(session, labels):
    held = []
    for label in np.unique(labels[labels >= 0]):
        session.labels = Labels.in_memory()
        mark_some(session, labels, label)
        ranking = session.refine()
        for item in session.audit(30):
            session.mark([item], 1 if labels[item] == label else -1, origin="audit")
        told = session.estimate()
        hits = (labels[ranking.ids[ranking.matched]] == label).sum()
        for interval, true in ((told.precision, hits / ranking.total), (told.recall, hits / (labels == label).sum())):
            held.append(interval[0] - 1e-9 <= true <= interval[2] + 1e-9)
    assert np.mean(held) >= 0.9


def test_an_audit_leaves_the_answer_before_it_as_it_was(session, labels):
    mark_some(session, labels, 1)
    session.refine()
    before = session.last_answer()
    drawn = session.audit(20)
    session.mark(drawn, -1, origin="audit")
    assert len(before.completeness.drawn.ids) == 0
    assert session.last_answer().completeness.drawn.ids.tolist() == drawn.tolist()
    unaware = before.estimated(session.labels.current(), session.labels.audited())
    assert unaware.ranking.precision != session.estimate().precision


def test_the_recall_of_a_filtered_answer_is_of_what_the_filter_lets_in(session, labels):
    mark_some(session, labels, 1)
    ranking = session.refine(where="label = 1 OR label = 2")
    drawn = session.audit(60)
    assert np.isin(labels[drawn], [1, 2]).all()
    assert ranking.recall[2] <= 1


def test_marks_that_a_filter_shuts_out_count_nowhere_in_its_answer(session, labels):
    mark_some(session, labels, 1)
    inside = session.refine(where=f"id > {session.positives.max()}")
    assert not np.isin(inside.ids, session.positives).any()
    mid = np.median(session.positives)
    held = session.positives[session.positives > mid]
    half = session.refine(where=f"id > {mid}")
    assert np.isin(held, half.ids[half.matched]).all()
    assert (half.ids > mid).all()
    assert set(session.answer.completeness.marks) == {i for i in session.labels.current() if i > mid}
    for again in (session.estimate(), session.recut(1.0), session.recut(0.0)):
        assert (again.ids > mid).all()
    assert (session.ranking.precision, session.ranking.recall) == (half.precision, half.recall)


def test_auditing_and_leaning_need_a_refine(session):
    for ask in (session.audit, session.estimate, lambda: session.recut(0.5)):
        with pytest.raises(UsageError, match="refine"):
            ask()
    session.mark([1], +1)
    for lean in (-1.01, 2, float("nan")):
        with pytest.raises(UsageError, match="lean"):
            session.refine(lean=lean)
    session.refine()
    with pytest.raises(UsageError, match="count"):
        session.audit(0)


@pytest.mark.parametrize("options", [{}, {"second_stage": False}])
def test_a_marked_negative_weighs_ten_random_ones_by_default_and_as_much_as_is_wished(session, labels, options):
    mark_some(session, labels, 2)  # narrow by embeddings and by codes: a broad model takes no notice of the weight
    own = session.refine(**options)
    same = session.refine(negative_weight=10, random_negatives=1000, **options)
    assert np.array_equal(same.scores, own.scores)
    assert np.array_equal(same.ids, own.ids)
    assert not np.array_equal(session.refine(negative_weight=1000, **options).ids, own.ids)
    assert session.refine("tree", second_stage=False).ids.tolist() == (
        session.refine("tree", second_stage=False, negative_weight=1000).ids.tolist()
    )
    for weight in (0, 0.09, 1000.1, float("nan")):
        with pytest.raises(UsageError, match=r"negative_weight: expected 0.1 to 1000, got .*; 10 is the default"):
            session.refine(negative_weight=weight)
    with pytest.raises(UsageError, match="random_negatives"):
        session.refine(random_negatives=-1)


def test_a_refine_tells_what_changed_since_the_round_before_and_a_recut_is_none(session, labels):
    mark_some(session, labels, 1)
    first = session.refine()
    with pytest.raises(UsageError, match="no round before"):
        session.part("new")
    session.recut(1)
    narrow = session.recut(-0.5)
    before = narrow.ids[narrow.matched]
    session.mark(session.part("below").ids[:5], +1)
    session.mark(before[-3:], -1)
    for lean in (0, 1):
        second = session.refine() if not lean else session.recut(lean)
        now = second.ids[second.matched]
        assert set(session.part("new").ids) == set(now) - set(before)
        assert set(session.part("gone").ids) == set(before) - set(now) != set()
    gone = session.part("gone")
    assert gone.ranking.scores[gone.rows].tolist() == [first.scores[first.ids == item][0] for item in gone.ids]
    session.refine()
    assert set(session.part("new").ids) <= set(session.part("all").ids)
    session.forget()
    with pytest.raises(UsageError, match="then find all"):
        session.part("all")
    session.refine()
    assert "new" not in session.last_answer().parts


def test_items_deleted_between_rounds_are_not_gone(folder, tmp_path, labels):
    ingest([folder / "images"], tmp_path / "copy")
    catalog = Catalog.open(tmp_path / "copy")
    with open_backend("cpu", catalog) as backend:
        session = Session(catalog, backend)
        session.mark(np.flatnonzero(labels == 1)[:8], +1)
        ranking = session.refine()
        catalog.delete(ranking.ids[ranking.matched][-2:])
        session.refine()
        assert not np.isin(ranking.ids[ranking.matched][-2:], session.part("gone").ids).any()


def answers_with(session, labels, marks, queries, model="ensemble"):
    """Return the F1 of each label's answer, (labels, queries), by marks of the first page."""
    measured = np.zeros((len(NAMES), len(queries)))
    for label in range(len(NAMES)):
        session.labels = Labels.in_memory()
        mark_some(session, labels, label, *marks)
        for column, query in enumerate(queries):
            ranking = session.refine(model, query=query(label))
            measured[label, column] = f1(ranking.ids[ranking.matched], np.flatnonzero(labels == label))
    return measured


def nothing(label):
    return None


def other(label):
    return NAMES[(label + 3) % len(NAMES)]


@on_one_backend
@pytest.mark.parametrize("model", ["ensemble", "linear"])
@pytest.mark.parametrize(("marks", "gained"), [((8, 0), 0.001), ((2, 3), -0.005)])
def test_words_help_where_marks_leave_something_open(session, labels, model, marks, gained):
    alone, told = answers_with(session, labels, marks, (nothing, NAMES.__getitem__), model).T
    assert told.mean() > alone.mean() + gained


@on_one_backend
@pytest.mark.parametrize("marks", [(8, 20), (8, 8), (2, 3)])
def test_words_of_something_else_do_no_harm(session, labels, marks):
    alone, misled = answers_with(session, labels, marks, (nothing, other)).T
    assert (misled > alone - 0.02).all()


def test_words_that_tell_nothing_change_nothing(session, labels):
    mark_some(session, labels, 2, 2)
    alone, told = session.refine(), session.refine(query="red car")
    assert told.scores.tolist() != alone.scores.tolist()
    assert (alone.source, told.source) == tuple(f"{session.backend.name}/boxes+embeddings{s}" for s in ("", "+words"))
    for query in (None, "", "#17"):
        assert session.refine(query=query).scores.tolist() == alone.scores.tolist()
    by_votes = session.refine(second_stage=False)
    assert session.refine(second_stage=False, query="red car").ids.tolist() == by_votes.ids.tolist()


def test_words_that_cannot_be_read_are_refused_however_many_marks_there_are(session, labels):
    bare = Session(session.catalog, session.backend, embedder=None, labels=session.labels)
    for p in (2, 8):
        mark_some(session, labels, 2, p)
        with pytest.raises(UsageError, match="reed car"):
            session.refine(query="reed car")
        with pytest.raises(UsageError, match="embedder"):
            bare.refine(query="red car")


def test_a_text_at_the_mean_of_texts_tells_nothing(session, labels, folder):
    one = VocabularyEmbedder(session.embedder.texts(["red car"]), ["red car"])
    mark_some(session, labels, 2, 2)
    unnamed = Catalog.open(folder / "unnamed")
    with open_backend("oracle", unnamed) as backend:
        alone = Session(unnamed, backend, embedder=one, labels=session.labels)
        assert alone.refine(query="red car").ids.tolist() == alone.refine().ids.tolist()


def test_a_filter_limits_search_and_refine(session, labels):
    found = session.search(NAMES[0], 50, where="caption = 'kangaroo'")
    assert (labels[found.ids] == 0).all()
    mark_some(session, labels, 0)
    for second_stage in (True, False):
        ranking = session.refine(where="label = 3", second_stage=second_stage)
        assert (labels[ranking.ids] == 3).all()
        assert ranking.total == ranking.matched.sum()
    with pytest.raises(UsageError):
        session.search(NAMES[0], where="no_such_column = 1")


def test_what_cannot_be_answered_is_refused_with_advice(folder, session):
    with pytest.raises(LabelError, match="at least one item marked right"):
        session.refine()
    with pytest.raises(UsageError, match="then find all"):
        session.suggest()
    with pytest.raises(UsageError):
        session.mark([10**9], +1)
    with pytest.raises(UsageError, match="ensemble, branch"):
        session.refine("oak")
    with pytest.raises(UsageError, match="type what"):
        session.search("  ")
    with pytest.raises(UsageError, match="k:"):
        session.search("kangaroo", 0)
    unnamed = Catalog.open(folder / "unnamed")
    with open_backend("cpu", unnamed) as backend:
        with pytest.raises(UsageError, match="--embedder"):
            Session(unnamed, backend).search("kangaroo")
        assert Session(unnamed, backend, embedder=session.embedder).search("kangaroo", 5).ids.shape == (5,)


def test_another_models_queries_are_refused(folder, session, tmp_path):
    other = np.random.default_rng(9).standard_normal((len(NAMES), D)).astype(np.float32)
    np.save(tmp_path / "other.npy", other)
    stranger = VocabularyEmbedder.load(tmp_path / "other.npy", folder / "text/names.json")
    with pytest.raises(SpaceMismatchError, match="embedder"):
        Session(session.catalog, session.backend, embedder=stranger)


def test_a_catalog_of_codes_alone_is_searched_and_refined(session, tmp_path, labels):
    np.save(tmp_path / "codes.npy", session.catalog.codes(np.arange(session.catalog.n)))
    ingest([tmp_path / "codes.npy"], tmp_path / "codes")
    catalog = Catalog.open(tmp_path / "codes")
    with open_backend(session.backend.name, catalog) as backend:
        bare = Session(catalog, backend)
        assert bare.search(5, 3).ids[0] == 5
        bare.mark(np.flatnonzero(labels == 1)[:10], +1)
        ranking = bare.refine()
        assert ranking.source.endswith("/boxes")
        assert ranking.total > 10
        with pytest.raises(UsageError, match="no embeddings"):
            bare.refine(second_stage=True)
        with pytest.raises(UsageError, match="only codes"):
            Session(catalog, backend, embedder=session.embedder)


def test_deleted_marks_are_left_out(folder, tmp_path, labels):
    ingest([folder / "images"], tmp_path / "copy")
    catalog = Catalog.open(tmp_path / "copy")
    with open_backend("cpu", catalog) as backend:
        session = Session(catalog, backend)
        rows = np.flatnonzero(labels == 1)
        session.mark(rows[:8], +1)
        catalog.delete(rows[:2])
        ranking = session.refine()
        assert session.positives.tolist() == rows[2:8].tolist()
        assert not np.isin(rows[:2], ranking.ids).any()


@pytest.mark.parametrize("model", MODELS)
def test_every_model_finds_the_group(session, labels, model):
    mark_some(session, labels, 2)
    ranking = session.refine(model)
    found = ranking.ids[ranking.matched]
    assert f1(found, np.flatnonzero(labels == 2)) > (0.3 if model.startswith("branch") else 0.6)
    assert np.isin(session.positives, found).all()
    assert (session.boxes is None) == (ranking.votes is None) == (model == "linear")
    assert ranking.source.endswith("bits+embeddings" if model == "linear" else "boxes+embeddings")
    if model == "linear":
        assert ranking.candidates == session.catalog.n
        with pytest.raises(UsageError, match="embeddings"):
            session.refine("linear", second_stage=False)
    else:
        votes = session.refine(model, second_stage=False)
        assert np.isin(session.positives, votes.ids[votes.matched]).all()


def test_suggestions_lie_nearest_to_the_cut(session, labels):
    mark_some(session, labels, 1)
    ranking = session.refine()
    suggested = session.suggest(10)
    away = np.abs(ranking.scores - np.float32(ranking.threshold))
    open_ = ~np.isin(ranking.ids, np.concatenate([session.positives, session.negatives]))
    assert np.isin(suggested, ranking.ids[open_]).all()
    assert away[np.isin(ranking.ids, suggested)].max() <= np.sort(away[open_])[14]


def test_marks_on_suggestions_do_not_lower_the_cut(session, labels):
    mark_some(session, labels, 1)
    session.refine()
    suggested = session.suggest(20)
    right = labels[suggested] == 1
    assert right.any()
    cuts = {}
    for origin in ("suggestion", "user"):
        for label, ids in ((+1, suggested[right]), (-1, suggested[~right])):
            session.mark(ids, label, origin=origin)
        cuts[origin] = session.refine().threshold
        session.unmark(suggested)
    assert cuts["suggestion"] > cuts["user"]
