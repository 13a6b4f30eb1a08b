"""The API for programs, /api/v1: JSON over the same service as the page, described by /api/v1/openapi.json.

An error is answered with problem details (RFC 9457), under the status of its class.
"""

from gpubranches.app.api import marks, openapi, refine, results, search, sessions
from gpubranches.app.api.operations import OPERATIONS, PREFIX, routes

__all__ = ["OPERATIONS", "PREFIX", "marks", "openapi", "refine", "results", "routes", "search", "sessions"]
