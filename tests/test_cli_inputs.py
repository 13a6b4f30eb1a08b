"""The command line on other people's inputs: what it says, and that it says it in one sentence."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from test_identity import draw, draw_all
from test_ingest import vectors
from test_inputs import ODD, write_clip

from gpubranches import Catalog


@pytest.fixture
def catalog(tmp_path):
    from gpubranches.ingestion import ingest

    np.save(tmp_path / "x.npy", vectors(50))
    ingest([tmp_path / "x.npy"], tmp_path / "catalog")
    return tmp_path / "catalog"


def refused(answer, code, *says):
    """Assert that a command failed with one sentence that says some things."""
    got, _, err = answer
    (line,) = [line for line in err.splitlines() if line.startswith("Error")]
    assert got == code
    assert "Traceback" not in err
    for each in says:
        assert each in line


def test_ingest_and_append_say_what_they_took_and_left(run, tmp_path):
    folder = draw_all(tmp_path / "in", ["0.png", "1.png"])
    (folder / "notes.txt").write_text("x")
    code, out, err = run("ingest", folder, "--out", tmp_path / "c", "--embedder", "demo")
    assert code == 0
    assert "2 items" in out
    assert "skipped 1 file: 1 .txt" in err
    _, out, _ = run("ingest", folder, "--out", tmp_path / "c", "--embedder", "demo")
    assert "2 items" in out
    assert "nothing was new" in out
    draw(folder / "2.png", 9)
    refused(run("append", tmp_path / "c", folder), 2, "2 of 3 pictures are already in", "(2.png)", "--new")
    code, out, err = run("append", tmp_path / "c", folder, "--new", "--json")
    assert json.loads(out) | {"seconds": 0} == {
        "catalog": str(tmp_path / "c"),
        "n": 3,
        "errors": 0,
        "seconds": 0,
        "added": 1,
        "notes": json.loads(out)["notes"],
        "decoded_per_s": json.loads(out)["decoded_per_s"],
        "embedded_per_s": json.loads(out)["embedded_per_s"],
    }
    assert "1 picture is new: 2.png" in err
    folder.rename(tmp_path / "to")
    _, _, err = run("verify", tmp_path / "c")
    assert f"gpubranches relocate {tmp_path}/c {folder} NEW" in err
    code, out, _ = run("relocate", tmp_path / "c", folder, tmp_path / "to")
    assert (code, "3 have a picture now; 0 had one" in out) == (0, True)
    _, _, err = run("verify", tmp_path / "c")
    assert "relocate" not in err


def test_a_command_that_ended_in_strict_is_refused_the_second_time(run, tmp_path, catalog):
    rows = vectors(30, seed=5)
    rows[5] = 0
    np.save(tmp_path / "y.npy", rows)
    refused(run("append", catalog, tmp_path / "y.npy", "--strict"), 3, "1 inputs could not be read")
    refused(run("append", catalog, tmp_path / "y.npy", "--strict"), 2, "already in the catalog")
    assert Catalog.open(catalog).n == 79


def test_append_takes_the_model_that_its_error_names(run, tmp_path):
    from gpubranches.encoders import open_embedder
    from gpubranches.ingestion import ingest

    np.save(tmp_path / "x.npy", vectors(50, open_embedder("demo").D))
    ingest([tmp_path / "x.npy"], tmp_path / "c")
    folder = draw_all(tmp_path / "in", ["0.png"])
    refused(run("append", tmp_path / "c", folder), 2, "--embedder")
    assert run("append", tmp_path / "c", folder, "--embedder", "demo")[0] == 0


@pytest.mark.parametrize("what", ODD)
def test_odd_vectors_are_refused_in_one_sentence(run, tmp_path, catalog, what):
    (tmp_path / "odd.npy").write_bytes(ODD[what])
    got, _, err = run("search", catalog, "--vector", tmp_path / "odd.npy")
    assert got in (2, 3)
    assert "Traceback" not in err
    assert err.startswith("Error: ")


def test_odd_tables_are_refused_or_kept(run, tmp_path):
    texts = pa.array(["a", "b"])
    double = write_clip(tmp_path / "double", [pa.Table.from_arrays([texts, texts], names=["caption", "caption"])])
    refused(run("ingest", double, "--out", tmp_path / "c"), 3, "distinct names, got caption twice")
    assert not (tmp_path / "c").exists()
    own = write_clip(tmp_path / "own", [{"error": [0.5, 1.5], "id": ["a", "b"]}])
    code, out, err = run("ingest", own, "--out", tmp_path / "c")
    assert (code, "2 items" in out) == (0, True)
    assert "the column `id` is kept as `source_id`" in err
    assert "the column `error` is kept as `source_error`" in err


def test_codes_are_written_under_endings_that_say_so(run, tmp_path, catalog):
    refused(run("export", catalog, "codes", tmp_path / "codes.npy"), 2, ".u8bin or .parquet", "'.npy'")
    assert not (tmp_path / "codes.npy").exists()
    assert run("export", catalog, "codes", tmp_path / "codes.u8bin")[0] == 0


@pytest.mark.parametrize(
    "ids", ["\ufeff3\r\n8\r\n", "3,8", "id,score\n3,.5\n8,.4\n", '\ufeffcaption,id\n"a, ""b""\nc",3\nd,8\n']
)
def test_lists_of_ids_are_read_as_spreadsheets_and_the_program_write_them(run, tmp_path, catalog, ids):
    (tmp_path / "ids").write_text(ids, encoding="utf-8", newline="")
    code, out, _ = run("refine", catalog, "--positive", f"@{tmp_path}/ids", "--json", "--limit", 0)
    assert code == 0
    assert json.loads(out)["total"] == json.loads(run("refine", catalog, "--positive", "3,8", "--json")[1])["total"]


def test_the_programs_own_csv_is_read_back_and_is_known_as_utf_8(run, tmp_path, catalog):
    assert run("refine", catalog, "--positive", "3,8", "--limit", 0, "--out", tmp_path / "m.csv")[0] == 0
    assert (tmp_path / "m.csv").read_bytes().startswith(b"\xef\xbb\xbfid,")
    assert run("refine", catalog, "--positive", f"@{tmp_path}/m.csv", "--limit", 0)[0] == 0


def test_an_item_that_is_right_and_wrong_is_refused(run, catalog):
    refused(run("refine", catalog, "--positive", "3,8", "--negative", "8,9"), 2, "got 8 in both")


def test_nothing_of_a_caption_or_a_name_steers_the_terminal(run, tmp_path):
    folder = write_clip(tmp_path / "in", [{"caption": ["\x1b]0;title\x07\x1b[2Jgone\u202e\x9b1m"] * 5}])
    run("ingest", folder, "--out", tmp_path / "c")
    _, out, _ = run("search", tmp_path / "c", "--like", "0", "-k", 1)
    assert r"\x1b]0;title\x07\x1b[2Jgone\u202e\x9b1m" in "".join(out.split())
    _, _, err = run("ingest", tmp_path / "no\x1b[2J", "--out", tmp_path / "d")
    assert "\x1b" not in err
    pictures = draw_all(tmp_path / "odd", ["\x1b[2J.png"])
    (pictures / "b\x1b.png").write_bytes(b"broken")
    _, out, err = run("ingest", pictures, "--out", tmp_path / "e", "--embedder", "demo", "--strict")
    assert "\x1b" not in out + err
    assert r"b\x1b.png: not a picture" in err


CALLS = """
import os, sys
from gpubranches.cli import main
for call in sys.stdin.buffer.read().split(b"\\n"):
    sys.argv[1:] = map(os.fsdecode, call.split(b"\\0"))
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    print(f"exit {code}", file=sys.stderr, flush=True)
"""


def test_paths_that_are_no_text_are_said_and_served(tmp_path):
    """In one process of their own, whose standard output is strict."""
    folder = draw_all(tmp_path / os.fsdecode(b"in\xe9"), ["0.png"])
    out, rows = tmp_path / "c", tmp_path / os.fsdecode(b"rows\xea")
    write_clip(tmp_path / "rows", [{"image_path": ["0.png", "1.png"]}]).rename(rows)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    calls = (
        ("ingest", folder, "--out", out, "--embedder", "demo"),
        ("append", out, folder),
        ("info", out),
        ("verify", out),
        ("search", out, "--like", "0"),
        ("ingest", tmp_path / os.fsdecode(b"none\xff"), "--out", out),
        ("ingest", rows, "--out", tmp_path / "d"),
        ("ingest", rows, "--out", tmp_path / os.fsdecode(b"c\xe8")),
        ("info", tmp_path / os.fsdecode(b"c\xe8")),
    )
    told = b"\n".join(b"\0".join(map(os.fsencode, call)) for call in calls)
    done = subprocess.run([sys.executable, "-c", CALLS], input=told, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert [int(code) for code in re.findall(rb"^exit (\d+)$", done.stderr, re.M)] == [0, 2, 0, 0, 0, 3, 0, 2, 2]
    assert b"Traceback" not in done.stderr
