"""What every learner of boxes promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import clusters, marks

from gpubranches.errors import ArrayError, LabelError
from gpubranches.learning.branches import BranchEnsemble, DecisionBranches
from gpubranches.learning.branches_classic import ClassicBranches, ClassicEnsemble

LEARNERS = [DecisionBranches, BranchEnsemble, ClassicBranches, ClassicEnsemble]


def as_lists(model):
    return model.boxes_.to_json()


@pytest.mark.parametrize("learner", LEARNERS)
@settings(max_examples=25, deadline=None)
@given(data=marks(), seed=st.integers(0, 100), order=st.randoms(use_true_random=False))
def test_boxes_depend_on_the_marks_and_the_seed_not_on_their_order(learner, data, seed, order):
    codes, y = data
    rows = list(range(len(codes)))
    order.shuffle(rows)
    first = learner(random_state=seed).fit(codes, y)
    second = learner(random_state=seed).fit(codes[rows], np.where(y, 1, -1)[rows])
    assert as_lists(first) == as_lists(second)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_generator_is_advanced_and_seeds_differ(learner):
    codes, y = clusters()
    rng = np.random.default_rng(3)
    first, second = (as_lists(learner(random_state=rng).fit(codes, y)) for _ in range(2))
    again = as_lists(learner(random_state=np.random.default_rng(3)).fit(codes, y))
    assert first == again
    assert first != second
    assert as_lists(learner(random_state=1).fit(codes, y)) != as_lists(learner().fit(codes, y))


@pytest.mark.parametrize("learner", LEARNERS)
def test_one_positive_among_negatives_is_held(learner):
    codes, y = clusters(1, 300)
    boxes = learner().fit(codes, y).boxes_
    assert (boxes.votes(codes[y]) == boxes.n_estimators).all()


@pytest.mark.parametrize("learner", LEARNERS)
def test_codes_marked_both_ways_are_positive(learner):
    codes, y = clusters(10, 100)
    twice = np.concatenate([codes, codes[y]])
    contradicted = learner().fit(twice, np.concatenate([y, np.zeros(10, bool)]))
    assert as_lists(contradicted) == as_lists(learner().fit(codes, y))
    lone = learner().fit(np.full((4, 3), 9, np.uint8), [True, False, False, False])
    assert len(lone.boxes_) >= 1
    assert (lone.boxes_.votes(np.full((1, 3), 9, np.uint8)) == lone.boxes_.n_estimators).all()


@pytest.mark.parametrize("learner", LEARNERS)
def test_constant_dims_and_the_ends_of_the_range_are_held(learner):
    codes = np.zeros((40, 6), np.uint8)
    codes[:20, 0] = 255
    codes[:, 1] = np.arange(40)
    for own in (codes, 255 - codes):
        boxes = learner().fit(own, np.arange(40) < 20).boxes_
        assert (boxes.votes(own) > boxes.n_estimators // 2).tolist() == [True] * 20 + [False] * 20


@pytest.mark.parametrize("learner", LEARNERS)
def test_wrong_marks_are_refused(learner):
    codes, y = clusters(3, 5)
    with pytest.raises(LabelError, match="at least one positive"):
        learner().fit(codes, np.zeros(8, bool))
    with pytest.raises(LabelError, match="at least one positive"):
        learner().fit(codes[:0], y[:0])
    with pytest.raises(ArrayError, match="one mark per row"):
        learner().fit(codes, y[:5])
    with pytest.raises(ArrayError, match=r"\+1 and -1"):
        learner().fit(codes, np.arange(8))
    with pytest.raises(ArrayError, match=r"\+1 and -1"):
        learner().fit(codes, ["yes"] * 8)
    with pytest.raises(ArrayError, match="uint8"):
        learner().fit(codes.astype(np.float32), y)
    with pytest.raises(ArrayError, match="at least one dim"):
        learner().fit(codes[:, :0], y)
