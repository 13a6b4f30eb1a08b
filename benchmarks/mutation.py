"""Change single expressions of core modules, and report which changes the tests do not notice.

    python -m benchmarks.mutation [--module NAME] [--mutants 25] [--seed 0] [--out FILE]

A mutant is a module with one change: another comparison, operator, constant, reducer or logical connective, a negated
condition, or a statement left out. Texts of errors, docstrings and annotations are not changed. The tests that are
named for the module run on a copy of the repository until the first failure. A mutant is killed if a test fails or the
tests do not end in time. A survivor either is equivalent to the original, as `JUDGED` explains, or shows what no
test checks.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from benchmarks.harness.options import out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from gpubranches.research.tables import markdown_table

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("benchmarks", "gpubranches", "kernels", "tests", "web")
PRELOADED = ("numba", "sklearn.linear_model", "sklearn.ensemble", "pyarrow.parquet", "duckdb", "pytest")
"""Imported once; every run of the tests is a fork of this process."""
TARGETS = {
    "gpubranches.core.arrays": ("test_arrays", "test_boxes"),
    "gpubranches.core.boxes": ("test_boxes",),
    "gpubranches.encoders.quantizers": ("test_quantize",),
    "gpubranches.core.whitening": ("test_whitening",),
    "gpubranches.learning.branches": ("test_branches", "test_learners"),
    "gpubranches.learning.linear": ("test_linear",),
    "gpubranches.learning.trees": ("test_trees", "test_learners"),
    "gpubranches.retrieval.boundary": ("test_boundary",),
    "gpubranches.retrieval.curves": ("test_completeness", "test_boundary"),
    "gpubranches.retrieval.explain": ("test_explain",),
    "gpubranches.retrieval.voting": ("test_voting",),
    "gpubranches.service.labels": ("test_labels",),
    "gpubranches.service.session": ("test_session",),
    "gpubranches.service.target": ("test_target",),
}
"""Modules and the files of tests that are to notice any change of them."""
JUDGED = {
    ("gpubranches.service.labels", "return [dict(zip(names, row, strict=False)) for row in cursor]"):
        "a row has as many values as its cursor has names",
}  # fmt: skip
"""The reason why a survivor is equivalent to the original, by its module and its changed line."""
_SLOWEST = 10
"""A run that takes so many times as long as the original is ended, and its mutant is killed."""
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_NAMES = {"min": "max", "any": "all", "minimum": "maximum", "argmin": "argmax", "floor": "ceil"}
_NAMES |= {new: old for old, new in _NAMES.items()}


@dataclass
class Found:
    """The results of one module. survivors: line number, original line, changed line."""

    module: str
    killed: int = 0
    survivors: list[tuple[int, str, str]] = field(default_factory=list)


Change = tuple[Callable[[], object], Callable[[], object]]
"""A function that changes a tree in place, and a function that reverts the change."""
Put = Callable[[ast.AST], object]
"""A function that replaces a node with another one."""


def changes(tree: ast.Module) -> Iterator[Change]:
    """Yield every change of a module."""
    for node, parent, put in _nodes(tree, tree, lambda new: None):
        yield from _of_node(node, put)
        is_test = isinstance(parent, ast.If | ast.IfExp | ast.While) and node is parent.test
        if is_test and isinstance(node, ast.expr) and not isinstance(node, ast.UnaryOp):
            yield _replacement(node, put, ast.UnaryOp(ast.Not(), node))
        if isinstance(node, ast.Raise | ast.AugAssign) or _is_call(node):
            yield _replacement(node, put, ast.Pass())


def _nodes(node: ast.AST, parent: ast.AST, put: Put) -> Iterator[tuple[ast.AST, ast.AST, Put]]:
    """Yield nodes with their parents and what replaces them, but for texts of errors, annotations and type checks."""
    yield node, parent, put
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "exc", "cause", "decorator_list"):
            continue
        if isinstance(value, ast.AST):
            yield from _nodes(value, node, partial(setattr, node, name))
        for at, child in enumerate(value if isinstance(value, list) else []):
            if isinstance(child, ast.AST):
                yield from _nodes(child, node, partial(value.__setitem__, at))


def _of_node(node: ast.AST, put: Put) -> Iterator[Change]:
    if type(node) in _OPERATORS:
        yield _replacement(node, put, _OPERATORS[type(node)]())
    match node:
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield _replacement(node, put, node.operand)
        case ast.Constant(value=bool(value)):
            yield _swap(node, "value", not value)
        case ast.Constant(value=int(value) | float(value)):
            yield _swap(node, "value", value + 1)
        case ast.Name(id=name) if name in _NAMES:
            yield _swap(node, "id", _NAMES[name])
        case ast.Attribute(attr=name) if name in _NAMES:
            yield _swap(node, "attr", _NAMES[name])


def _swap(node: ast.AST, name: str, new: object) -> Change:
    return partial(setattr, node, name, new), partial(setattr, node, name, getattr(node, name))


def _replacement(node: ast.AST, put: Put, new: ast.AST) -> Change:
    return partial(put, new), partial(put, node)


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def mutants(source: str, rng: random.Random) -> Iterator[tuple[int, str, str, str]]:
    """Yield the mutants of a module in random order: number, original and changed line, and the whole text."""
    tree = ast.parse(source)
    plain, seen = ast.unparse(tree), set()
    every = list(changes(tree))
    rng.shuffle(every)
    for make, undo in every:
        make()
        text = ast.unparse(tree)
        undo()
        pairs = enumerate(zip(plain.splitlines(), text.splitlines(), strict=False), 1)
        line = next(((at, old.strip(), new.strip()) for at, (old, new) in pairs if old != new), None)
        if line is not None and text not in seen:
            seen.add(text)
            yield (*line, text)


def run_tests(folder: Path, files: tuple[str, ...], limit_s: float) -> tuple[bool, float]:
    """Run files of tests in a fork of this process; return whether all passed in time, and the seconds it took."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(folder, files)
    while time.monotonic() - began < limit_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0, time.monotonic() - began
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, time.monotonic() - began


