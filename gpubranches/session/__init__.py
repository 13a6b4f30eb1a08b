"""What a person does with a catalog: marks, finds all, looks, and comes back to it."""

from gpubranches.session.session import Session

__all__ = ["Session"]
