"""Names of `Session` that are deprecated: each warns and is removed in the next release."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gpubranches.core.results import Neighbors

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from gpubranches.retrieval.hits import Hits
    from gpubranches.service.answer import Answer


class OldNames:
    """The deprecated names. Searches return Neighbors with q = 1, as they did."""

    def ask(self, text: str, k: int = 100, **options: Any) -> Neighbors:
        """Search by a text; use `search`."""
        return self._old_search("ask", text, k, options)

    def image(self, image: Image, k: int = 100, **options: Any) -> Neighbors:
        """Search by a picture; use `search`."""
        return self._old_search("image", image, k, options)

    def like(self, item: int, k: int = 100, **options: Any) -> Neighbors:
        """Search by an item; use `search`."""
        return self._old_search("like", item, k, options)

    def vector(self, vector: NDArray[Any], k: int = 100, **options: Any) -> Neighbors:
        """Search by an embedding or a code; use `search`."""
        return self._old_search("vector", vector, k, options)

    def last(self) -> Answer:
        """Return the last answer; use `last_answer`."""
        _warn("last", "last_answer")
        return self.last_answer()

    def learnt_all(self, *, but: tuple[str, ...] = ()) -> bool:
        """Return whether the answer is up to date; use `is_up_to_date`."""
        _warn("learnt_all", "is_up_to_date")
        return self.is_up_to_date(ignoring=but)

    @property
    def min_votes(self) -> int:
        """Votes at which the boxes take an item; use `Answer.min_votes`."""
        _warn("min_votes", "last_answer().min_votes")
        return 1 if self.answer is None else self.answer.min_votes

    if TYPE_CHECKING:
        answer: Answer | None

        def search(self, query: Any, k: int = 100, *, where: str | None = None, by_codes: bool = False) -> Hits: ...  # noqa: D102
        def last_answer(self) -> Answer: ...  # noqa: D102
        def is_up_to_date(self, *, ignoring: tuple[str, ...] = ()) -> bool: ...  # noqa: D102

    def _old_search(self, name: str, query: Any, k: int, options: dict[str, Any]) -> Neighbors:
        _warn(name, "search", 4)
        hits = self.search(query, k, **options)
        ids: NDArray[np.int64] = hits.ids[None]
        return Neighbors(hits.distances[None], ids, hits.source)


def _warn(name: str, new: str, level: int = 3) -> None:
    warnings.warn(f"Session.{name} is deprecated, use Session.{new}", DeprecationWarning, stacklevel=level)
