"""Find the fault points of a scenario (places and kinds of faults) in an undisturbed run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.crashes import disk
from benchmarks.crashes.layer import read_calls
from benchmarks.crashes.scenario_runner import Scenario, ScenarioRunner

KINDS = ("killed", "killed within a write", "a call fails", "short write", "disk full", "power cut")
_ENDED = -1


@dataclass(frozen=True)
class Point:
    """One fault. what: of `KINDS`; kind, at, error: for the layer; tree: the content after a power cut, or None.

    done: number of requests that were answered before, or _ENDED for a command that had ended.
    """

    what: str
    told: str
    kind: str = "none"
    at: int = -1
    error: str = ""
    tree: disk.Tree | None = None
    done: int = 0


class Run:
    """An undisturbed run of a scenario: its calls, and the content at each of its commits; the last one is final."""

    def __init__(self, runner: ScenarioRunner, scenario: Scenario):
        self.runner, self.scenario = runner, scenario
        self.start = runner.prepared(scenario)
        runner.begin(self.start)
        outcome = runner.play(scenario)
        if outcome.status:
            raise RuntimeError(f"{scenario.name}: ended with status {outcome.status}, undisturbed: {outcome.said}")
        self.calls = read_calls(runner.log)
        self._check_model()
        self.contents = list(self._contents())
        self.final = self.contents[-1]

    def _check_model(self) -> None:
        """Raise RuntimeError unless the recorded calls explain the whole content of the folder."""
        model = disk.Disk(self.start, self.runner.work)
        for call in self.calls:
            model.apply(call)
        seen, real = model.now(), disk.read(self.runner.work)
        other = [
            path for path in {**seen, **real} if seen.get(path, b"") != real.get(path, b"") and path[-4:] != "-shm"
        ]
        if other or seen.keys() != real.keys():
            raise RuntimeError(f"{self.scenario.name}: {other[:3]} changed by calls that the layer does not see")

    def _contents(self) -> Iterator[dict[str, Any]]:
        """Yield the content at the start, at each commit and at the end."""
        model = disk.Disk(self.start, self.runner.work)
        self.runner.begin(self.start)
        yield self.runner.contents()
        for call in self.calls:
            model.apply(call)
            commit = call.other if call.what == "r" else call.path if call.what == "u" else ""
            if call.what == "n" or commit.endswith("/manifest.json"):
                self.runner.begin(model.now())
                yield self.runner.contents()
        self.runner.begin(model.now())
        yield self.runner.contents()

    def points(self) -> Iterator[Point]:
        """Yield all points.

        The first call of a kind for a file of a name fails with each of its errors; every later one fails with one of
        them, a different one each time.
        """
        met: Counter[tuple[str, str]] = Counter()
        for call in self.calls:
            if call.number < 0:
                continue
            name = f"{call.what} {os.path.basename(call.path)} (call {call.number})"
            if call.changes:
                yield Point("killed", f"before {name}", "kill", call.number)
            turn = met[call.what, call.name]
            met[call.what, call.name] += 1
            for error in [call.errors[turn % len(call.errors)]] if turn else call.errors:
                yield Point("a call fails", f"{error} at {name}", "fail", call.number, error)
            if call.takes_space:
                yield Point("disk full", f"from {name} on", "full", call.number)
            if call.what == "w" and len(call.data) > 1:
                yield Point("killed within a write", f"within {name}", "torn", call.number)
                yield Point("short write", f"at {name}", "short", call.number)
        yield from self._cuts()

    def _cuts(self) -> Iterator[Point]:
        model, rng, done = disk.Disk(self.start, self.runner.work), np.random.default_rng(0), 0
        known: set[tuple[str, int]] = set()
        for number, call in enumerate(self.calls):
            model.apply(call)
            done += call.what == "n"
            ended = number + 1 == len(self.calls)
            if not (call.changes or ended):
                continue
            after = _ENDED if ended and not self.scenario.notes else done
            for mode, tree in model.after_cut(rng):
                key = disk.fingerprint(tree), after
                if key not in known:
                    known.add(key)
                    told = f"{mode}, after {call.what} {os.path.basename(call.path)} ({number})"
                    yield Point("power cut", f"{told}{', the end' if ended else ''}", tree=tree, done=after)

    def judge(self, point: Point) -> str:
        """Run the scenario with the fault of a point; return the problem, "" for none."""
        runner, scenario = self.runner, self.scenario
        if point.tree is not None:
            runner.begin(point.tree)
            outcome, done = None, point.done
        else:
            runner.begin(self.start)
            outcome = runner.play(scenario, point.kind, point.at, point.error)
            done = outcome.done
        return runner.verdict(scenario, self._allowed(done), self.final, outcome, max(done, 0))

    def _allowed(self, done: int) -> list[Any]:
        """Return the allowed contents. done: number of answered requests, or _ENDED."""
        if done == _ENDED:
            return [self.final]
        return self.contents[done : done + 2] if self.scenario.notes else self.contents
