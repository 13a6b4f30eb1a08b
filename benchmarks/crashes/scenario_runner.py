"""Run scenarios in processes that are forked from this one, which has loaded the whole program."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.crashes import disk, layer
from benchmarks.crashes.checks import content, goes_on
from benchmarks.crashes.scenarios import Command, Hooks, Requests
from benchmarks.crashes.world import World

_LIMIT_S = 300
_NOT_REACHED = 99
_BEFORE = -1_000_000
Scenario = Command | Requests


@dataclass(frozen=True)
class Outcome:
    """The end of a process: status, negative for a signal; its output; how many of its requests were answered."""

    status: int
    said: str
    done: int


class ScenarioRunner:
    """A folder in which one scenario at a time runs, each time from its start."""

    def __init__(self, folder: Path):
        self.work, self.log = folder / "work", folder / "log"
        self._said, self._done, self._answer = folder / "said", folder / "done", folder / "answer"
        self._judged: dict[object, str] = {}
        self._went_on: set[tuple[str, str]] = set()
        self.world = World(folder)

    def prepared(self, scenario: Scenario) -> Path:
        """Return the start of a scenario, with all modules loaded that it needs."""
        with self._unsaid():
            start = self.world.start(scenario.start)
            if scenario.needs == "torch":
                self.world.train_head(self.world.inputs / "other-head.safetensors")  # loads what else each would load
            elif scenario.needs == "head":
                assert self.world.head.exists()  # nosec B101  # made by asking for it
        gc.freeze()
        return start

    @contextmanager
    def _unsaid(self) -> Iterator[None]:
        """Redirect the output to a file."""
        sys.stdout.flush()
        held = [(handle, os.dup(handle)) for handle in (1, 2)]
        said = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for handle, _ in held:
            os.dup2(said, handle)
        try:
            with patch.object(sys, "argv", sys.argv):
                yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for handle, copy in held:
                os.dup2(copy, handle)
                os.close(copy)
            os.close(said)

    def begin(self, tree: Path | disk.Tree) -> None:
        """Fill the working folder with a start or a tree."""
        shutil.rmtree(self.work, ignore_errors=True)
        if isinstance(tree, Path):
            shutil.copytree(tree, self.work, symlinks=True)
        else:
            self.work.mkdir()
            disk.write(tree, self.work)

    def play(self, scenario: Scenario, kind: str = "none", at: int = -1, error: str = "", done: int = 0) -> Outcome:
        """Run a scenario in a process of its own, over the layer; record its calls."""
        for file in (self.log, self._done):
            file.write_bytes(b"")

        def playing() -> int:
            log = os.open(self.log, os.O_WRONLY | os.O_APPEND)
            answered = os.open(self._done, os.O_WRONLY | os.O_APPEND)

            def told(number: int) -> None:
                layer.note(str(number))
                os.write(answered, b".")

            came = False
            layer.arm(self.work, log, first=_BEFORE)

            def freed() -> None:
                nonlocal came
                came = layer.fired()
                layer.arm(self.work, log)

            hooks = Hooks(lambda: layer.arm(self.work, log, kind, at, error), told, freed)
            with patch.object(uuid, "uuid4", _Names(0)):
                status = scenario.play(self.world, self.work, done, hooks)
            return status if kind == "none" or came or layer.fired() else _NOT_REACHED

        status, said = self._forked(playing)
        return Outcome(status, said, done + len(self._done.read_bytes()))

    def contents(self) -> dict[str, Any]:
        """Return the content of the working folder. Raises RuntimeError if it cannot be determined."""
        answer = self._asked(lambda: content(self.work))
        if "broken" in answer:
            raise RuntimeError(answer["broken"])
        return answer

    def verdict(self, scenario: Scenario, allowed: list[Any], final: Any, outcome: Outcome | None, done: int) -> str:
        """Return the problem of the working folder after a fault, or after resuming from it; "" for none.

        allowed: the contents that it may have; final: the content after an undisturbed run, which the same command must
        reach.
        """

        def judged() -> dict[str, Any]:
            left = plain(content(self.work))
            if left not in allowed:
                return {"broken": f"neither the old state nor the new: {_difference(left, allowed)}"}
            if outcome is not None and outcome.status == 0 and outcome.done == scenario.notes and left != final:
                return {"broken": "a command that ended with status 0 has not done it"}
            with patch.object(uuid, "uuid4", _Names(1)):
                status = scenario.play(self.world, self.work, done, Hooks(_nothing, _nothing, _nothing))
            if status and not (status == 2 and left == final):
                return {"broken": f"the same command ends with status {status}"}
            tree = scenario.name, disk.fingerprint(disk.read(self.work))
            if tree not in self._went_on:
                after = plain(content(self.work))
                if after != final:
                    return {"broken": f"the same command leads elsewhere: {_difference(after, [final])}"}
                if broken := goes_on(self.work, final):
                    return {"broken": broken}
            return {"broken": "", "tree": tree[1]}

        # Folders with equal bytes are checked once, as is the result of the same command on them.
        same = (
            scenario.name,
            disk.fingerprint(disk.read(self.work)),
            len(allowed),
            done,
            outcome and outcome.status == 0,
        )
        if same not in self._judged:
            answer = self._asked(judged)
            self._judged[same] = str(answer["broken"])
            if not answer["broken"]:
                self._went_on.add((scenario.name, str(answer["tree"])))
        return self._judged[same] or (_misbehaved(scenario, outcome) if outcome is not None else "")

    def _asked(self, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of a function in a separate process, {"broken": ...} if it fails."""

        def answering() -> int:
            self._answer.write_text(json.dumps(function()))
            return 0

        status, said = self._forked(answering)
        return dict(json.loads(self._answer.read_text())) if status == 0 else {"broken": f"{status}: {said[-600:]}"}

    def _forked(self, function: Callable[[], int]) -> tuple[int, str]:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            signal.alarm(_LIMIT_S)
            gc.disable()  # it would copy the memory that is shared with the parent
            handle = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            status = 1
            try:
                status = function()
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        _, ended = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(ended), self._said.read_text(errors="replace")


class _Names:
    """Random names that are the same in every process, so that folders can be compared."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # nosec B311  # reproducible

    def __call__(self) -> uuid.UUID:
        return uuid.UUID(int=self._rng.getrandbits(128), version=4)


def _nothing(*arguments: object) -> None:
    return None


def plain(value: Any) -> Any:
    """Return a value after a round trip through JSON."""
    return json.loads(json.dumps(value))


def _difference(one: Any, others: list[Any]) -> str:
    """Return the parts in which a content differs from the last of some others."""
    if "damage" in one:
        return str(one["damage"][0])
    other = others[-1]
    for name in one:
        if one[name] != other[name]:
            if isinstance(one[name], dict) and isinstance(other[name], dict):
                parts = [key for key in {**one[name], **other[name]} if one[name].get(key) != other[name].get(key)]
                return f"{name}: {', '.join(parts)}"
            return f"{name}: {one[name]!r:.120} for {other[name]!r:.120}"
    return "nothing"


def _misbehaved(scenario: Scenario, outcome: Outcome) -> str:
    """Return the problem with the end of a disturbed process; "" for none."""
    said, status = outcome.said.rstrip(), outcome.status
    if status == _NOT_REACHED:
        return "the call did not come"
    if "Traceback" in said:
        return f"a traceback: {said[-300:]}"
    if status == -signal.SIGKILL or status == 0:
        return ""
    if status == -signal.SIGALRM:
        return "it hung"
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    if status == 3 and len(errors) == 1 and said.endswith(errors[0]):
        return ""
    return f"status {status}: {said[-300:]}"
