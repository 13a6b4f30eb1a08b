"""The page: a Flask app over one catalog. Every route parses, calls one method of the session and renders.

A browser is a session: a random id in a cookie names its marks in the catalog's `labels.sqlite`, so a reload, a
second tab or a new server process finds them again.
"""

from gpubranches.app.server import create_app, open_server, serve

__all__ = ["create_app", "open_server", "serve"]
