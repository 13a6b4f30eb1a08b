"""Of `benchmarks.load`: whether a number grows, who writes beside the server, and a run of a few seconds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import Clusters, write_embedded_catalog
from benchmarks.watching import Watch, growth, slope
from benchmarks.writing import copied_from, write
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
        watch = Watch(process.pid, tmp_path / "segments", every_s=0.01)
        assert process.stdout.readline() == "grown\n"
        watch.stop()
        process.stdin.close()
    assert not watch.memory_growth().flat
    assert not watch.handle_growth().flat
    assert max(watch.handles) - min(watch.handles) <= 31


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


def test_a_mixed_run_loses_nothing_and_ends_in_order():
    command = [sys.executable, "-m", "benchmarks.load", "--mixed", "--n", "2000", "--users", "3", "--seconds", "6"]
    done = subprocess.run([*command, "--dims", "32"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Errors: 0. Marks acknowledged: " in done.stdout, done.stderr
    assert "lost: 0." in done.stdout
    assert "with status 0." in done.stdout
    assert " appended, " in done.stdout
