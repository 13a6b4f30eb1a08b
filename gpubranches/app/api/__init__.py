"""The API for programs, /api/v1: JSON over the same desk as the page, described by /api/v1/openapi.json.

What is wrong with a request is told as a problem (RFC 9457) under the status of the error's class.
"""

from gpubranches.app.api import marking, openapi, refining, results, searching, sessions
from gpubranches.app.api.operations import OPERATIONS, PREFIX, routes

__all__ = ["OPERATIONS", "PREFIX", "marking", "openapi", "refining", "results", "routes", "searching", "sessions"]
