"""Simulated users: which items of a first page they mark, in which order, and whether a refine gets their words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError

NEGATIVES = 20
"""The largest number of items that the user marks wrong."""

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class User:
    """How a user marks a first page.

    description: for reports; in_order: whether the user marks from the top of the page, else marks are drawn at random
    from all of it; wrong: most items marked wrong; told: whether a refine gets the words of the query.
    """

    description: str
    in_order: bool = False
    wrong: int = NEGATIVES
    told: bool = True

    def marks(self, page: Rows, right: NDArray[np.bool_], p: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Return the rows marked right, at most p, and those marked wrong.

        page: (m,) rows, best first; right: (n,) bool, the truth of all rows. A user in order draws nothing of `rng`.
        """
        good, bad = page[right[page]], page[~right[page]]
        if not self.in_order:
            good, bad = rng.permutation(good), rng.permutation(bad)
        return good[:p], bad[: self.wrong]


USERS: dict[str, User] = {
    "random": User("marks right and wrong ones drawn at random from the page"),
    "page": User("marks the first right and the first wrong ones of the page", in_order=True),
    "right-only": User(
        "marks the first right ones of the page alone, and the program is not told the words",
        in_order=True,
        wrong=0,
        told=False,
    ),
}
"""Users by their name on the command line and in the JSON."""
DEFAULT_USER = USERS["random"]


def choose_user(name: str) -> User:
    """Return the user of a name. Raises UsageError, with the known names, for another name."""
    if name not in USERS:
        raise UsageError(f"user: expected one of {', '.join(USERS)}, got {name!r}")
    return USERS[name]


def described(user: User) -> dict[str, Any]:
    """Return the name and the description of a user; the name is None for a user that is not in USERS."""
    name = next((name for name, known in USERS.items() if known == user), None)
    return {"name": name, "description": user.description}
