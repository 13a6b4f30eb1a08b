"""The changes that `benchmarks.mutation` makes to a module, and what it tells of those that no test notices."""

import ast
from random import Random

import pytest

from benchmarks import mutation
from benchmarks.mutation import TARGETS, Found, changes, mutants, report, run_tests

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
    ("body", "passed"), [("assert 1 + 1 == 2", True), ("assert 1 + 1 == 3", False), ("while True: pass", False)]
)
def test_a_run_passes_fails_or_is_ended(tmp_path, body, passed):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_one.py").write_text(f"def test_it():\n    {body}\n")
    assert run_tests(tmp_path, ("test_one",), 3 if "while" in body else 60)[0] == passed


def test_the_score_leaves_out_what_is_equivalent(monkeypatch):
    monkeypatch.setattr(mutation, "JUDGED", {("a.b", "x <= 1"): "x is never 1"})
    lines = report("python", [Found("a.b", 3, [(1, "x < 1", "x <= 1"), (2, "y | 1", "y & 1")])]).splitlines()
    assert "| a.b | 5 | 3 | 1 | 1 | 75% |" in lines
    assert "| a.b | `x < 1` | `x <= 1` | x is never 1 |" in lines
    assert "| a.b | `y \\| 1` | `y & 1` | no test notices it |" in lines
