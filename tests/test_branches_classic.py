"""The papers' learners: every positive of a sample is held, answers are reproducible, bounds never wrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning import clusters, marks

from gpubranches.errors import UsageError
from gpubranches.learning.branches import estimator_keys, feature_subsets
from gpubranches.learning.branches_classic import ClassicBranches, ClassicEnsemble, bootstrap
from gpubranches.learning.branches_classic_kernels import impurity, push

LEARNERS = [ClassicBranches, ClassicEnsemble]
GOLDEN = [
    ([0, 1], [79, 21], [103, 55]),
    ([0, 1, 2], [95, 0, 0], [123, 22, 179]),
    ([1, 2], [0, 149], [79, 161]),
    ([0], [0], [41]),
]
"""Boxes of two estimators over made-up marks."""


def distinct(codes, y):
    """Distinct positives, and negatives that are not marked right as well."""
    positives = np.unique(codes[y], axis=0)
    negatives = np.unique(codes[~y], axis=0)
    return positives, np.array([code for code in negatives if not (code == positives).all(1).any()], np.uint8)


@st.composite
def settings_of(draw):
    return {
        "share": draw(st.sampled_from([0.001, 0.5, 1.0])),
        "top_down": draw(st.booleans()),
        "bounded": draw(st.booleans()),
        "random_state": draw(st.integers(-3, 2**64)),
    }


@settings(max_examples=60)
@given(data=marks(), options=settings_of())
def test_the_single_model_holds_every_positive_in_sound_boxes(data, options):
    codes, y = data
    codes_before, y_before = codes.copy(), y.copy()
    boxes = ClassicBranches(**options).fit(codes, y).boxes_
    assert (boxes.low <= boxes.high).all()
    assert ((boxes.features >= 0) & (boxes.features < codes.shape[1])).all()
    assert boxes.n_estimators == 1
    assert (boxes.votes(codes[y]) == 1).all()
    assert np.array_equal(codes, codes_before)
    assert np.array_equal(y, y_before)


@settings(max_examples=30)
@given(data=marks(), options=settings_of())
def test_an_estimator_holds_every_positive_of_its_sample(data, options):
    codes, y = data
    model = ClassicEnsemble(**options).fit(codes, y)
    positives, negatives = distinct(codes, y)
    m, p = len(positives) + len(negatives), len(positives)
    assert (model.boxes_.votes(positives) > 0).all()
    for e, key in enumerate(estimator_keys(model._seed(), 25)):
        drawn = bootstrap(m, p, key)
        assert drawn.sum() == m
        sample = positives[drawn[:p] > 0]
        own = [box for box, owner in zip(model.boxes_, model.boxes_.estimator, strict=True) if owner == e]
        assert len(sample)
        assert np.any([box.contains(sample) for box in own], axis=0).all()


@settings(max_examples=60)
@given(data=marks(levels=(3, 20)), seed=st.integers(0, 100))
def test_a_box_that_is_split_holds_no_negative(data, seed):
    codes, y = data
    _, negatives = distinct(codes, y)
    boxes = ClassicBranches(random_state=seed).fit(codes, y).boxes_
    if len(negatives):
        assert (boxes.votes(negatives) == 0).all()


def test_boxes_are_the_same_on_every_machine():
    rows = np.arange(60)
    codes = np.stack([rows * 37 % 101 + 40, rows * 53 % 97, rows * rows % 89 + 100], axis=1).astype(np.uint8)
    boxes = ClassicEnsemble(n_estimators=2, random_state=7).fit(codes, rows % 12 == 0).boxes_
    assert [(box.features.tolist(), box.low.tolist(), box.high.tolist()) for box in boxes] == GOLDEN


def test_a_majority_finds_unmarked_items_of_the_group_and_few_others():
    codes, y = clusters(200, 4000, seed=1)
    marked = np.concatenate([np.arange(15), np.arange(200, 1200)])
    boxes = ClassicEnsemble().fit(codes[marked], y[marked]).boxes_
    matched = boxes.votes(codes) > 12
    unmarked = np.setdiff1d(np.arange(len(codes)), marked)
    assert matched[unmarked][y[unmarked]].mean() > 0.5
    assert matched[unmarked][~y[unmarked]].mean() < 0.002


@pytest.mark.parametrize("d", [4, 7, 16, 32, 40])
@pytest.mark.parametrize("learner", LEARNERS)
def test_codes_of_any_dims_are_learnt_over_the_pool(learner, d):
    codes, y = clusters(12, 300, d=d)
    boxes = learner(top_down=False).fit(codes, y).boxes_
    subsets = [set(subset) for subset in feature_subsets(d)]
    assert all(any(set(box.features.tolist()) <= subset for subset in subsets) for box in boxes)
    assert (boxes.votes(codes[y]) > boxes.n_estimators // 2).all()
    assert (boxes.votes(codes[~y]) > boxes.n_estimators // 2).mean() < 0.05


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("n_positive", [1, 2, 40])
def test_positives_alone_give_boxes_around_them(learner, n_positive):
    codes, y = clusters(n_positive, 500)
    boxes = learner().fit(codes[y], y[y]).boxes_
    assert (boxes.votes(codes[y]) > 0).all()
    assert (boxes.votes(codes[~y]) > 0).mean() < 0.2


@pytest.mark.parametrize("learner", LEARNERS)
def test_three_thousand_marks_at_random_end(learner):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (3_000, 16), np.uint8)
    y = rng.random(3_000) < 0.02
    boxes = learner().fit(codes, y).boxes_
    assert (boxes.votes(codes[y]) > 0).all()


@given(st.lists(st.integers(0, 500), min_size=4, max_size=4))
def test_the_impurity_is_that_of_gini(counts):
    right_in, wrong_in, right_out, wrong_out = counts
    expected = 0.0
    for right, wrong in ((right_in, wrong_in), (right_out, wrong_out)):
        n = right + wrong
        if n:
            expected += n * (1 - (right / n) ** 2 - (wrong / n) ** 2)
    assert impurity(np.array(counts)) == pytest.approx(expected / 2, abs=1e-9)


@settings(max_examples=60)
@given(data=st.data(), step=st.sampled_from([-1, 1]), reach=st.integers(1, 8))
def test_a_bound_is_pushed_to_the_least_impurity_within_reach(data, step, reach):
    codes = data.draw(st.lists(st.tuples(st.integers(0, 255), st.booleans()), max_size=30))
    bound = data.draw(st.integers(0, 255))
    right, wrong = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for code, is_right in codes:
        (right if is_right else wrong)[code] += 1
    outer = sorted({code for code, _ in codes if step * code > step * bound}, key=lambda code: step * code)
    counts = np.array([1, 0, right[outer].sum(), wrong[outer].sum() + 5])
    tries = [bound, *outer[:reach]] if right[outer].any() else [bound]
    scores = []
    for stop in tries:
        inside = [code for code in outer if step * code <= step * stop]
        more = np.array([right[inside].sum(), wrong[inside].sum()])
        scores.append(impurity(counts + np.concatenate([more, -more])))
    taken, following = push(right, wrong, bound, step, reach, counts.copy())
    assert taken == tries[int(np.argmin(scores))]
    assert following == next((code for code in outer if step * code > step * taken), 256 if step > 0 else -1)


@pytest.mark.parametrize(
    "model",
    [
        *(learner(share=share) for learner in LEARNERS for share in (0, 1.01)),
        *(ClassicEnsemble(n_estimators=count) for count in (0, 70_000)),
    ],
)
def test_wrong_settings_are_refused(model):
    with pytest.raises(UsageError, match="expected"):
        model.fit(*clusters(3, 5))
