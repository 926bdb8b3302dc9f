"""The contracts that clients and upstreams speak: one folder each, both directions, no I/O."""
