"""Load on a server: `users` act, `writer` changes the catalog, `process_watch` reads the memory of the server."""
