"""The HTTP server: listening, reading requests, writing answers."""
