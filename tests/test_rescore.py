import numpy as np
import pytest

from gpubranches.catalog import Catalog
from gpubranches.core.bitmaps import pack_bitmap
from gpubranches.core.boxes import Box, Boxes
from gpubranches.core.embedding_space import EmbeddingSpace
from gpubranches.core.tie_order import best_first
from gpubranches.core.whitening import Whitening
from gpubranches.encoders.quantizers import ScalarQuantizer, SignQuantizer
from gpubranches.engines import open_backend
from gpubranches.errors import ArrayError, LabelError, NotFittedError
from gpubranches.learning.mixture import WINDOW, mixture_cut
from gpubranches.retrieval.rescore import Rescorer

D = 32
N = 3000
GROUP = 120
EVERYTHING = Boxes([Box(np.zeros(0, np.int16), np.zeros(0, np.uint8), np.zeros(0, np.uint8))])


def rows(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, D))
    x[:GROUP] = 1.6 * rng.standard_normal(D) + 0.75 * x[:GROUP]
    x += 1.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


def make_catalog(path):
    x = rows()
    signs, scalar = SignQuantizer().fit(x), ScalarQuantizer().fit(x[:, :8])
    catalog = Catalog.create(path, space=EmbeddingSpace(), d=8, signs=signs, scalar=scalar)
    planes, scales = signs.encode(x)
    catalog.append(
        scalar.encode(np.ascontiguousarray(x[:, :8])),
        ids=np.arange(N),
        embeddings=lambda at: x[at].astype(np.float16),
        bits=planes,
        scales=scales,
    )
    return catalog


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return make_catalog(tmp_path_factory.mktemp("rescore") / "catalog")


@pytest.fixture(scope="module", params=["oracle", "cpu"])
def backend(request, catalog):
    with open_backend(request.param, catalog) as opened:
        yield opened


POSITIVES = np.arange(10)
NEGATIVES = np.arange(500, 510)
RANDOM = np.arange(1000, 1300)


def fitted(catalog, **options):
    wrong = catalog.embeddings(np.concatenate([NEGATIVES, RANDOM]))
    return Rescorer(**options).fit(catalog.embeddings(POSITIVES), wrong, catalog.signs.mean_)


def answer(rescorer, backend, ids=None):
    where = None
    if ids is not None:
        flags = np.zeros(backend.catalog.n_positions, np.bool_)
        flags[backend.catalog.positions(ids)] = True
        where = pack_bitmap(flags)
    return rescorer.rank(backend, EVERYTHING, positives=POSITIVES, negatives=NEGATIVES, where=where)


def test_it_finds_the_group(catalog, backend):
    ranking = answer(fitted(catalog), backend)
    found = ranking.ids[ranking.matched]
    right = (found < GROUP).sum()
    assert 2 * right / (len(found) + GROUP) > 0.9
    assert ranking.total == len(found)
    assert ranking.candidates == N


def test_the_ranking_is_aligned_and_ordered(catalog, backend):
    rescorer = fitted(catalog, limit=500)
    ranking = answer(rescorer, backend)
    assert np.array_equal(best_first(ranking.scores, ranking.ids), np.arange(len(ranking.ids)))
    x = catalog.embeddings(ranking.ids) - catalog.signs.mean_
    assert np.allclose(ranking.scores, x @ rescorer.weights_ + rescorer.intercept_, atol=1e-4)
    unmarked = ~np.isin(ranking.ids, np.concatenate([POSITIVES, NEGATIVES]))
    above = ranking.scores >= np.float32(ranking.threshold)
    assert np.array_equal(ranking.matched[unmarked], above[unmarked])


def test_marks_keep_their_label_whatever_their_score(catalog, backend):
    rescorer = fitted(catalog)
    ranking = rescorer.rank(backend, EVERYTHING, positives=np.array([2500, 2501]), negatives=np.array([3, 4]))
    assert ranking.matched[np.isin(ranking.ids, [2500, 2501])].all()
    assert not ranking.matched[np.isin(ranking.ids, [3, 4])].any()


def test_positives_outside_the_candidates_are_returned(catalog, backend):
    ranking = answer(fitted(catalog), backend, ids=np.arange(5, 400))
    added = np.isin(ranking.ids, np.arange(5))
    assert added.sum() == 5
    assert ranking.matched[added].all()
    assert ranking.candidates == 395


def test_no_candidates_leave_the_positives(catalog, backend):
    ranking = answer(fitted(catalog), backend, ids=np.zeros(0, np.int64))
    assert sorted(ranking.ids) == POSITIVES.tolist()
    assert ranking.total == len(POSITIVES)
    assert ranking.candidates == 0


