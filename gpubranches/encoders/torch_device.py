"""Running torch models: choice of the device, half precision on a GPU, and batches that fit into its memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.protocol import BATCH_SIZE
from gpubranches.errors import DeviceMemoryError, UsageError, first_line, missing_package

GPU_BATCH_SIZE = 256
"""Pictures that a GPU embeds together if its memory is large enough."""
_log = logging.getLogger(__name__)


class TorchDevice:
    """Runs torch models on one device, one batch at a time; several threads may call it.

    name: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N". On a GPU the model runs under autocast in float16.
    From the first batch whose result is not finite, it runs in bfloat16, or in float32 on cards without bfloat16. A
    batch that does not fit into the memory is halved until it does, and later batches are no larger. torch: the
    package; batch_size: pictures to embed together; turn: a lock that is held while the model runs; hold it for other
    work that is not thread-safe. Raises UsageError for a GPU that torch cannot use, BackendUnavailableError without
    torch.
    """

    def __init__(self, name: str = "auto"):
        self.torch = torch = import_torch("the model")
        usable = torch.cuda.is_available()
        if name.startswith("cuda") and not usable:
            raise UsageError(f"device: expected cpu or auto, for torch finds no usable GPU here, got {name}")
        self.name = ("cuda" if usable else "cpu") if name == "auto" else name
        self.on_gpu = self.name.startswith("cuda")
        self.batch_size = GPU_BATCH_SIZE if self.on_gpu else BATCH_SIZE
        self._half: Any = torch.float16 if self.on_gpu else None
        self._largest: int | None = None
        self.turn = threading.Lock()

    def place(self, model: Any) -> Any:
        """Return a model in float32 on the device, for inference. Raises DeviceMemoryError if it does not fit."""
        try:
            return model.float().to(self.name).eval()
        except self.torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"{self.name}: the model does not fit the memory: {first_line(error)}; use a smaller one, or "
                "free the memory that other programs hold"
            ) from error

    def rows(self, forward: Callable[[Any], Any], batch: Mapping[str, Any]) -> NDArray[np.float32]:
        """Apply `forward` to a batch of tensors with the same first dim, m; return (m, dim) float32.

        Raises DeviceMemoryError if a single row does not fit.
        """
        size = len(next(iter(batch.values())))
        parts, start = [], 0
        while start < size:
            stop = min(size, start + (self._largest or size))
            too_large = ""
            try:
                parts.append(self._run(forward, {name: tensor[start:stop] for name, tensor in batch.items()}))
                start = stop
            except self.torch.OutOfMemoryError as error:
                too_large = first_line(error)
            if too_large:  # only here, where the error no longer holds the tensors
                self._shrink(stop - start, too_large)
        return np.concatenate(parts)

    def _shrink(self, size: int, reason: str) -> None:
        self.torch.cuda.empty_cache()
        if size == 1:
            raise DeviceMemoryError(
                f"{self.name}: one picture or text does not fit into the memory: {reason}; use a smaller model, or "
                "the CPU"
            )
        self._largest = size // 2
        _log.info(
            "%s: a batch of %d does not fit into the memory; the next batches have %d", self.name, size, self._largest
        )

    def _run(self, forward: Callable[[Any], Any], batch: Mapping[str, Any]) -> NDArray[np.float32]:
        if self.on_gpu:
            batch = {name: tensor.pin_memory() for name, tensor in batch.items()}
        with self.turn, self.torch.inference_mode():
            here = {name: tensor.to(self.name, non_blocking=self.on_gpu) for name, tensor in batch.items()}
            rows = self._autocast(forward, here)
            if self._half is self.torch.float16 and not bool(self.torch.isfinite(rows).all()):
                self._half = self.torch.bfloat16 if self.torch.cuda.is_bf16_supported() else None
                _log.info("%s: float16 overflows in this model; it now uses %s", self.name, self._half or "float32")
                rows = self._autocast(forward, here)
            result: NDArray[np.float32] = rows.cpu().numpy()
        return result

    def _autocast(self, forward: Callable[[Any], Any], batch: Mapping[str, Any]) -> Any:
        if self._half is None:
            return forward(batch).float()
        with self.torch.autocast("cuda", dtype=self._half):
            return forward(batch).float()


def import_torch(what: str) -> Any:
    """Import torch, or raise BackendUnavailableError naming the extra."""
    try:
        import torch
    except ImportError as error:
        raise missing_package(what, "torch", "clip", error=error) from error
    return torch
