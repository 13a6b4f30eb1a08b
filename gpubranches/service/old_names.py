"""The deprecated names of `Session`: each warns, and is removed in the next release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gpubranches.core.deprecation import warn_renamed
from gpubranches.core.results import Neighbors

if TYPE_CHECKING:
    from PIL.Image import Image

    from gpubranches.retrieval.hits import Hits
    from gpubranches.service.answer import Answer


class OldNames:
    """The deprecated names. Searches return Neighbors with q = 1, as they did before."""

    def ask(self, text: str, k: int = 100, **options: Any) -> Neighbors:
        """Search by a text; use `search`."""
        warn_renamed("Session.ask", "search")
        return _neighbors(self.search(text, k, **options))

    def image(self, image: Image, k: int = 100, **options: Any) -> Neighbors:
        """Search by a picture. Use `search` instead."""
        warn_renamed("Session.image", "search")
        return _neighbors(self.search(image, k, **options))

    def like(self, item: int, k: int = 100, **options: Any) -> Neighbors:
        """Search by an item; use `search`."""
        warn_renamed("Session.like", "search")
        return _neighbors(self.search(item, k, **options))

    def vector(self, vector: NDArray[Any], k: int = 100, **options: Any) -> Neighbors:
        """Search by an embedding or a code. Use `search` instead."""
        warn_renamed("Session.vector", "search")
        return _neighbors(self.search(vector, k, **options))

    def last(self) -> Answer:
        """Return the last answer; use `last_answer`."""
        warn_renamed("Session.last", "last_answer")
        return self.last_answer()

    def learnt_all(self, *, but: tuple[str, ...] = ()) -> bool:
        """Return whether the answer is up to date. Use `is_up_to_date` instead."""
        warn_renamed("Session.learnt_all", "is_up_to_date")
        return self.is_up_to_date(ignoring=but)

    @property
    def min_votes(self) -> int:
        """Return the votes that an item needs; use `Answer.min_votes`."""
        warn_renamed("Session.min_votes", "last_answer().min_votes")
        return 1 if self.found is None else self.found.min_votes

    if TYPE_CHECKING:
        found: Answer | None

        def search(self, query: Any, k: int = 100, *, where: str | None = None, by_codes: bool = False) -> Hits: ...  # noqa: D102
        def last_answer(self) -> Answer: ...  # noqa: D102
        def is_up_to_date(self, *, ignoring: tuple[str, ...] = ()) -> bool: ...  # noqa: D102


def _neighbors(hits: Hits) -> Neighbors:
    return Neighbors(hits.distances[None], hits.ids[None], hits.source)