@pytest.mark.parametrize("whitened", [False, True])
def test_words_tell_what_of_a_mark_is_meant(whitened):
    rng = np.random.default_rng(0)
    wanted, other = np.eye(24, dtype=np.float32)[:2]
    background = 0.3 * rng.standard_normal((400, 24)).astype(np.float32)
    whitening = Whitening().fit(background) if whitened else None

    def prefers_the_wanted(p, words):
        marked = (wanted + 1.5 * other + background[:p]).astype(np.float32)
        fitted = Rescorer().fit(marked, background, np.zeros(24, np.float32), whitening, words=words)
        return fitted.weights_ @ wanted > fitted.weights_ @ other

    assert not prefers_the_wanted(1, None)
    assert prefers_the_wanted(1, wanted)
    assert prefers_the_wanted(1, 7 * wanted)
    assert not prefers_the_wanted(1, np.zeros(24, np.float32))
    with pytest.raises(ArrayError, match="words"):
        prefers_the_wanted(1, wanted[:5])


def test_a_small_limit_does_not_cut_the_matches_short(catalog, backend):
    rescorer = fitted(catalog)
    whole = answer(fitted(catalog, limit=N), backend)
    narrow = answer(fitted(catalog, limit=20), backend)
    assert len(narrow.ids) < N
    assert narrow.total > 90
    lost = np.setdiff1d(whole.ids[whole.scores >= narrow.threshold], narrow.ids)
    assert len(lost) <= 1
    assert len(answer(rescorer, backend).ids) == 2000


def propagated(rescorer, backend, catalog, ids=None, **marks):
    where = None
    if ids is not None:
        flags = np.zeros(backend.catalog.n_positions, np.bool_)
        flags[catalog.positions(ids)] = True
        where = pack_bitmap(flags)
    return rescorer.rank(
        backend,
        EVERYTHING,
        positives=marks.get("positives", POSITIVES),
        negatives=NEGATIVES,
        where=where,
        embeddings=catalog.embeddings,
    )


def test_scores_of_neighbours_change_the_ranking(catalog, backend):
    rescorer = fitted(catalog)
    alone, together = answer(rescorer, backend), propagated(rescorer, backend, catalog)
    assert not np.array_equal(alone.scores, together.scores)
    unmarked = np.setdiff1d(np.arange(GROUP), POSITIVES)
    place = [np.flatnonzero(np.isin(ranking.ids, unmarked)).mean() for ranking in (alone, together)]
    assert place[1] <= place[0]
    assert np.array_equal(best_first(together.scores, together.ids), np.arange(len(together.ids)))
    found = together.ids[together.matched]
    assert 2 * (found < GROUP).sum() / (len(found) + GROUP) > 0.95
    assert not np.isin(NEGATIVES, found).any()


def test_spreading_copes_with_little(catalog, backend):
    rescorer = fitted(catalog)
    for ids in (np.zeros(0, np.int64), np.array([700]), np.arange(20)):
        ranking = propagated(rescorer, backend, catalog, ids)
        assert np.isin(POSITIVES, ranking.ids[ranking.matched]).all()
        assert np.isfinite(ranking.scores).all()


def test_where_most_of_the_window_matches_nothing_is_spread(catalog, backend, monkeypatch):
    monkeypatch.setattr("gpubranches.retrieval.rescore._MOST_REACHED", 40)
    rescorer = fitted(catalog, reached=10)
    assert np.array_equal(propagated(rescorer, backend, catalog).scores, answer(rescorer, backend).scores)


def test_propagation_needs_the_positives_of_fit(catalog, backend):
    with pytest.raises(ArrayError, match="positives"):
        propagated(fitted(catalog), backend, catalog, positives=POSITIVES[:3])


def test_a_checked_negative_weighs_more_than_a_random_one_by_as_much_as_is_wished(catalog):
    right, wrong = catalog.embeddings(POSITIVES), catalog.embeddings(np.concatenate([[90], RANDOM]))
    mean = catalog.signs.mean_
    unchecked, *models = (
        Rescorer(negative_weight=weight).fit(right, wrong, mean, n_checked=count)
        for weight, count in ((10, 0), (1, 1), (10, 1), (100, 1))
    )
    scores = [(wrong[0] - mean) @ model.weights_ + model.intercept_ for model in models]
    assert scores[0] > scores[1] > scores[2]
    assert np.array_equal(models[0].weights_, unchecked.weights_)
    assert np.array_equal(models[1].weights_, Rescorer().fit(right, wrong, mean, n_checked=1).weights_)


