"""Values made once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpubranches.core.single_flight import SingleFlightCache


def test_a_value_is_made_once_for_all_who_ask_meanwhile():
    memo, made, started = SingleFlightCache(2), [], threading.Barrier(8)

    def make():
        made.append(threading.get_ident())
        asking.wait(10)
        return object()

    def ask(_):
        started.wait()
        return memo.get("a", make)

    asking = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(ask, range(8))
        asking.set()
        assert len(set(found)) == len(made) == 1


def test_the_last_values_are_kept_and_errors_are_not():
    memo, made = SingleFlightCache(2), []

    def make(key):
        made.append(key)
        if key == "bad":
            raise ValueError(key)
        return key

    for key in "abacab":
        assert memo.get(key, lambda key=key: make(key)) == key
    assert "".join(made) == "abcb"
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            memo.get("bad", lambda: make("bad"))
    assert made[-2:] == ["bad", "bad"]
