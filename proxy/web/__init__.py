"""The page at `/`, and the data it shows."""
