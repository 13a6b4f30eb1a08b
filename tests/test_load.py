"""Of `benchmarks.load`: whether a number grows, who writes beside the server, refused users, a run of a few seconds."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.synthetic_catalogs import Clusters, write_embedded_catalog
from benchmarks.load import users
from benchmarks.load.process_watch import ProcessWatch, growth, slope
from benchmarks.load.report import holds, report
from benchmarks.load.server import Served
from benchmarks.load.users import Reply, User
from benchmarks.load.writer import copied_from, write
from gpubranches import Catalog

ROOT = Path(__file__).resolve().parent.parent


def test_a_slope_is_that_of_most_points():
    times = np.arange(100.0)
    assert slope(times, 3 * times + 7) == pytest.approx(3)
    spiked = np.where(times % 10 == 0, 1e6, 2 * times)
    assert slope(times, spiked) == pytest.approx(2, abs=0.3)
    assert slope([1.0], [5.0]) == slope([1.0, 1.0], [5.0, 9.0]) == 0


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        (lambda t: 400 + 0 * t, True),
        (lambda t: 400 + np.where(t < 100, 4 * t, 400), True),  # it grows until it is warm
        (lambda t: 400 + 30 * np.sin(t), True),
        (lambda t: 400 + 0.05 * t, True),
        (lambda t: 400 + 0.5 * t, False),
        (lambda t: 400 + 0.5 * t + 30 * np.sin(t), False),
        (lambda t: 400 + 100 * (t // 100), False),
    ],
)
def test_what_grows_beyond_its_bound_is_not_flat(values, flat):
    times = np.arange(600.0)
    assert growth(times, values(times), least=64, share=0.1).flat == flat


GROWS = """
import sys, time
folder, held = sys.argv[1], []
print("begun", flush=True)
for number in range(30):
    held.append(b"x" * (4 << 20))
    held.append(open(f"{folder}/{number}", "w"))
    held.append(open(f"{folder}/segments/{number}", "w"))  # not counted
    time.sleep(0.03)
