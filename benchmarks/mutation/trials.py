"""Runs of tests in forks: which lines they reach, and whether they notice a mutant."""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import pytest

from benchmarks.mutation.changes import Mutant

COPIED = ("benchmarks", "gpubranches", "kernels", "tests", "web")
"""The folders that the copy of the repository has."""
_CHOSEN_S = 8.0
"""The tests that are chosen for a mutant take about so long in all."""
_SLOWEST = 5
"""A run that takes so many times as long as the original is ended, and its mutant is killed."""


@dataclass
class Reached:
    """The tests of a module by name: the seconds each took, and those that reach each line."""

    took_s: dict[str, float]
    by_line: dict[int, list[str]]

    def chosen(self, line: int) -> list[str]:
        """Return the tests that reach a line, or all tests if none is known to, the fastest first, to `_CHOSEN_S`."""
        names = sorted(self.by_line.get(line) or self.took_s, key=lambda name: self.took_s[name])
        ends = accumulate(self.took_s[name] for name in names)
        return [name for name, end in zip(names, ends, strict=True) if end <= _CHOSEN_S] or names[:1]


class _Watcher:
    """A plugin of pytest that notes how long each test takes, and which lines of a file it reaches."""

    def __init__(self, path: Path) -> None:
        import coverage

        self.path, self.took_s = str(path), dict[str, float]()
        self.coverage = coverage.Coverage(data_file=None, include=[self.path], config_file=False)
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.coverage.switch_context(item.nodeid)
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self.took_s[item.nodeid] = time.monotonic() - began
            self.coverage.switch_context("")

    def write(self, out: Path) -> None:
        self.coverage.stop()
        lines = self.coverage.get_data().contexts_by_lineno(self.path)
        by_line = {line: [name for name in names if name] for line, names in lines.items()}
        out.write_text(json.dumps([self.took_s, by_line]))


class _Chosen:
    """A plugin of pytest that runs some tests in a given order, and no others."""

    def __init__(self, names: Sequence[str]) -> None:
        self.order = {name: at for at, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((one for one in items if one.nodeid in self.order), key=lambda one: self.order[one.nodeid])


def run_tests(folder: Path, files: Iterable[str], limit_s: float, plugin: Callable[[], object] = object) -> bool:
    """Run files of tests, under tests/, in a fork of this process; return whether all passed in time.

    plugin: makes a plugin of pytest in the fork.
    """
    child = os.fork()
    if child == 0:
        _child(folder, files, plugin)
    try:
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                child = 0
                return status == 0
            time.sleep(0.02)
        return False
    finally:
        if child:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _child(folder: Path, files: Iterable[str], plugin: Callable[[], object]) -> None:
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
        made = plugin()
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
        status = pytest.main([*options, *(f"tests/{name}.py" for name in files)], plugins=[made])
        if isinstance(made, _Watcher):
            made.write(folder / "reached.json")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def watched(path: Path, files: Sequence[str], folder: Path) -> Reached:
    """Run the tests of a module at a path in the copy, and return what they reach; exits if one fails."""
    if not run_tests(folder, files, 600, partial(_Watcher, path)):
        sys.exit(f"{path.name}: its tests fail without a change:\n{(folder / 'output').read_text()[-2000:]}")
    took_s, by_line = json.loads((folder / "reached.json").read_text())
    return Reached(took_s, {int(line): names for line, names in by_line.items()})


def is_killed(folder: Path, files: Sequence[str], line: int, reached: Reached) -> bool:
    """Return whether a test notices the mutant in the copy: the chosen ones are asked first, then all."""
    names = reached.chosen(line)
    own = [file for file in files if any(name.startswith(f"tests/{file}.py::") for name in names)]
    chosen_s, all_s = (sum(map(reached.took_s.__getitem__, some)) for some in (names, reached.took_s))
    survived = run_tests(folder, own, _SLOWEST * chosen_s + 10, partial(_Chosen, names))
    return not (survived and run_tests(folder, files, _SLOWEST * all_s + 10))


def tried(
    path: Path, files: Sequence[str], drawn: Sequence[Mutant], folder: Path, until: float
) -> Iterator[tuple[Mutant, bool]]:
    """Yield mutants of the module at a path in the copy with whether the tests kill them, until a time.

    The copy is as before at the end.
    """
    source = path.read_text()
    try:
        path.write_text(ast.unparse(ast.parse(source)))
        if time.monotonic() > until:
            return
        reached = watched(path, files, folder)
        for mutant in drawn:
            if time.monotonic() > until:
                return
            path.write_text(mutant[3])
            yield mutant, is_killed(folder, files, mutant[0], reached)
    finally:
        path.write_text(source)
