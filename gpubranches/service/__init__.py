"""Work with a catalog: marks, find all, answers, and sessions that can be continued."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpubranches.service.session import Session as Session

__all__ = ["Session"]


def __getattr__(name: str) -> object:
    """Import Session when it is first used, so that `service.doctor` needs no package that it reports on."""
    if name != "Session":
        raise AttributeError(f"module 'gpubranches.service' has no attribute {name!r}")
    from gpubranches.service.session import Session

    return Session
