"""What a harness is: sound inputs of one reader, how they are changed, and how one is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.fuzzing.mutating import Mutator
from benchmarks.fuzzing.world import World


class Unfit(Exception):
    """An answer that breaks what is promised, such as a status of 500."""


@dataclass(frozen=True)
class Reader:
    """One harness.

    seeds: of a world, sound inputs; read: reads one, and uses what it read; may raise GpuBranchesError alone. few: how
    many inputs the suite tries, so that each reader takes about a second.
    """

    name: str
    seeds: Callable[[World], list[bytes]]
    mutate: Mutator
    read: Callable[[World, bytes], None]
    few: int


READERS: dict[str, Reader] = {}


def reader(
    name: str, seeds: Callable[[World], list[bytes]], mutate: Mutator, *, few: int
) -> Callable[..., Callable[..., None]]:
    """Enter a function as what reads an input of that name."""

    def enter(read: Callable[[World, bytes], None]) -> Callable[[World, bytes], None]:
        READERS[name] = Reader(name, seeds, mutate, read, few)
        return read

    return enter
