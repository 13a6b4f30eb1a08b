"""Decision branches and their ensemble: boxes that hold every positive, grown around groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import clusters, marks

from gpubranches.errors import UsageError
from gpubranches.learning.branches import BranchEnsemble, DecisionBranches, feature_subsets

LEARNERS = [DecisionBranches, BranchEnsemble]
SUBSETS = ["separating", "pool"]
GOLDEN = [
    ([1], [22], [22]),
    ([2], [154], [156]),
    ([2], [141], [143]),
    ([0], [57], [59]),
    ([1, 2], [0, 81], [16, 103]),
    ([1], [11], [11]),
    ([0, 1], [97, 11], [122, 22]),
    ([0, 2], [22, 145], [81, 166]),
    ([0, 2], [24, 84], [42, 132]),
]
"""Boxes of two estimators over made-up marks: integers in, integers out."""


@pytest.mark.parametrize("subsets", SUBSETS)
@pytest.mark.parametrize("learner", LEARNERS)
@settings(max_examples=60, deadline=None)
@given(data=marks(), seed=st.integers(-3, 2**64))
def test_every_estimator_holds_every_positive_in_sound_boxes(learner, subsets, data, seed):
    codes, y = data
    codes_before, y_before = codes.copy(), y.copy()
    model = learner(subsets=subsets, random_state=seed).fit(codes, y)
    boxes = model.boxes_
    assert (boxes.low <= boxes.high).all()
    assert ((boxes.features >= 0) & (boxes.features < codes.shape[1])).all()
    assert (boxes.votes(codes[y]) == boxes.n_estimators).all()
    assert np.array_equal(codes, codes_before)
    assert np.array_equal(y, y_before)


@settings(max_examples=60, deadline=None)
@given(data=marks(levels=(3,)), seed=st.integers(0, 100))
def test_a_box_grows_over_no_more_than_one_negative_for_eight_positives_and_is_cut_where_it_did(data, seed):
    codes, y = data
    positives = np.unique(codes[y], axis=0)
    negatives = np.array([code for code in np.unique(codes[~y], axis=0) if not (code == positives).all(1).any()])
    for box in DecisionBranches(top_down=False, random_state=seed).fit(codes, y).boxes_:
        wrong = box.contains(negatives).sum() if len(negatives) else 0
        assert 8 * wrong <= box.contains(positives).sum()
    cut = DecisionBranches(random_state=seed).fit(codes, y).boxes_
    assert cut.votes(codes[y]).all()
    assert not len(negatives) or not cut.votes(negatives).any()


def test_boxes_are_the_same_on_every_machine():
    rows = np.arange(60)
    codes = np.stack([rows * 37 % 101 + 40, rows * 53 % 97, rows * rows % 89 + 100], axis=1).astype(np.uint8)
    boxes = BranchEnsemble(n_estimators=2, random_state=7).fit(codes, rows % 12 == 0).boxes_
    assert [(box.features.tolist(), box.low.tolist(), box.high.tolist()) for box in boxes] == GOLDEN


@pytest.mark.parametrize("subsets", SUBSETS)
def test_a_majority_finds_unmarked_items_of_the_group_and_few_others(subsets):
    codes, y = clusters(200, 4000, seed=1)
    marked = np.concatenate([np.arange(15), np.arange(200, 1200)])
    boxes = BranchEnsemble(subsets=subsets).fit(codes[marked], y[marked]).boxes_
    assert boxes.n_estimators == 25
    matched = boxes.votes(codes) > 12
    unmarked = np.setdiff1d(np.arange(len(codes)), marked)
    assert matched[unmarked][y[unmarked]].mean() > 0.8
    assert matched[unmarked][~y[unmarked]].mean() < 0.002
    assert (boxes.votes(codes)[y] > 0).mean() > 0.99


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("n_positive", [1, 2, 40])
def test_positives_alone_give_boxes_around_them(learner, n_positive):
    codes, y = clusters(n_positive, 500)
    boxes = learner().fit(codes[y], y[y]).boxes_
    assert (boxes.votes(codes[y]) == boxes.n_estimators).all()
    assert (boxes.votes(codes[~y]) > boxes.n_estimators // 2).mean() < 0.2


@pytest.mark.parametrize("learner", LEARNERS)
def test_ten_thousand_marks_at_random_end(learner):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (10_000, 32), np.uint8)
    y = rng.random(10_000) < 0.02
    boxes = learner().fit(codes, y).boxes_
    assert (boxes.votes(codes[y]) == boxes.n_estimators).all()


@pytest.mark.parametrize(
    "model",
    [
        BranchEnsemble(n_estimators=0),
        BranchEnsemble(n_estimators=70_000),
        BranchEnsemble(negatives_per_positive=0),
        DecisionBranches(trials=0),
        DecisionBranches(exclusions=0),
        *(learner(subsets="all") for learner in LEARNERS),
        *(learner(expansion=101) for learner in LEARNERS),
    ],
)
def test_wrong_settings_are_refused(model):
    with pytest.raises(UsageError, match="expected"):
        model.fit(*clusters(3, 5))


def test_the_pool_has_the_subsets_of_the_papers():
    pool = feature_subsets(32)
    assert [len(subset) for subset in pool] == [4] * 64 + [6] * 32 + [8] * 8
    assert len(set(pool)) == 104
    assert {dim for subset in pool for dim in subset} == set(range(32))
    assert all(subset == tuple(sorted(set(subset))) for subset in pool)


@pytest.mark.parametrize(("d", "count"), [(1, 1), (4, 1), (5, 5 + 1), (8, 64 + 28 + 1), (9, 64 + 32 + 8)])
def test_the_pool_shrinks_with_the_dims(d, count):
    assert len(set(feature_subsets(d))) == len(feature_subsets(d)) == count


def test_pool_boxes_use_subsets_of_the_pool():
    codes, y = clusters()
    subsets = [set(subset) for subset in feature_subsets(32)]
    boxes = BranchEnsemble(subsets="pool").fit(codes, y).boxes_
    assert len(boxes) >= 25
    for box in boxes:
        assert any(set(box.features.tolist()) <= subset for subset in subsets)
