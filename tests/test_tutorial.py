"""docs/tutorial.md works as it is printed: its blocks run in order, from an empty folder to exported matches."""

import csv
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL)
OWN_MODEL = "open_clip:ViT-B-32/laion2b_s34b_b79k"
"""Its weights come from the network; the demo's model, which reads any picture, stands in for it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder, with the commands of an active environment on the path."""
    path = tmp_path_factory.mktemp("tutorial")
    commands = path / "bin"
    commands.mkdir()
    python = shlex.quote(sys.executable)
    for name, line in {
        "gpubranches": f"exec {python} -c 'from gpubranches.cli import main; main()' \"$@\"",
        "python": f'exec {python} "$@"',
    }.items():
        (commands / name).write_text(f"#!/bin/sh\n{line}\n")
        (commands / name).chmod(0o755)
    return path


def run(line, place):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'PATH="$PWD/bin:$PATH"\n{line}'],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def serve(line, place):
    """Start a server on a free port, ask it whether it answers, and end it as Ctrl-C does."""
    command = ["bash", "-c", f'PATH="$PWD/bin:$PATH"; exec {line} --port 0']
    with subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) as server:
        try:
            told = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+", told)
            assert address, told
            with urllib.request.urlopen(f"{address[0]}/readyz", timeout=30) as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0


def test_the_tutorial_runs_from_an_empty_folder_to_exported_matches(place):
    served = 0
    for language, block in BLOCKS:
        if language == "python":
            (place / "block.py").write_text(block)
            assert "match, best:" in run("python block.py", place)
            continue
        for printed in block.splitlines():
            line = printed.replace(OWN_MODEL, "demo").replace("a red bicycle", "a red circle")
            if line.startswith(("scripts/", "source ")):  # they install what this test runs in
                continue
            if line.startswith("gpubranches serve"):
                serve(line, place)
                served += 1
            elif line.startswith("gpubranches ingest photos"):
                pictures(place, 0, 40)
                run(line, place)
            elif line.startswith("gpubranches append"):
                pictures(place, 40, 41)
                assert "41 items" in run(line, place)
            else:
                run(line, place)
    assert served == 2
    with (place / "matches.csv").open(encoding="utf-8-sig", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    right = sum("red triangle" in caption for caption in captions)
    assert right > 8
    assert right / len(captions) > 0.6
    assert pq.read_table(place / "matches.parquet").num_rows > 8


def pictures(place, start, stop):
    """Copy pictures of the demo into the folder `photos`."""
    chosen = sorted((place / "demo-catalog/scenes/images").rglob("*.jpg"))[start:stop]
    (place / "photos").mkdir(exist_ok=True)
    for picture in chosen:
        shutil.copy(picture, place / "photos")
