"""Trees and forests as boxes: what scikit-learn predicts is what the votes say, for every code there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from gpubranches.core.boxes import Boxes
from gpubranches.errors import ArrayError, LabelError, UsageError
from gpubranches.learning.trees import DecisionTree, RandomForest, boxes_of


def marks(seed, m=300, d=6, levels=256):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, levels, (m, d)).astype(np.uint8)
    y = (codes[:, 0].astype(int) + codes[:, 1] > levels) ^ (rng.random(m) < 0.1)
    y[:2] = True, False
    return codes, y, rng.integers(0, levels, (3000, d)).astype(np.uint8)


@given(st.integers(0, 1000), st.sampled_from([2, 5, 256]))
@settings(max_examples=20)
def test_a_tree_votes_as_it_predicts(seed, levels):
    codes, y, others = marks(seed, levels=levels)
    tree = DecisionTreeClassifier(random_state=seed).fit(codes, y)
    boxes = DecisionTree(random_state=seed).fit(codes, y).boxes_
    assert np.array_equal(boxes.votes(others) > 0, tree.predict(others))
    assert boxes.n_estimators == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_forest_votes_as_its_trees_predict(seed):
    codes, y, others = marks(seed)
    forest = RandomForestClassifier(25, random_state=seed, n_jobs=1).fit(codes, y)
    boxes = RandomForest(random_state=seed).fit(codes, y).boxes_
    votes = np.sum([tree.predict(others) for tree in forest.estimators_], axis=0)
    assert np.array_equal(boxes.votes(others), votes)
    assert np.array_equal(boxes.votes(others) > 12, forest.predict(others))


def test_the_leaves_of_a_tree_do_not_overlap():
    codes, y, others = marks(4)
    tree = DecisionTreeClassifier(random_state=4).fit(codes, y)
    boxes = boxes_of([tree])
    apart = Boxes(list(boxes), range(len(boxes)))
    assert apart.votes(others).max() == 1


def test_a_limited_tree_is_boxes_too():
    """Leaves that hold both kinds are positive by majority, an even one is not, as predict has it."""
    codes, y, others = marks(5)
    tree = DecisionTreeClassifier(max_depth=2, random_state=5).fit(codes, y)
    assert np.array_equal(boxes_of([tree]).votes(others) > 0, tree.predict(others))
    even = DecisionTreeClassifier().fit(np.zeros((2, 1), np.uint8), [True, False])
    assert len(boxes_of([even])) == 0


def test_wrong_marks_are_refused():
    codes, y, _ = marks(0)
    for learner in (DecisionTree(), RandomForest()):
        with pytest.raises(LabelError, match="both kinds"):
            learner.fit(codes, np.ones(len(codes), bool))
        with pytest.raises(ArrayError, match="codes"):
            learner.fit(codes.astype(int), y)
        with pytest.raises(ArrayError, match="y"):
            learner.fit(codes, y[1:])
    with pytest.raises(UsageError, match="n_estimators"):
        RandomForest(0).fit(codes, y)
