"""The changes that `benchmarks.mutation` makes to a module, and what it tells of those that no test notices."""

import ast
from random import Random

import pytest

from benchmarks.mutation import __main__ as mutation
from benchmarks.mutation.__main__ import TARGETS, Found, Results, report
from benchmarks.mutation.changes import changes, mutants
from benchmarks.mutation.trials import Reached, run_tests, tried

SOURCE = '''
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import os
def least(x: int, bound: float = 1) -> float:
    """Return 3."""
    if not x:
        raise ValueError(f"expected 1, got {x + 1}")
    notes.append(x)
    return min(x, -bound) if x < 2 else x
'''


def test_each_mutant_has_one_change_and_texts_and_types_stay():
    changed = {(old, new) for _, old, new, _ in mutants(SOURCE, Random(0))}
    assert changed == {
        ("def least(x: int, bound: float=1) -> float:", "def least(x: int, bound: float=2) -> float:"),
        ("if not x:", "if x:"),
        ("raise ValueError(f'expected 1, got {x + 1}')", "pass"),
        ("notes.append(x)", "pass"),
        ("return min(x, -bound) if x < 2 else x", "return max(x, -bound) if x < 2 else x"),
        ("return min(x, -bound) if x < 2 else x", "return min(x, bound) if x < 2 else x"),
        ("return min(x, -bound) if x < 2 else x", "return min(x, -bound) if x <= 2 else x"),
        ("return min(x, -bound) if x < 2 else x", "return min(x, -bound) if x < 3 else x"),
        ("return min(x, -bound) if x < 2 else x", "return min(x, -bound) if not x < 2 else x"),
    }


def test_every_target_and_its_tests_are_there():
    for module, files in TARGETS.items():
        tree = ast.parse((mutation.ROOT / f"{module.replace('.', '/')}.py").read_text())
        assert len(list(changes(tree))) > 20, module
        assert all((mutation.ROOT / "tests" / f"{name}.py").exists() for name in files), module


@pytest.mark.parametrize(
    ("body", "passed"),
    [("assert 1 + 1 == 2", True), ("assert 1 + 1 == 3", False), ("__import__('time').sleep(600)", False)],
)
def test_a_run_passes_fails_or_is_ended(tmp_path, body, passed):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").write_text(f"def test_it():\n    {body}\n")
    assert run_tests(tmp_path, ("test_one",), 1 if "sleep" in body else 60) == passed


def test_mutants_are_given_to_the_tests_that_reach_them_and_survivors_to_all(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "sides.py").write_text("def left(x):\n    return x + 1\ndef right(x):\n    return x + 2\n")
    (tmp_path / "tests/test_sides.py").write_text(
        "from sides import left, right\ndef test_left(): assert left(1) == 2\ndef test_right(): assert right(1)\n"
    )
    path, until = tmp_path / "sides.py", float("inf")
    drawn = [(2, "x + 1", "x - 1", path.read_text().replace("x + 1", "x - 1")),
             (4, "x + 2", "x + 3", path.read_text().replace("x + 2", "x + 3"))]  # fmt: skip
    before = path.read_text()
    assert [killed for _, killed in tried(path, ["test_sides"], drawn, tmp_path, until)] == [True, False]
    assert path.read_text() == before
    assert list(tried(path, ["test_sides"], drawn, tmp_path, 0)) == []


def test_the_fastest_tests_that_reach_a_line_are_chosen():
    reached = Reached(
        {"slow": 6.0, "quick": 1.0, "long": 60.0, "other": 0.1}, {3: ["long", "slow", "quick"], 9: ["long"]}
    )
    assert reached.chosen(3) == ["quick", "slow"]
    assert reached.chosen(9) == ["long"]
    assert reached.chosen(4) == ["other", "quick", "slow"]


def test_results_are_kept_and_survivors_tried_again(tmp_path):
    drawn = [(1, "a", "b", "text"), (2, "a", "c", "text"), (3, "a", "d", "text")]
    results = Results(tmp_path / "results.jsonl")
    results.add("m", drawn[0], True)
    results.add("m", drawn[1], False)
    later = Results(tmp_path / "results.jsonl")
    assert later.untried("m", drawn) == drawn[2:]
    assert later.found("m", drawn) == Found("m", 1, [(2, "a", "c")], 1)
    assert "1 more were drawn" in report("python", [later.found("m", drawn)])
    assert Results(tmp_path / "results.jsonl", again=True).untried("m", drawn) == drawn[1:]


def test_the_score_leaves_out_what_is_equivalent(monkeypatch):
    monkeypatch.setattr(mutation, "JUDGED", {("a.b", "x <= 1"): "x is never 1"})
    lines = report("python", [Found("a.b", 3, [(1, "x < 1", "x <= 1"), (2, "y | 1", "y & 1")])]).splitlines()
    assert "| a.b | 5 | 3 | 1 | 1 | 75% |" in lines
    assert "| a.b | `x < 1` | `x <= 1` | x is never 1 |" in lines
    assert "| a.b | `y \\| 1` | `y & 1` | no test notices it |" in lines
