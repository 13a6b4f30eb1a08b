"""Both calls of scripts/gpu_verify, end to end: a clean copy, a stand-in for CuPy, NumPy and pytest, and nothing else.

The kernels run on the processor, so that no path, name or missing file is first noticed on a card.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIED = ("benchmarks", "gpubranches", "kernels", "scripts", "tests")
BLOCK = """
import sys

sys.path.insert(0, {tests!r})
from bare import MISSING

sys.modules.update(dict.fromkeys(MISSING))
"""


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A copy of what a card needs, without what was made here, and a Python that finds no other package."""
    folder = tmp_path_factory.mktemp("clean")
    for name in COPIED:
        made = shutil.ignore_patterns("__pycache__", "*.jsonl", "*.so")
        shutil.copytree(ROOT / name, folder / name, ignore=made)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "blocked").mkdir()
    (folder / "blocked" / "sitecustomize.py").write_text(BLOCK.format(tests=str(folder / "tests")))
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(sys.executable)
    return folder


def rehearse(clean, out, call):
    """Run a call; return what it printed and its findings by step."""
    paths = [clean / "blocked", clean / "tests" / "rehearsal", clean / "tests"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    environment["PATH"] = f"{clean / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = ["scripts/gpu_verify", call, "--quick", "--out", str(out), "--commit", "abc", "--budget-s", "900"]
    command += ["--measured", str(out / "measured.json")]
    done = subprocess.run(command, cwd=clean, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for text in (out / f"gpu-{call}.jsonl").read_text().splitlines():
        line = json.loads(text)
        found.setdefault(line["step"], []).append(line)
    for step, lines in found.items():
        assert step == "run" or (lines[-1]["end"] and not lines[-1]["problem"]), lines
    assert (out / f"gpu-{call}.md").read_text() in done.stdout
    return found


def test_the_call_for_correctness(clean, tmp_path):
    found = rehearse(clean, tmp_path, "correctness")
    told = ("run", "card", "compile", "kernels", "public", "at_size", "contract", "memcheck", "racecheck")
    assert tuple(found) == told
    assert found["card"][0]["card"] == "A simulated card"
    assert len(found["compile"]) >= 20
    assert {kernel for line in found["kernels"] for kernel in line.get("kernels", ())} >= {"boxes", "allow", "bits"}
    assert {line["when"] for line in found["public"] if "when" in line} == {
        "as made",
        "after an append",
        "after a delete",
        "opened again",
    }
    at_size = {kernel for line in found["at_size"] for kernel in line.get("kernels", ())}
    assert at_size == {"boxes", "nearest", "linear", "bits", "select", "synthetic", "allow", "rescore", "quantize"}
    wrong = [line for lines in found.values() for line in lines if line.get("ok") is False]
    assert wrong == []
    skipped = [line["skipped"] for lines in found.values() for line in lines if "skipped" in line]
    assert any("refine needs numba" in text for text in skipped)
    assert sum("compute-sanitizer" in text for text in skipped) in (0, 2)


def test_the_call_for_speed(clean, tmp_path):
    found = rehearse(clean, tmp_path, "speed")
    assert tuple(found) == ("run", "card", "goals", "refine", "upload", "capacity", "nearest", "plot")
    goals = {line["goal"] for lines in found.values() for line in lines if "goal" in line}
    assert {"single branch", "ensemble", "upload", "single branch, codes alone"} <= goals
    assert {line["engine"] for line in found["nearest"] if "engine" in line} == {
        "kernels",
        "kernels, sign bits first",
    }
    skipped = " ".join(line["skipped"] for lines in found.values() for line in lines if "skipped" in line)
    for what in ("faiss flat float16", "faiss IVF-SQ8", "CAGRA", "no table is written", "matplotlib", "a whole refine"):
        assert what in skipped
    assert not (tmp_path / "measured.json").exists()