def test_the_cut_is_set_by_the_fair_positives(catalog, backend):
    easy, hard = POSITIVES, np.arange(2500, 2503)
    right = catalog.embeddings(np.concatenate([easy, hard]))
    wrong, mean = catalog.embeddings(RANDOM), catalog.signs.mean_
    cuts = []
    for fair in (None, np.arange(13) < 10, np.zeros(13, np.bool_)):
        model = Rescorer().fit(right, wrong, mean, fair=fair)
        ranking = model.rank(backend, EVERYTHING, positives=np.concatenate([easy, hard]), negatives=NEGATIVES)
        cuts.append(ranking.threshold)
    assert cuts[1] > cuts[0]
    assert cuts[2] == cuts[0]


def test_deleted_positives_are_left_out(tmp_path):
    catalog = make_catalog(tmp_path / "catalog")
    rescorer = fitted(catalog)
    catalog.delete([0, 1])
    with open_backend("cpu", catalog) as backend:
        ranking = answer(rescorer, backend)
    assert not np.isin([0, 1], ranking.ids).any()
    assert np.isin(np.arange(2, 10), ranking.ids).all()


@pytest.mark.parametrize(("p", "m"), [(1, 1), (1, 300), (2, 1), (3, 5), (10, 2)])
def test_few_marks_give_a_cut(catalog, backend, p, m):
    rescorer = Rescorer().fit(catalog.embeddings(np.arange(p)), catalog.embeddings(RANDOM[:m]), catalog.signs.mean_)
    ranking = rescorer.rank(backend, EVERYTHING, positives=np.arange(p), negatives=NEGATIVES[:0])
    assert np.isfinite(ranking.threshold)
    assert ranking.total >= p


def test_identical_positives_give_a_cut(catalog, backend):
    same = np.repeat(catalog.embeddings([0]), 8, axis=0)
    rescorer = Rescorer().fit(same, catalog.embeddings(RANDOM), catalog.signs.mean_)
    assert answer(rescorer, backend).total >= len(POSITIVES)


@pytest.mark.parametrize("wanted", [10, 60, 900, 3000])
def test_the_mixture_follows_how_many_are_wanted(wanted):
    rng = np.random.default_rng(4)
    scores = np.concatenate([rng.normal(2, 1, wanted), rng.normal(-6, 1.5, 20000)]).astype(np.float32)
    truth = np.arange(len(scores)) < wanted
    best = max(f1(truth, scores >= cut) for cut in np.linspace(-3, 3, 61))
    assert f1(truth, scores >= mixture_cut(scores, 2.0, 1.0)) > best - 0.05
    assert wanted < WINDOW or (scores >= mixture_cut(scores, 2.0, 1.0)).sum() > WINDOW


def f1(truth, found):
    return 2 * (truth & found).sum() / (truth.sum() + found.sum())


def test_rarer_wanted_items_are_cut_higher():
    rng = np.random.default_rng(5)
    wanted = rng.normal(2, 1.5, 60)
    few, many = (np.concatenate([wanted, rng.normal(-5, 1.5, n)]).astype(np.float32) for n in (2000, 200000))
    assert mixture_cut(few, 2.0, 1.5) < mixture_cut(many, 2.0, 1.5)


def test_the_mixture_copes_with_little():
    assert mixture_cut(np.zeros(0, np.float32), 1.0, 1.0) is None
    for scores in ([1.0], [1.0, 1.0], [-50.0] * 5, [50.0] * 300):
        assert np.isfinite(mixture_cut(np.array(scores, np.float32), 2.0, 1.0))


def test_wrong_input_is_refused(catalog, backend):
    x, mean = catalog.embeddings(POSITIVES), catalog.signs.mean_
    with pytest.raises(LabelError, match="positive"):
        Rescorer().fit(x[:0], x, mean)
    with pytest.raises(LabelError, match="negative"):
        Rescorer().fit(x, x[:0], mean)
    with pytest.raises(ArrayError, match="positives"):
        Rescorer().fit(x[:, :5], x, mean)
    with pytest.raises(NotFittedError):
        answer(Rescorer(), backend)


def test_marks_that_score_alike_do_not_make_a_group_of_the_background():
    background = -1.2 + 0.6 * np.random.default_rng(0).standard_normal(191)
    scores = np.concatenate([background, np.linspace(2, 2.3, 9)]).astype(np.float32)
    for apart in (0.0, 0.02, 0.08):
        held_out = 2.1 + apart * np.array([-1, 1, -1, 1, -1, 1, -1, 1.0])
        assert 0 < Rescorer().cut(scores, held_out, 8) < 2
