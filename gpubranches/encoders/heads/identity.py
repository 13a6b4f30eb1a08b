"""The head that maps embeddings to themselves."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gpubranches.core.arrays import check_array
from gpubranches.encoders.heads.protocol import TextlessHead
from gpubranches.errors import NotFittedError, UsageError


class IdentityHead(TextlessHead):
    """Returns the embeddings as vectors, for embeddings of few dims, a multiple of 4 up to 1,024."""

    kind = "none"

    def fit(self, embeddings: NDArray[np.float32]) -> Self:
        """Learn the number of dims from embeddings, (n, D) float32. Returns self."""
        check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, None))
        return self._take(embeddings.shape[1])

    def _take(self, d: int) -> Self:
        if d % 4 or not 4 <= d <= 1024:
            raise UsageError(f"head none: expected dims of a multiple of 4 up to 1,024, got {d}; use another head")
        self.d_ = d
        return self

    def transform(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embeddings, (n, d) float32."""
        return check_array(embeddings, "embeddings", dtype=np.float32, shape=(None, self.d))

    @property
    def D(self) -> int:
        """Embedding dims, which are the code dims."""
        return self.d

    @property
    def d(self) -> int:
        """Code dims."""
        if not hasattr(self, "d_"):
            raise NotFittedError("IdentityHead: call fit before transform")
        return int(self.d_)

    @property
    def identity(self) -> str:
        """Name with the number of dims."""
        return f"none:{self.d}"

    def to_bytes(self) -> bytes:
        """Return the number of dims as safetensors."""
        content: bytes = save({"d": np.array([self.d], np.int64)}, {"kind": self.kind})
        return content

    @classmethod
    def from_tensors(cls, tensors: dict[str, Any]) -> IdentityHead:
        """Return the head from the tensors that `to_bytes` wrote. Raises UsageError for other tensors."""
        return cls()._take(int(check_array(tensors["d"], "d", dtype=np.int64, shape=(1,))[0]))
