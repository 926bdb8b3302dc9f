"""The contracts clients speak to us, and the HTTP handler that serves them."""
