"""The page and the API of one catalog, as a Flask app. Every route parses, calls the catalog service and renders.

A browser has a session: a random name in a cookie names its marks in the catalog's `labels.sqlite`, so that a reload, a
second tab or a new server process finds them again.
"""

from gpubranches.app.server import create_app, open_server, serve

__all__ = ["create_app", "open_server", "serve"]
