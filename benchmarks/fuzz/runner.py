"""Run inputs one after the other within limits, in a separate process, so that a crash is reported too."""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import json
import logging
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from benchmarks.fuzz import catalogs, containers, files, requests, states  # noqa: F401  # they register their readers
from benchmarks.fuzz.reader import READERS, BrokenGuaranteeError, Reader
from benchmarks.fuzz.world import World, make
from gpubranches.errors import GpuBranchesError

CORPUS = Path(__file__).resolve().parent.parent.parent / "tests/corpus"
"""Folder of inputs that once failed, one folder per reader."""
MEMORY_BYTES = 1 << 30
"""Memory limit for reading an input, in addition to the memory in use after all valid inputs."""
CPU_S = 10.0
"""Limit of processor time of all threads for one input, in seconds."""
HANG_S = 60.0
"""Seconds after which an input counts as endless."""
_LONGEST = 1 << 20


class HangError(BaseException):
    """An input took too long; no reader's `except Exception` catches it."""


@dataclass
class Tried:
    """The results of one reader: tried inputs, refused ones, faults by their place, and the seconds."""

    reader: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    faults: dict[str, str] = field(default_factory=dict)


def judge(reader: Reader, world: World, data: bytes) -> tuple[str, bool]:
    """Read one input; return the fault, "" for none, and whether the input was refused."""
    shutil.rmtree(world.scratch, ignore_errors=True)
    world.scratch.mkdir()
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    faulthandler.dump_traceback_later(2 * HANG_S, exit=True)
    began = time.process_time()
    refused = False
    try:
        reader.read(world, data)
    except GpuBranchesError as error:
        refused = True
        if not str(error).strip() or "\n" in str(error).strip():
            return f"{type(error).__name__} that is no sentence: {str(error)[:200]!r}", refused
    except BrokenGuaranteeError as error:
        return f"unfit: {str(error)[:300]}", refused
    except (Exception, HangError) as error:
        return _place(error), refused
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    took = time.process_time() - began
    return (f"took {CPU_S:.0f} s of processor time and more", refused) if took > CPU_S else ("", refused)


def _place(error: BaseException) -> str:
    """Return the class of an error, and the last place in this package that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/gpubranches/" in frame.filename]
    if not frames:
        return f"{type(error).__name__}: {str(error)[:200]}"
    name = frames[-1].filename.rpartition("/gpubranches/")[2]
    return f"{type(error).__name__} at {name}:{frames[-1].name}: {str(error)[:120]}"


def _hang(number: int, frame: Any) -> None:
    raise HangError(f"no end after {HANG_S:.0f} s")


@contextlib.contextmanager
def limited(memory: bool = True) -> Iterator[None]:
    """Limit the time of inputs in this process and, if `memory`, its memory to `MEMORY_BYTES` more."""
    before = signal.signal(signal.SIGALRM, _hang)
    logging.disable(logging.CRITICAL)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (_held_bytes() + MEMORY_BYTES, limits[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.signal(signal.SIGALRM, before)
        logging.disable(logging.NOTSET)


def _held_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))


def corpus_inputs(name: str) -> list[bytes]:
    """Return the inputs of a reader in the corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def next_input(reader: Reader, sound: list[bytes], rng: random.Random) -> bytes:
    """Return the next input: a valid or a kept one, changed by the function of its reader, sometimes twice."""
    data = rng.choice(sound)
    for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 2))):
        data = reader.mutate(data, rng)
    return data[:_LONGEST]


def valid_inputs(reader: Reader, world: World) -> list[bytes]:
    """Return the seeds of a reader. Raises BrokenGuaranteeError if it refuses one."""
    seeds = reader.seeds(world)
    for seed in seeds:
        wrong, _ = judge(reader, world, seed)
        if wrong:
            raise BrokenGuaranteeError(f"{reader.name}: a sound input failed: {wrong}")
    return seeds


class Attempt:
    """Inputs of one reader that are tried one after the other; results are written to a folder at once."""

    def __init__(self, reader: Reader, world: World, folder: Path):
        self.tried = Tried(reader.name)
        self._reader, self._world, self._folder = reader, world, folder
        self._start = self._noted = time.monotonic()

    def one(self, data: bytes) -> None:
        """Try an input."""
        (self._folder / "current").write_bytes(data)
        wrong, refused = judge(self._reader, self._world, data)
        tried, now = self.tried, time.monotonic()
        tried.inputs += 1
        tried.refused += refused
        tried.seconds = now - self._start
        if wrong and wrong.split(": ")[0] not in tried.faults:
            tried.faults[wrong.split(": ")[0]] = f"{wrong} ({_leave(self._folder, tried.reader, data)})"
        if wrong or tried.inputs == 1 or now - self._noted > 1:
            self.note()

    def note(self) -> None:
        """Write the results so far."""
        self._noted = time.monotonic()
        part = self._folder / "tried.partial"
        part.write_text(json.dumps(asdict(self.tried)))
        part.replace(self._folder / "tried.json")


