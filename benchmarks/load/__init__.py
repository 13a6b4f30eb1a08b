"""Load on a server by many users: `users` act, `writing` changes the catalog, `watching` reads the server's memory."""
