"""The contract of all backends, over questions that hypothesis draws."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st
from test_backends import NAMES, opened
from worlds import World, check_votes


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return World(tmp_path_factory.mktemp("parts") / "c", [4097, 1, 300, 4096], seed=5)


@given(st.integers(1, 4), st.none() | st.integers(0, 300), st.none() | st.floats(0, 1), st.integers(0, 40))
@settings(max_examples=20)
@pytest.mark.parametrize("backend_name", NAMES)
def test_votes_over_segments(parts, backend_name, min_votes, limit, share, count):
    with opened(backend_name, parts.catalog) as backend:
        check_votes(parts, backend, parts.boxes(count), min_votes, limit, share)
