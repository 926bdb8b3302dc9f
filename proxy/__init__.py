"""chat-proxy: any chat frontend to any model, by a file of routing rules."""

__version__ = "0.1.0"
