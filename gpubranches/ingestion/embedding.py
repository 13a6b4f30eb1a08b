"""Embedding a sequence of pictures: threads decode ahead, and the model works on two batches at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.threads import cores
from gpubranches.encoders import Embedder

_BATCHES_AHEAD = 3
"""Batches of pictures that are decoded ahead of the model."""
_BATCHES_EMBEDDED = 2
"""Batches that are assembled and embedded at a time: one is prepared while the model runs the other."""


class Decoded(Protocol):
    """A picture that was read. prepared: the input of the embedder; error: why it could not be read, or None."""

    @property
    def prepared(self) -> object: ...  # noqa: D102
    @property
    def error(self) -> str | None: ...  # noqa: D102


Job = TypeVar("Job")
Result = TypeVar("Result", bound=Decoded)


@dataclass
class EmbeddingRates:
    """The rates at which pictures were decoded and embedded; a rate counts only the time in which the work was done.

    decoded, embedded: numbers of pictures; decode_s: seconds in which the threads decoded, summed over all `decoders`
    threads, by default one for each core; embed_s: seconds in which the model was running.
    """

    decoded: int = 0
    embedded: int = 0
    decode_s: float = 0.0
    embed_s: float = 0.0
    decoders: int = field(default_factory=cores)

    @property
    def decoded_per_s(self) -> float:
        """Pictures per second of all decoders together; 0 before the first."""
        return self.decoded * self.decoders / self.decode_s if self.decode_s else 0.0

    @property
    def embedded_per_s(self) -> float:
        """Pictures per second of the model; 0 before the first."""
        return self.embedded / self.embed_s if self.embed_s else 0.0


def embed_in_order(
    jobs: Iterable[Job],
    decode: Callable[[Job], Result],
    embedder: Embedder,
    batch_size: int,
    decoders: ThreadPoolExecutor,
    rates: EmbeddingRates,
) -> Generator[tuple[list[Result], NDArray[np.float32]]]:
    """Yield batches of decoded pictures in the order of their jobs, with their embeddings, (m, D) float32.

    decode: reads the picture of a job; the threads `decoders` (see `decoding_threads`) call it a few batches ahead. A
    picture with an error gets an embedding of zeros. rates: updated by this function.
    """
    decoding: deque[Future[tuple[Result, float]]] = deque()
    embedding: deque[tuple[list[Result], Future[NDArray[np.float32]]]] = deque()
    clock = _Clock()
    pending = iter(jobs)
    with _threads(_BATCHES_EMBEDDED) as embedders:
        while True:
            while len(decoding) < batch_size * _BATCHES_AHEAD and (job := next(pending, None)) is not None:
                decoding.append(decoders.submit(_timed, decode, job))
            if decoding and len(embedding) < _BATCHES_EMBEDDED:
                done = [decoding.popleft().result() for _ in range(min(batch_size, len(decoding)))]
                rates.decoded += len(done)
                rates.decode_s += sum(seconds for _, seconds in done)
                batch = [each for each, _ in done]
                embedding.append((batch, embedders.submit(_embed, batch, embedder, clock)))
            elif embedding:
                batch, rows = embedding.popleft()
                yield batch, rows.result()
                rates.embedded += sum(each.error is None for each in batch)
                rates.embed_s = clock.seconds
            else:
                return


def decoding_threads(count: int) -> AbstractContextManager[ThreadPoolExecutor]:
    """Yield a pool of decoding threads; jobs not started by the end of the block are dropped."""
    return _threads(count)


class _Clock:
    """Counts the seconds in which at least one thread is in `running`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock, self._inside, self._since = threading.Lock(), 0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._since = time.perf_counter()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                now = time.perf_counter()
                self.seconds, self._since = self.seconds + now - self._since, now


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads; jobs not started by the end of the block are dropped."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _timed(decode: Callable[[Job], Result], job: Job) -> tuple[Result, float]:
    began = time.perf_counter()
    return decode(job), time.perf_counter() - began


def _embed(batch: list[Result], embedder: Embedder, clock: _Clock) -> NDArray[np.float32]:
    rows = np.zeros((len(batch), embedder.D), np.float32)
    good = [number for number, each in enumerate(batch) if each.error is None]
    if good:
        with clock.running():
            rows[good] = embedder.encode([batch[number].prepared for number in good])
    return rows
