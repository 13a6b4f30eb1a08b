"""What a person does with a catalog: marks, finds all, looks, and comes back to it."""

from gpubranches.service.session import Session

__all__ = ["Session"]
