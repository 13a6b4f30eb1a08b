"""Marks that learners are tested on."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@st.composite
def marks(draw, levels=(3, 256)):
    """Codes with few levels, so that duplicates and contradictions abound, and marks with a positive."""
    m, d = draw(st.integers(1, 30)), draw(st.integers(1, 9))
    top = draw(st.sampled_from(levels)) - 1
    codes = draw(hnp.arrays(np.uint8, (m, d), elements=st.integers(0, top)))
    y = draw(hnp.arrays(np.bool_, m))
    y[draw(st.integers(0, m - 1))] = True
    return codes, y


def clusters(n_positive=22, n_negative=1000, d=32, seed=0):
    """A tight group of positives in a broad background of negatives."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(80, 170, d)
    positives = centre + rng.normal(0, 8, (n_positive, d))
    negatives = rng.normal(128, 30, (n_negative, d))
    codes = np.clip(np.concatenate([positives, negatives]), 0, 255).astype(np.uint8)
    return codes, np.arange(len(codes)) < n_positive