print("grown", flush=True)
sys.stdin.read()
"""


def test_memory_and_handles_of_a_process_are_seen_to_grow(tmp_path):
    (tmp_path / "segments").mkdir()
    command = [sys.executable, "-c", GROWS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        watch = ProcessWatch(process.pid, tmp_path / "segments", every_s=0.01)
        assert process.stdout.readline() == "grown\n"
        watch.stop()
        process.stdin.close()
    assert not watch.memory_growth().flat
    assert not watch.handle_growth().flat
    assert max(watch.handles) - min(watch.handles) <= 31


def test_the_processor_time_of_a_process_is_a_share_of_one_core(tmp_path):
    spins = "import time\nwhile time.process_time() < .3: pass\nprint(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", spins], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        watch = ProcessWatch(process.pid, tmp_path, every_s=0.01)
        process.stdout.readline()
        while len(watch.times_s) < 2 or watch.processor_s[-1] < 0.2:  # the kernel counts in hundredths of seconds
            time.sleep(0.01)
        watch.stop()
        process.stdin.close()
    spent = watch.processor_s[-1] - watch.processor_s[0]
    assert 0 <= spent <= 0.4
    assert watch.processor_share() == pytest.approx(spent / (watch.times_s[-1] - watch.times_s[0]))


def test_what_is_written_beside_are_copies_of_which_half_go(tmp_path):
    owners = write_embedded_catalog(tmp_path / "c", Clusters(32), 1_000)

    class Thrice:
        times = 0

        def wait(self, seconds):
            self.times += 1
            return self.times > 3

    assert write(tmp_path / "c", 600, 0, Thrice()) == {"appended": 1800, "deleted": 600, "commits": 5}
    catalog = Catalog.open(tmp_path / "c")
    assert catalog.n == 1000 + 1800 - 600
    ids = np.array([1_001, 1_601, 2_799])
    sources = [copied_from(int(item), 1_000) for item in ids]
    assert sources == [1, 601, 799]
    assert np.array_equal(catalog.codes(ids), catalog.codes(sources))
    assert np.array_equal(catalog.embeddings(ids), catalog.embeddings(sources))
    assert len(owners) == 1_000


class ScriptedServer:
    """Stands for the connection of a user: answers each request by a function, and ends after `most` of them."""

    def __init__(self, ending, answer, most):
        self.ending, self.answer, self.most, self.asked = ending, answer, most, []

    def __call__(self, port):
        return self

    def send(self, method, path, body=None):
        if len(self.asked) == self.most:
            self.ending.set()
            raise ConnectionResetError("the server has ended")
        self.asked.append((method, path.rpartition("/")[2].partition("?")[0], body))
        status, content, retry = self.answer(*self.asked[-1], len(self.asked))
        return Reply(f"{method} {path}", status, json.dumps(content).encode(), retry)

    def close(self):
        """Nothing is open."""

    def of(self, name):
        return [body for _, path, body in self.asked if path == name]


class Flat:
    """Stands for the watch of a process that does not grow."""

    memory_growth = handle_growth = staticmethod(lambda: growth([0, 1, 2], [1, 1, 1], least=1, share=0))
    processor_share = staticmethod(lambda: 0.25)


ITEMS = {"items": [{"id": item} for item in range(4)], "results": [{"id": 4}], "session": "own", "marks": []}
NOT_FOUND_YET = {"error": "nothing is found yet; mark items right and wrong, then find all (refine)"}


@pytest.fixture
def played(monkeypatch):
    """Play a user against answers; return the user and the server. Everything is due at once."""

    def play(answer, most=60, mixed=False):
        monkeypatch.setattr(users, "EVERY_S", {"mark": 1e-4, "search": 1e-3, "refine": 1e-3, "export": 1e-3})
        ending = threading.Event()
        server = ScriptedServer(ending, answer, most)
        monkeypatch.setattr(users, "Connection", server)
        user = User(0, 1, np.zeros(10, np.int16), ending, mixed=mixed)
        user.run()
        return user, server

    return play


def test_a_mark_that_is_put_off_is_sent_again_under_its_name(played):
    def answer(method, path, body, number):
        return (503, {}, 0.001) if path == "marks" and number % 3 else (200, ITEMS, None)

    user, server = played(answer)
    assert user.errors == []
    assert user.put_off["mark"] > 0
    sent = server.of("marks")
    assert len({body["event"] for body in sent}) < len(sent)
    names = [(body["event"], tuple(body["ids"])) for body in sent]
    assert len(set(names)) == len({event for event, _ in names}), "an event names one item"
    assert len(user.took_ms["mark"]) == len(user.marks) > 0


def test_a_user_with_nothing_left_to_mark_waits_for_its_next_search(played):
    user, server = played(lambda method, path, body, number: (200, {**ITEMS, "items": [], "results": []}, None))
    assert user.errors == []
    assert not server.of("marks")
    assert len(server.of("search")) > 1


@pytest.mark.parametrize("forgets", ["results", "matches.jsonl"])
def test_a_user_whose_answer_was_dropped_finds_all_again(played, forgets):
    def answer(method, path, body, number):
        return (422, NOT_FOUND_YET, None) if path == forgets else (200, ITEMS, None)

    user, server = played(answer, mixed=True)
    assert user.errors == []
    assert user.forgotten == len(server.of(forgets)) > 0
    at = [path for _, path, _ in server.asked]
    assert "refine" in at[at.index(forgets) :]


def test_what_a_user_does_not_expect_is_an_error_and_the_run_does_not_hold(played):
    user, _ = played(lambda method, path, body, number: (200 if number == 1 else 500, ITEMS, None))
    assert "500" in user.errors[0]
    served = Served([user], Flat(), 0, 0.1, {})
    assert not holds(served)
    text = report(served, "Load", "command", "introduction")
    assert "Errors: 1." in text
    assert "Processor time of the server: 0.25 of one core." in text


def test_the_report_tells_how_many_requests_were_put_off(played):
    def answer(method, path, body, number):
        return (429, {}, 1.0) if path == "refine" else (200, ITEMS, None)

    user, server = played(answer)
    refused = len(server.of("refine"))
    assert user.put_off["refine"] == refused > 0
    assert f"| refine | 0 |  |  |  |  |  | {refused} |" in report(Served([user], Flat(), 0, 0.1, {}), "Load", "", "")


def test_a_mixed_run_loses_nothing_and_ends_in_order():
    command = [sys.executable, "-m", "benchmarks.load", "--mixed", "--n", "2000", "--users", "3", "--seconds", "3"]
    done = subprocess.run([*command, "--dims", "32"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Errors: 0. Marks acknowledged: " in done.stdout, done.stderr
    assert "lost: 0." in done.stdout
    assert "with status 0." in done.stdout
    assert " appended, " in done.stdout
