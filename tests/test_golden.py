"""The golden check gives the answers of its file, and notices what changes them."""

import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks.golden import face, record
from benchmarks.golden.asking import Asked, ask_boxes
from benchmarks.golden.check import FILE, answered, compare
from benchmarks.golden.small import STORED, STORED_MARKS

KEPT = record.read(FILE)["answers"]


def replace_everywhere(monkeypatch, name, value):
    """Replace a name in every module of the package that holds it."""
    holders = [one for key, one in sys.modules.items() if key.startswith("gpubranches") and name in vars(one)]
    assert holders, f"{name} was renamed; name it anew here"
    for module in holders:
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("part", ["classes", "encoded"])
def test_a_part_gives_the_answers_of_the_file(part):
    assert compare(answered([part]), [part]) == []


@pytest.fixture
def differing(tmp_path):
    """Return the names of the answers on the oracle that differ from those of the file, of some of its questions."""
    shutil.copytree(STORED, tmp_path / "catalog")
    catalog = face.open_catalog(tmp_path / "catalog")
    right = np.arange(catalog.next_id) % 7 == 0

    def ask():
        answers = record.Answers()
        with face.open_backend("oracle", catalog) as backend:
            asked = Asked(answers, "stored/oracle", catalog, backend)
            ask_boxes(asked)
            session = asked.session()
            face.mark(session, STORED_MARKS, right)
            asked.add("refine/ensemble votes", face.refine(session, second_stage=False))
            asked.add("refine/ensemble", face.refine(session))
        return {name for name, entry in answers.entries.items() if entry["sha256"] != KEPT[name]["sha256"]}

    return ask


def test_another_order_of_ties_is_noticed(differing, monkeypatch):
    before = differing()
    replace_everywhere(monkeypatch, "splitmix64", lambda ids: np.asarray(ids).astype(np.uint64))
    assert "stored/oracle/boxes/all" in differing() - before


def test_another_share_of_random_negatives_is_noticed(differing, monkeypatch):
    before = differing()
    replace_everywhere(monkeypatch, "RANDOM_SHARE", 2)
    found = differing() - before
    assert "stored/oracle/refine/ensemble" in found
    assert not any("/boxes/" in name or "/codes/" in name for name in found)


def entry(value, **options):
    answers = record.Answers()
    answers.add("one", value, **options)
    return answers.entries


def test_one_bit_one_type_and_one_byte_change_the_digest():
    scores = np.array([0.5, 0.25], np.float32)
    value = {"ids": np.array([3, 4]), "scores": scores, "file": b"ab"}
    for other in (
        {**value, "scores": np.nextafter(scores, np.float32(1))},
        {**value, "scores": scores.astype(np.float64)},
        {**value, "ids": np.array([4, 3])},
        {**value, "file": b"ac"},
        {**value, "scores": None},
    ):
        assert list(record.differences(entry(other), entry(value), exact=True)), other
    assert not list(record.differences(entry(value), entry(value), exact=True))


def test_elsewhere_counts_and_first_ids_are_compared_and_integers_exactly():
    def alike(other, **options):
        value = {"ids": np.arange(100)}
        return not list(record.differences(entry({"ids": other}, **options), entry(value, **options), exact=False))

    assert alike(np.concatenate([np.arange(100)[1::-1], np.arange(2, 108)]))
    assert not alike(np.arange(120))
    assert not alike(np.arange(6, 106))
    assert alike(np.arange(6, 106), drawn=True)
    assert not alike(np.arange(6, 120), drawn=True)
    assert not alike(np.arange(101), everywhere=True)


def test_an_answer_that_is_missing_or_new_is_told():
    first, second = {"a": {"sha256": "1"}}, {"b": {"sha256": "1"}}
    assert [line.split(":")[0] for line in record.differences(first, second, exact=True)] == ["a", "b"]


def test_the_file_tells_its_environment_and_tolerance():
    data = json.loads(FILE.read_text())
    assert data["environment"].keys() == record.environment().keys()
    assert data["tolerance"] == record.TOLERANCE
