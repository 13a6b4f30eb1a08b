"""A little of the fuzzing of every reader; `python -m benchmarks.fuzz` does more of it, as long as one likes."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz import runner
from benchmarks.fuzz.reader import READERS, BrokenGuaranteeError, Reader
from benchmarks.fuzz.runner import CORPUS, corpus_inputs, judge, limited, next_input
from benchmarks.fuzz.world import World
from gpubranches.errors import DataError, KernelCompileError, printable

ROOT = Path(__file__).resolve().parent.parent
FEW = """
import json, sys
from pathlib import Path
from benchmarks.fuzz.runner import try_few
print(json.dumps(try_few(Path(sys.argv[1]))))
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """What failed of the inputs that are kept, and a few new ones, in a process whose memory is limited."""
    out = tmp_path_factory.mktemp("failing")
    environment = {**os.environ, "TMPDIR": str(out)}
    command = [sys.executable, "-c", FEW, out]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_some_hundred_inputs_end_in_an_answer_or_a_sentence(faults):
    assert sum(reader.few for reader in READERS.values()) > 500
    assert faults["drawn"] == {}


def test_inputs_that_once_failed_end_in_an_answer_or_a_sentence(faults):
    assert sum(len(corpus_inputs(name)) for name in READERS) > 5
    assert faults["kept"] == {}


def test_every_reader_that_is_promised_has_a_harness():
    assert set(READERS) >= {
        *("npy", "u8bin", "fbin", "parquet", "manifest", "head", "images"),
        *("tar", "picture_table", "arrow", "embedding_table"),
        *("session", "conditions", "queries", "api", "listing"),
    }
    assert {path.name for path in CORPUS.iterdir()} <= set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_inputs_are_many_and_follow_from_the_seed(name):
    sound = [b'{"a": [1, "x"]}', b"\x89PNG\r\n\x1a\n" + bytes(40), b"\x93NUMPY\1\0\x0a\0{'descr': }", b"a = 1"]
    rounds = []
    for _ in range(2):
        rng = random.Random(name)
        rounds.append([next_input(READERS[name], sound, rng) for _ in range(300)])
    assert rounds[0] == rounds[1]
    assert len(set(rounds[0])) > 150


def _raises(error):
    def read(world, data):
        raise error

    return read


def _endless(world, data):
    while True:
        pass


def _hungry(world, data):
    np.ones(3 << 30, np.uint8)


@pytest.mark.parametrize(
    ("read", "wrong", "refused"),
    [
        (lambda world, data: None, "", False),
        (_raises(DataError("a sentence")), "", True),
        (_raises(DataError("")), "DataError that is no sentence", True),
        (_raises(KernelCompileError("one\ntwo")), "KernelCompileError that is no sentence", True),
        (_raises(KeyError("x")), "KeyError: 'x'", False),
        (_raises(RecursionError()), "RecursionError: ", False),
        (_raises(BrokenGuaranteeError("500")), "unfit: 500", False),
        (_endless, "HangError: no end", False),
        (_hungry, "MemoryError: ", False),
    ],
)
def test_the_judge_knows_a_fault(tmp_path, monkeypatch, read, wrong, refused):
    monkeypatch.setattr(runner, "HANG_S", 0.3)
    reader = Reader("x", lambda world: [b""], lambda data, rng: data, read, 1)
    with limited():
        told, was = judge(reader, World(tmp_path), b"")
    assert told.startswith(wrong) if wrong else told == ""
    assert was == refused


def test_an_input_that_takes_too_long_is_a_fault_though_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "CPU_S", -1.0)
    reader = Reader("x", lambda world: [b""], lambda data, rng: data, lambda world, data: None, 1)
    with limited(memory=False):
        assert "processor time" in judge(reader, World(tmp_path), b"")[0]


def test_the_command_tells_what_was_tried(program, tmp_path):
    code, out, err = program(fuzz.main, "--reader", "groups", "--inputs", 40, "--out", tmp_path / "x.md")
    assert code == 0, err
    assert "| groups |" in out
    assert "40 inputs in all." in out
    assert (tmp_path / "x.md").read_text() == out


def test_a_message_is_one_line_whatever_stands_in_it():
    assert str(DataError("a\nb\x1b[2J\u202ec é")) == "a\\nb\\x1b[2J\\u202ec é"
    assert str(KernelCompileError("a\nb")) == "a\nb"
    assert printable("a\nb", keep="\n") == "a\nb"
