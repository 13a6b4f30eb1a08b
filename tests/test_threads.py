"""BLAS on one thread: for as long as any block of `one_thread` runs, in every thread, and as before after it."""

import subprocess
import sys
from pathlib import Path

import pytest

FIRST = """
import sys, threading
sys.path.insert(0, {tests!r})
import scipy.linalg  # its BLAS is to be counted, too
from threadpoolctl import ThreadpoolController
from gpubranches.core.threads import one_thread

def counts():
    return [lib.num_threads for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]

def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]

# By a thread that ends, since threadpoolctl lets a living one alone change the limit from then on.
in_thread(lambda: [lib.set_num_threads(3) for lib in ThreadpoolController().lib_controllers])
before = counts()
assert set(before) == {{3}}, before
"""
SHARED = """
def held(inside, leave):
    with one_thread():
        inside.set()
        leave.wait()

for main_ends_last in (False, True):
    inside, leave = threading.Event(), threading.Event()
    other = threading.Thread(target=held, args=(inside, leave))
    with one_thread():
        with one_thread():
            other.start()
            inside.wait()
            assert set(counts()) == {1}
        assert set(counts()) == set(in_thread(counts)) == {1}
        if main_ends_last:
            leave.set()
            other.join()
            assert set(counts()) == {1}, "this thread is in its block"
    if not main_ends_last:
        assert set(counts()) == {1}, "the other thread is in its block"
        leave.set()
        other.join()
    assert counts() == before
"""
FAILS = """
try:
    with one_thread():
        raise KeyError
except KeyError:
    assert counts() == before
"""
OWN = """
with ThreadpoolController().limit(limits=2, user_api="blas"):  # a limit of the program that calls
    with one_thread():
        assert set(counts()) == {1}
    assert set(counts()) == {2}
assert counts() == before
"""
FINDS = """
import tempfile
from pathlib import Path
from worlds import World
from gpubranches import Session, open_backend
from gpubranches.service import session as module

used, find_all = [], module.find_all
module.find_all = lambda *given, **named: used.append(set(counts())) or find_all(*given, **named)
with tempfile.TemporaryDirectory() as folder:
    world = World(Path(folder) / "c", [300])
    with open_backend("oracle", world.catalog) as backend, Session(world.catalog, backend) as session:
        session.mark(world.ids[:6], 1)
        session.find_all()
assert used == [{1}]
assert counts() == before
"""
SERVES = """
import signal
from types import SimpleNamespace
from gpubranches.app import waitress_server

used, ended = [], []
dispatcher = SimpleNamespace(shutdown=lambda timeout: ended.append("threads"))
server = SimpleNamespace(task_dispatcher=dispatcher, close=lambda: ended.append("server"), pull_trigger=lambda: None)

def turn(server, timeout_s):
    used.append(set(in_thread(counts)))
    signal.raise_signal(signal.SIGTERM)

waitress_server._turn = turn
waitress_server._finish = lambda server, signals: used.append(set(in_thread(counts)))
waitress_server.run(server)
assert used == [{1}, {1}]
assert ended == ["threads", "server"]
assert counts() == before
"""


@pytest.mark.parametrize("program", [SHARED + FAILS + OWN, FINDS + SERVES], ids=["blocks", "find all, server"])
def test_blas_uses_one_thread_as_long_as_a_block_runs(program):
    """In a process of its own, where BLAS has three threads, also on a machine of one core."""
    code = FIRST.format(tests=str(Path(__file__).parent)) + program
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
