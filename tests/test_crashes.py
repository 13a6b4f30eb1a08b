"""Kills, failing calls and power cuts at drawn points, and proof that what does not hold would be seen."""

import datetime
import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.crashes import disk
from benchmarks.crashes.layer import MADE, WRITABLE, Call

SEED = datetime.date.today().toordinal()


def disturb(*options, plant=""):
    """Run the benchmark, with lines of Python before it that break the program; return it as it ended."""
    code = (
        f"{plant}\nimport sys\nfrom benchmarks.crashes.__main__ import main\nsys.argv[1:] = {list(options)!r}\nmain()"
    )
    start = "import sys\nfrom benchmarks.crashes import layer\nfrom pathlib import Path\n"
    start += f"sys.exit(layer.run_over(Path(sys.argv[1]), ['-c', {code!r}]))"

    def run(folder):
        command = [sys.executable, "-c", start, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_drawn_points_hold(tmp_path):
    """Of all points, other ones each day; `python -m benchmarks.crashes` tries all."""
    done = disturb("--points", "200", "--seed", str(SEED))(tmp_path)
    assert done.returncode == 0, (SEED, done.stderr[-3000:])
    assert re.search(r"^200 of [\d,]+ points, 200 held, 0 broken;", done.stdout, re.MULTILINE), done.stdout


PLANTS = {
    "nothing is synced": ("import os; os.fsync = lambda handle: None", "delete", "power cut"),
    "folders are not synced": (
        "from gpubranches.core import files; from gpubranches.catalog import segment, writer\n"
        "files.sync_folder = segment.sync_folder = writer.sync_folder = lambda path: None",
        "delete", "power cut",
    ),
    "a file is written where the old one is": (
        "from gpubranches.core import files\n"
        "def replace_file(path, content):\n"
        "    with files.output(path) as file: file.write(content)\n"
        "    return file.entry\n"
        "from gpubranches.catalog import manifest; manifest.replace_file = replace_file",
        "delete", "killed",
    ),
    "an error is passed over": (
        "from gpubranches.core import files\n"
        "real = files.Output.sync\n"
        "def sync(self):\n"
        "    try: real(self)\n"
        "    except OSError: raise ValueError('x')\n"
        "files.Output.sync = sync",
        "relocate", "a call fails",
    ),
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
def test_a_fault_that_is_planted_is_found(tmp_path, plant):
    code, scenario, kind = PLANTS[plant]
    done = disturb("--scenario", scenario, "--kind", kind, plant=code)(tmp_path)
    assert done.returncode == 1, (done.stdout, done.stderr[-3000:])
    assert f"{scenario}: {kind}: " in done.stderr
    assert ", 0 broken;" not in done.stdout


def test_writes_that_the_layer_does_not_see_end_it(tmp_path):
    """Such as those of C's own streams, by which NumPy's `tofile` writes."""
    plant = (
        "import numpy as np; from gpubranches.core import files\n"
        "def replace_file(path, content):\n"
        "    np.frombuffer(content, np.uint8).tofile(path)\n"
        "    return {'bytes': len(content), 'sha256': files.checksum(path)}\n"
        "from gpubranches.catalog import writer; writer.replace_file = replace_file"
    )
    done = disturb("--scenario", "delete", "--points", "1", plant=plant)(tmp_path)
    assert done.returncode == 1
    assert "changed by calls that the layer does not see" in done.stderr


# The model of a disk


def call(what, path="", *, handle=-1, flags=0, other="", data=b"", offset=0):
    return Call(what, 0, handle, len(data), offset, flags, f"/r/{path}" if path else "/r", f"/r/{other}", data)


def write(path, data, handle=3, *, sync=True):
    calls = [call("o", path, handle=handle, flags=MADE | WRITABLE), call("w", path, handle=handle, data=data)]
    return [*calls, *([call("f", path, handle=handle)] if sync else []), call("c", path, handle=handle)]


def sync(path=""):
    return [call("o", path, handle=9), call("f", path, handle=9), call("c", path, handle=9)]


def cuts(tmp_path, *calls, drawn=0):
    """Return what may be left after calls on a folder in which the file `a` holds b"old"."""
    (tmp_path / "a").write_bytes(b"old")
    model = disk.Disk(tmp_path, "/r")
    for each in calls:
        model.apply(each)
    return model.now(), [tree for _, tree in model.after_cut(np.random.default_rng(0), drawn)]


def test_what_is_synced_stays(tmp_path):
    now, left = cuts(tmp_path, *write("b", b"new"), call("r", "b", other="a"), *sync(), drawn=5)
    assert now == {"a": b"new"}
    assert all(tree == now for tree in left)


def test_a_rename_that_is_not_synced_is_lost_or_there(tmp_path):
    _, left = cuts(tmp_path, *write("b", b"new"), *sync(), call("r", "b", other="a"))
    assert left == [{"a": b"old", "b": b"new"}, {"a": b"new"}, {"a": b"old", "b": b"new"}, {"a": b"new"}]


def test_a_name_may_come_before_what_it_leads_to(tmp_path):
    _, left = cuts(tmp_path, *write("b", b"new", sync=False), call("r", "b", other="a"))
    assert {"a": b""} in left


def test_a_later_name_may_come_before_an_earlier_one(tmp_path):
    calls = [call("m", "folder"), *write("folder/x", b"x"), *sync("folder"), *write("b", b"new")]
    _, left = cuts(tmp_path, *calls, call("r", "b", other="a"))
    assert {"a": b"new"} in left
    assert {"a": b"new", "folder": None, "folder/x": b"x"} in left


def test_writes_of_a_file_come_in_any_order_and_in_part(tmp_path):
    calls = write("b", bytes([1]) * 2048, sync=False)[:2]
    calls += [call("w", "b", handle=3, data=bytes([2]) * 2048, offset=2048), *sync()]
    _, left = cuts(tmp_path, *calls, drawn=60)
    contents = {tree["b"] for tree in left}
    assert {b"", bytes([1]) * 2048 + bytes([2]) * 2048, bytes(2048) + bytes([2]) * 2048} <= contents
    assert any(len(set(content[:2048])) == 2 for content in contents)


def test_what_is_removed_may_be_there_again(tmp_path):
    now, left = cuts(tmp_path, call("u", "a"))
    assert now == {}
    assert {"a": b"old"} in left
    (tmp_path / "a").unlink()
    _, left = cuts(tmp_path, call("u", "a"), *sync())
    assert left == [{}] * 4