def work(name: str, folder: str, engine: str, seed: int, seconds: float, inputs: int) -> None:
    """Try inputs of a reader until the time or the number of inputs is used up.

    engine: "plain" changes valid inputs; "atheris" also changes inputs that reached new lines of Python, and ends the
    process.
    """
    reader = READERS[name]
    with tempfile.TemporaryDirectory(prefix="gpubranches-fuzz-") as place:
        world = make(Path(place))
        with limited(memory=False):
            sound = valid_inputs(reader, world) + corpus_inputs(name)
        with limited():
            attempt = Attempt(reader, world, Path(folder))
            if engine == "atheris":
                _guided(reader, attempt, sound, Path(place), seed, seconds, inputs)
            rng = random.Random(f"{name} {seed}")  # nosec B311  # to be repeated
            until = time.monotonic() + seconds
            while attempt.tried.inputs < inputs and time.monotonic() < until:
                attempt.one(next_input(reader, sound, rng))
            attempt.note()


def _guided(
    reader: Reader, attempt: Attempt, sound: list[bytes], folder: Path, seed: int, seconds: float, inputs: int
) -> None:
    """Try inputs as libFuzzer chooses them; does not return."""
    import atheris

    corpus = folder / "found"
    corpus.mkdir()
    for number, data in enumerate(sound):
        (corpus / str(number)).write_bytes(data)

    def change(data: bytes, most: int, draw: int) -> bytes:
        return reader.mutate(data, random.Random(draw))[:most]  # nosec B311  # to be repeated

    for function in _own_functions():
        atheris.instrument_func(function)
    # The limits are those of `judge`; libFuzzer's own are off.
    options = ["-timeout=0", "-rss_limit_mb=0", "-len_control=0", "-verbosity=0", f"-max_len={_LONGEST}"]
    options += [f"-max_total_time={max(1, round(seconds))}", f"-runs={min(inputs, 2**31 - 1)}", f"-seed={seed + 1}"]
    atheris.Setup([reader.name, *options, str(corpus)], attempt.one, custom_mutator=change)
    atheris.Fuzz()


def _own_functions() -> Iterator[Any]:
    """Yield the functions and methods of the package that are loaded."""
    for name, module in sorted(sys.modules.items()):
        if name.startswith("gpubranches"):
            for value in list(vars(module).values()):
                yield from (each for each in (value, *_methods(value)) if _is_own(each, name))


def _methods(value: Any) -> list[Any]:
    return [getattr(each, "__func__", each) for each in vars(value).values()] if isinstance(value, type) else []


def _is_own(value: Any, module: str) -> bool:
    return isinstance(value, FunctionType) and value.__module__ == module


def try_few(out: Path, seed: int = 0) -> dict[str, dict[str, str]]:
    """Try the kept inputs and a few new ones of each reader in this process; return their faults by input.

    Failing inputs are saved in `out`.
    """
    faults: dict[str, dict[str, str]] = {"kept": {}, "drawn": {}}
    with tempfile.TemporaryDirectory(prefix="gpubranches-fuzz-") as place:
        world = make(Path(place))
        with limited(memory=False):
            sound = {name: valid_inputs(reader, world) for name, reader in READERS.items()}
        with limited():
            for name, reader in READERS.items():
                rng = random.Random(f"{name} {seed}")  # nosec B311  # to be repeated
                fresh = (next_input(reader, sound[name], rng) for _ in range(reader.few))
                for kind, inputs in (("kept", corpus_inputs(name)), ("drawn", fresh)):
                    for data in inputs:
                        wrong, _ = judge(reader, world, data)
                        if wrong:
                            faults[kind][_leave(out, name, data)] = wrong
    return faults


def _leave(out: Path, name: str, data: bytes) -> str:
    """Save an input in a folder; return its name."""
    path = out / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path.name


def fuzz(name: str, out: Path, engine: str, seed: int, seconds: float, inputs: int) -> Tried:
    """Try inputs of a reader in separate processes; an input that ends one is a fault, and a new process continues.

    engine: as in `work`. Failing inputs are saved in `out`.
    """
    total = Tried(name)
    context = multiprocessing.get_context("spawn")
    while total.seconds < seconds and total.inputs < inputs:
        (out / "tried.json").unlink(missing_ok=True)
        process = context.Process(
            target=work,
            args=(name, str(out), engine, seed + total.inputs, seconds - total.seconds, inputs - total.inputs),
        )
        process.start()
        process.join()
        if not (out / "tried.json").exists():
            total.faults["start"] = f"the process of {name} ended with {process.exitcode} before the first input"
            return total
        part = Tried(**json.loads((out / "tried.json").read_text()))
        total.inputs += part.inputs
        total.refused += part.refused
        total.seconds += part.seconds
        total.faults = {**part.faults, **total.faults}
        if process.exitcode:
            shutil.copy(out / "current", out / f"{name}-killed-{total.inputs}")
            what = f"the process ended with {process.exitcode}"
            total.faults.setdefault(what, f"{what} ({name}-killed-{total.inputs})")
            total.inputs += 1
    return total
