"""What contracts share: text, JSON, SSE, errors and usage on the wire. No I/O."""
