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
from click.testing import CliRunner

from gpubranches import cli

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs/tutorial.md").read_text(), re.DOTALL)
OWN_MODEL = "open_clip:ViT-B-32/laion2b_s34b_b79k"
"""Its weights come from the network; the demo's model, which reads any picture, stands in for it."""


def run(line):
    """Run a command of the program, in this process, so that torch is imported once; return what it prints."""
    words = shlex.split(line)
    assert words.pop(0) == "gpubranches"
    out = Path(words[words.index(">") + 1]) if ">" in words else None
    done = CliRunner().invoke(cli.cli, words[: words.index(">")] if out else words)
    assert done.exit_code == 0, (line, done.output, done.exception)
    if out:
        out.write_text(done.stdout)
    return done.stdout


def run_other(line):
    """Run a command of the system, with this Python as `python`."""
    shell = f'python() {{ {shlex.quote(sys.executable)} "$@"; }}\n{line}'
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def serve(line):
    """Start a server on a free port, ask whether it is ready, and end it as Ctrl-C does."""
    program = [sys.executable, "-c", "from gpubranches.cli import main; main()"]
    command = [*program, *shlex.split(line)[1:], "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            told = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:[1-9]\d*", told)
            assert address, told
            with urllib.request.urlopen(f"{address[0]}/readyz", timeout=60) as answer:
                assert answer.status == 200
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0


def copy_pictures(start, stop):
    """Copy pictures of the demo into the folder `photos`."""
    Path("photos").mkdir(exist_ok=True)
    for picture in sorted(Path("demo-catalog/scenes/images").rglob("*.jpg"))[start:stop]:
        shutil.copy(picture, "photos")


def test_the_tutorial_runs_from_an_empty_folder_to_exported_matches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = set()
    for language, block in BLOCKS:
        if language == "python":
            Path("block.py").write_text(block)
            assert "match, best:" in run_other("python block.py")
            continue
        for printed in block.splitlines():
            line = printed.replace(OWN_MODEL, "demo").replace("a red bicycle", "a red circle")
            name = line.split()[1]
            if line.startswith(("scripts/", "source ")):  # they install what this test runs in
                continue
            if not line.startswith("gpubranches "):
                run_other(line)
            elif name == "serve":
                serve(line)
            elif name == "ingest":
                copy_pictures(0, 40)
                assert "40 items" in run(line)
            elif name == "append":
                copy_pictures(40, 41)
                assert "41 items" in run(line)
            else:
                run(line)
            ran.add(name)
    assert {"demo", "search", "serve", "refine", "ingest", "append"} <= ran
    with Path("matches.csv").open(encoding="utf-8-sig", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    right = sum("red triangle" in caption for caption in captions)
    assert right > 8
    assert right / len(captions) > 0.6
    assert pq.read_table("matches.parquet").num_rows > 8
