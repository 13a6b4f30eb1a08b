"""Load on a server by many users: `users` act, `writer` changes the catalog, `process_watch` reads the server's memory."""
