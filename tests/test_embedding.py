"""The pipeline of an ingest from pictures to embeddings, and models on a device with too little memory."""

from __future__ import annotations

import importlib.util
import re
import threading
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import embedding
from gpubranches.errors import DataError, DeviceMemoryError, UsageError
from gpubranches.ingestion.embedding import EmbeddingRates, decoding_threads, embed_in_order


@dataclass
class Read:
    prepared: object
    error: str | None = None


class Doubles:
    """An embedder of numbers: the row of x is (x, 2x)."""

    D = 2

    def encode(self, prepared):
        return np.array([[each, 2 * each] for each in prepared], np.float32)


def read(job):
    return Read(None, "unreadable") if job < 0 else Read(job)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-3, 1000), max_size=40), st.integers(1, 9))
def test_embeddings_come_in_the_order_of_the_jobs(jobs, batch_size):
    rates = EmbeddingRates()
    with decoding_threads(rates.decoders) as threads:
        batches = list(embed_in_order(jobs, read, Doubles(), batch_size, threads, rates))
    assert [len(batch) for batch, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    rows = np.concatenate([rows for _, rows in batches]) if batches else np.zeros((0, 2))
    assert rows.tolist() == [[max(job, 0), 2 * max(job, 0)] for job in jobs]
    assert [each.error for batch, _ in batches for each in batch] == ["unreadable" if job < 0 else None for job in jobs]
    assert (rates.decoded, rates.embedded) == (len(jobs), sum(job >= 0 for job in jobs))
    assert (rates.decoded_per_s > 0) == bool(jobs)
    assert (rates.embedded_per_s > 0) == any(job >= 0 for job in jobs)


def test_two_batches_are_on_their_way_at_a_time():
    both = threading.Barrier(2, timeout=20)

    class Waiting(Doubles):
        def encode(self, prepared):
            both.wait()
            return super().encode(prepared)

    with decoding_threads(2) as threads:
        batches = list(embed_in_order(range(16), read, Waiting(), 4, threads, EmbeddingRates()))
    assert [batch[0].prepared for batch, _ in batches] == [0, 4, 8, 12]


def test_pictures_are_decoded_a_few_batches_ahead_and_no_more_once_it_is_closed():
    begun = []

    def counted(job):
        begun.append(job)
        return Read(job)

    before = threading.active_count()
    with decoding_threads(2) as threads:
        batches = embed_in_order(range(100_000), counted, Doubles(), 4, threads, EmbeddingRates())
        next(batches)
        batches.close()
    after = len(begun)
    assert 4 <= after <= 4 * (3 + 2)
    assert threading.active_count() <= before
    assert len(begun) == after


def test_what_the_model_raises_is_raised_and_no_thread_stays():
    class Broken(Doubles):
        def encode(self, prepared):
            raise DataError("the model broke")

    before = threading.active_count()
    with pytest.raises(DataError, match="the model broke"), decoding_threads(2) as threads:
        list(embed_in_order(range(100), read, Broken(), 4, threads, EmbeddingRates()))
    assert threading.active_count() <= before


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the [clip] extra is not installed")


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_are_no_larger(torch):
    from gpubranches.encoders.torch_device import TorchDevice

    sizes = []

    def forward(batch):
        sizes.append(len(batch["x"]))
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("out of memory: tried to allocate\nmore lines")
        return batch["x"] * 2

    device = TorchDevice("cpu")
    x = torch.arange(10.0).reshape(10, 1)
    assert device.rows(forward, {"x": x}).ravel().tolist() == (2 * x).ravel().tolist()
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    sizes.clear()
    device.rows(forward, {"x": x[:5]})
    assert sizes == [2, 2, 1]

    class Large:
        def float(self):
            return self

        def to(self, name):
            raise torch.OutOfMemoryError("tried to allocate 90 GiB")

    with pytest.raises(DeviceMemoryError, match="the model does not fit the memory: tried to allocate 90 GiB"):
        device.place(Large())

    def never(batch):
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    with pytest.raises(
        DeviceMemoryError, match="one picture or text does not fit into the memory: tried to allocate 2 GiB"
    ):
        device.rows(never, {"x": x})


def test_from_the_first_overflow_of_float16_on_the_model_runs_in_another_type(torch, monkeypatch):
    from gpubranches.encoders.torch_device import TorchDevice

    device = TorchDevice("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(device, "_half", torch.float16)
    used = []

    def cast(forward, batch):
        used.append(device._half)
        return forward(batch).to(device._half).float()

    monkeypatch.setattr(device, "_autocast", cast)
    small, large = torch.ones(1, 1), torch.full((1, 1), 1e6)
    for x, value in ((small, 1.0), (large, 1e6), (small, 1.0)):
        assert device.rows(lambda batch: batch["x"], {"x": x})[0, 0] == pytest.approx(value, rel=1e-2)
    assert used == [torch.float16, torch.float16, torch.bfloat16, torch.bfloat16]


def test_a_gpu_that_is_not_there_is_refused(torch, monkeypatch):
    from gpubranches.encoders.torch_device import TorchDevice

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert TorchDevice("auto").name == "cpu"
    with pytest.raises(UsageError, match="expected cpu or auto"):
        TorchDevice("cuda")


@pytest.mark.filterwarnings("ignore")  # those of the packages that the loop uses
def test_an_ingest_and_a_bare_loop_of_open_clip_embed_alike(program):
    """The program that compares their speed also compares their numbers."""
    for package in ("torch", "open_clip"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    code, out, err = program(embedding.main, "--scenes", "6", "--repeats", "1")
    assert code == 0, err
    assert float(re.search(r"largest difference of a stored number from the loop's is (\S+);", out)[1]) < 2e-3
    assert re.search(r"\| a whole ingest \| [\d,]+ \|", out)
