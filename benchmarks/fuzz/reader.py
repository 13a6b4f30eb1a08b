"""The type `Reader`: valid inputs, a function that changes them, and a function that reads one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.fuzz.mutations import Mutator
from benchmarks.fuzz.world import World


class BrokenGuaranteeError(Exception):
    """An answer that breaks a guarantee, such as a status of 500."""


@dataclass(frozen=True)
class Reader:
    """One harness.

    seeds: function from a world to valid inputs; read: reads one and uses the result, and may raise only
    GpuBranchesError. few: how many inputs the suite tries, so that each reader takes about half a second.
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
    """Decorate a function to register it as the reader of that name."""

    def enter(read: Callable[[World, bytes], None]) -> Callable[[World, bytes], None]:
        READERS[name] = Reader(name, seeds, mutate, read, few)
        return read

    return enter
