"""Wire formats, both directions, without I/O."""
