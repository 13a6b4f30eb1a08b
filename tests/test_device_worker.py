"""The thread that owns the card: lack of memory, what is raised in it, its end."""

import os
import threading
import time
from functools import partial

import numpy as np
import pytest
from cudasim import SimulatedDevice
from worlds import World, empty

from gpubranches.core.boxes import Box, Boxes
from gpubranches.engines.gpu import GpuBackend
from gpubranches.engines.gpu.device_worker import DeviceWorker, FilterKey
from gpubranches.engines.gpu.memory import MemoryPlan
from gpubranches.errors import BackendUnavailableError, DeviceError, DeviceMemoryError

EVERYTHING = Boxes([Box(*empty())])


def asked_together(worker, works):
    """Return what works, functions of no argument, return or raise; all wait before the first is begun."""
    hold, found = threading.Event(), {}

    def ask(i):
        try:
            found[i] = works[i]()
        except BaseException as error:
            found[i] = error

    threads = [threading.Thread(target=worker.call, args=(hold.wait,), daemon=True)]
    threads[0].start()
    while worker._waiting:
        time.sleep(0.001)
    for i in range(len(works)):
        threads.append(threading.Thread(target=ask, args=(i,), daemon=True))
        threads[-1].start()
        while len(worker._waiting) <= i:
            time.sleep(0.001)
    hold.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a caller hangs"
    return [found[i] for i in range(len(works))]


@pytest.fixture
def worker():
    made = DeviceWorker("test", lambda: None)
    yield made
    made.close()


# Lack of memory