def _child(folder: Path, files: tuple[str, ...]) -> None:
    """Run the tests in the copy and end this process with pytest's status."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        for name in [each for each in sys.modules if each.split(".")[0] in COPIED]:  # to be imported from the copy
            del sys.modules[name]
        for handle in (1, 2):
            os.dup2(os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), handle)
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
        status = pytest.main([*options, *(f"tests/{name}.py" for name in files)])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def study(module: str, count: int, seed: int, folder: Path) -> Found:
    """Try `count` random mutants of a module in a copy of the repository. Exits if its tests fail as they are."""
    path = folder / f"{module.replace('.', '/')}.py"
    source, files, found = path.read_text(), TARGETS[module], Found(module)
    path.write_text(ast.unparse(ast.parse(source)))
    passed, _ = run_tests(folder, files, 600)
    passed, seconds = run_tests(folder, files, 600) if passed else (False, 0.0)
    if not passed:
        sys.exit(f"{module}: its tests fail without a change:\n{(folder / 'output').read_text()[-2000:]}")
    rng = random.Random(f"{module} {seed}")  # nosec B311  # to be repeated
    for at, old, new, text in sorted(islice(mutants(source, rng), count)):
        path.write_text(text)
        survived, _ = run_tests(folder, files, _SLOWEST * seconds + 10)
        if survived:
            found.survivors.append((at, old, new))
            print(f"{module}: survived: {old}  ->  {new}", file=sys.stderr, flush=True)
        found.killed += not survived
    path.write_text(source)
    return found


def report(command: str, results: list[Found]) -> str:
    """Return the results as a page of Markdown. command: what made them."""
    introduction = (
        "A mutant has one change; it is killed if a test fails. `equivalent` counts the survivors that behave like the "
        "original. The score is the share of killed mutants among those that are not equivalent."
    )
    counts = [(one.module, one.killed, *_split(one)) for one in results]
    killed, same, left = (sum(column) for column in zip(*(row[1:] for row in counts), strict=True))
    counts.append(("all", killed, same, left))
    rows = [
        (name, str(killed + same + left), str(killed), str(same), str(left), f"{killed / max(1, killed + left):.0%}")
        for name, killed, same, left in counts
    ]
    header = ("module", "mutants", "killed", "equivalent", "not noticed", "score")
    survivors = [
        (one.module, _code(old), _code(new), JUDGED.get((one.module, new), "no test notices it"))
        for one in results
        for _, old, new in one.survivors
    ]
    parts = [introduction, markdown_table(header, rows)]
    if survivors:
        parts.append(markdown_table(("survivor in", "original", "changed", "why it survives"), survivors))
    return document("Changes of core modules that the tests notice", command, *parts)


def _split(found: Found) -> tuple[int, int]:
    """Return how many survivors are equivalent to the original, and how many are not noticed."""
    equivalent = sum((found.module, new) in JUDGED for _, _, new in found.survivors)
    return equivalent, len(found.survivors) - equivalent


def _code(text: str) -> str:
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`"


def main() -> None:
    """Read the options, try the mutants, print the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--module", choices=tuple(TARGETS), action="append", help="may be repeated; all by default")
    parser.add_argument("--mutants", type=whole(1), default=25, help="random mutants of each module")
    parser.add_argument("--seed", type=whole(0), default=0, help="seed of the random mutants")
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    for name in PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="gpubranches-mutation-") as name:
        folder = Path(name)
        for part in COPIED:
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "pyproject.toml", folder)
        modules = options.module or TARGETS
        results = [study(module, options.mutants, options.seed, folder) for module in modules]
    publish(report(command_line("mutation"), results), options.out)


if __name__ == "__main__":
    main()