@pytest.mark.parametrize("users", [2, 8, 11])
def test_a_batch_that_does_not_fit_whole_is_answered_after_a_split(tmp_path, users):
    """The buffers of the failed attempt are free before the next one, or no half would fit either."""
    world = World(tmp_path / "c", [9000], seed=2)
    models = [world.boxes() for _ in range(users)]
    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        alone = [backend.apply(boxes, limit=20) for boxes in models]
        device, peaks = backend._device, []
        for count in ((users + 1) // 2, users):
            device.peak = 0
            backend.apply_many(models[:count], limit=20)
            peaks.append(device.peak)
        device.memory_bytes = (peaks[0] + peaks[1]) // 2
        works = [partial(backend.apply, boxes, limit=20) for boxes in models]
        held, passes = device.used, device.launches.count("boxes")
        found = asked_together(backend._worker, works)
        assert [one.ids.tolist() for one in found] == [one.ids.tolist() for one in alone]
        assert device.trimmed == 1
        assert device.launches.count("boxes") in (passes + 2, passes + 3)  # the attempt may fail after its scan
        assert device.used == held


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_nothing_of_a_failed_attempt_is_held_down_the_chain_of_causes(worker, depth):
    alive = []

    class Buffer:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def fail(levels, buffer):
        try:
            if levels == 0:
                raise MemoryError("no more")
            fail(levels - 1, Buffer())
        except (MemoryError, DeviceMemoryError) as error:
            raise DeviceMemoryError(f"{levels}") from (error if levels % 2 else None)

    def run_batch(items):
        if alive:
            raise ValueError(f"{len(alive)} buffers of the last attempt are still there")
        buffers = [Buffer() for _ in items]
        if len(items) > 1:
            fail(depth, buffers)
        return items

    found = asked_together(worker, [lambda i=i: worker.submit("key", i, run_batch) for i in range(5)])
    assert found == [0, 1, 2, 3, 4]


def test_what_the_device_keeps_for_reuse_is_given_back_before_the_next_attempt():
    events = []
    worker = DeviceWorker("test", lambda: None, lambda: events.append("trim"))

    def run_batch(items):
        events.append(len(items))
        if len(items) > 2:
            raise DeviceMemoryError("too many")
        return items

    assert asked_together(worker, [lambda i=i: worker.submit("key", i, run_batch) for i in range(6)]) == list(range(6))
    assert events == [6, "trim", 3, "trim", 1, 2, 3, "trim", 1, 2]
    worker.close()


def test_a_request_alone_that_does_not_fit_is_refused_and_holds_nothing(tmp_path):
    world = World(tmp_path / "c", [9000], seed=2)
    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        device = backend._device
        backend.apply(EVERYTHING)
        held, device.memory_bytes = device.used, device.used + 100_000
        with pytest.raises(DeviceMemoryError, match="free device memory") as raised:
            backend.apply(EVERYTHING)
        assert device.used == held
        assert raised.value.__traceback__ is not None
        device.memory_bytes = 1 << 40
        assert backend.apply(EVERYTHING).total == len(world.ids)


# What is raised in the thread


class Odd:
    """Cannot be compared, hashed or told apart."""

    def __init__(self, error):
        self.error = error

    def __eq__(self, other):
        raise self.error

    __hash__ = None


@pytest.mark.parametrize("error", [MemoryError("no room to compare"), ValueError("odd"), KeyboardInterrupt()])
def test_what_is_raised_in_picking_the_next_work_reaches_everybody_who_waits(worker, error):
    def ask(batch_key):
        return worker.submit(batch_key, 1, lambda items: items)

    found = asked_together(worker, [partial(ask, Odd(error)), partial(ask, Odd(error)), partial(ask, "other")])
    assert found == [error] * 3
    assert worker.call(lambda: 5) == 5


def test_filters_that_cannot_be_compared_fail_their_questions_alone(tmp_path, monkeypatch):
    world = World(tmp_path / "c", [300])
    where, _ = world.where(0.5)

    def fail(self, other):
        raise MemoryError("no room to compare")

    with GpuBackend(world.catalog, SimulatedDevice) as backend:
        with monkeypatch.context() as patch:
            patch.setattr(FilterKey, "__eq__", fail)
            works = [partial(backend.apply, EVERYTHING, where=where.copy()) for _ in range(3)]
            found = asked_together(backend._worker, works)
            assert [type(one) for one in found] == [MemoryError] * 3
        assert backend.apply(EVERYTHING).total == len(world.ids)


@pytest.mark.parametrize("results", [lambda items: items[1:], lambda items: None, lambda items: 1 / 0])
def test_work_that_goes_wrong_fails_all_it_was_done_for_and_no_other(worker, results):
    works = [lambda: worker.submit("key", 1, results) for _ in range(3)] + [lambda: worker.call(lambda: 7)]
    *wrong, right = asked_together(worker, works)
    assert {type(one) for one in wrong} <= {ValueError, TypeError, ZeroDivisionError}
    assert right == 7


def test_a_lost_device_is_said_once():
    worker = DeviceWorker("test", lambda: None)

    def lose():
        raise DeviceError("the CUDA device failed: an illegal address; open the catalog again")

    first, *later = asked_together(worker, [lambda: worker.call(lose)] + [lambda: worker.call(lambda: 1)] * 3)
    assert str(first) == "the CUDA device failed: an illegal address; open the catalog again"
    for _ in range(2):
        with pytest.raises(DeviceError) as raised:
            worker.call(lambda: 1)
        later.append(raised.value)
    assert {str(one) for one in later} == {f"the device was lost: {first}"}
    worker.close()


@pytest.mark.parametrize("error", [BackendUnavailableError("faiss is missing"), DeviceMemoryError("too large")])
def test_what_is_missing_does_not_lose_the_device(worker, error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        worker.call(fail)
    assert worker.call(lambda: 5) == 5


# Its end


def test_those_who_wait_at_the_end_are_told():
    worker = DeviceWorker("test", lambda: None)
    closing = threading.Thread(target=worker.close)
    begun = threading.Event()

    def first():
        closing.start()
        begun.set()
        while not worker._closed:
            time.sleep(0.001)

    found = asked_together(
        worker, [lambda: worker.call(first), lambda: worker.call(lambda: 1), lambda: worker.call(lambda: 1)]
    )
    closing.join(20)
    assert found[0] is None
    for one in [*found[1:], *(_raised(worker) for _ in range(2))]:
        assert isinstance(one, DeviceError)
        assert "closed" in str(one)


def _raised(worker):
    with pytest.raises(DeviceError) as raised:
        worker.call(lambda: 1)
    return raised.value


def test_an_end_that_fails_hangs_nobody(caplog):
    def fail():
        raise RuntimeError("the driver is gone")

    worker = DeviceWorker("test", fail)
    worker.close()
    assert "the driver is gone" in caplog.text
    assert "closed" in str(_raised(worker))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_is_refused_instead_of_hung(worker):
    assert worker.call(lambda: 1) == 1
    child = os.fork()
    if child == 0:
        try:
            worker.call(lambda: 1)
        except DeviceError:
            os._exit(7)
        os._exit(1)
    until = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < until:
        time.sleep(0.01)
    if done[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(done[1]) == 7


def test_a_closed_backend_answers_nothing_whatever_is_resident(tmp_path):
    world = World(tmp_path / "c", [500], seed=1)
    whole = MemoryPlan.of(world.catalog, 1 << 40, 1 << 40)
    room = whole.needed - sum(whole.parts[name] for name in ("embeddings", "bits"))
    query = np.ones((1, 48), np.float32)
    questions = [
        lambda b: b.apply(EVERYTHING),
        lambda b: b.within(EVERYTHING),
        lambda b: b.search(world.codes[:1], 3, tier="codes"),
        lambda b: b.search(query, 3, tier="bits"),
        lambda b: b.search(query, 3, tier="embeddings"),
        lambda b: b.score(query[0], tier="bits"),
        lambda b: b.score(query[0], tier="embeddings"),
        lambda b: b.score(query[0], tier="embeddings", ids=world.ids[:3]),
    ]
    for memory_bytes in (1 << 40, room):
        with GpuBackend(world.catalog, partial(SimulatedDevice, memory_bytes=memory_bytes)) as backend:
            for ask in questions:
                ask(backend)
        for ask in questions:
            with pytest.raises(DeviceError, match="closed"):
                ask(backend)
